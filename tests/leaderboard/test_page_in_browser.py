"""The board's page as people use it: in a headless Chromium, from a file."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from browsing import PHONE, started, window
from records_factory import add_record
from scipy import stats

from lt_bench.leaderboard import build, compare
from lt_bench.leaderboard.board import read_board
from lt_bench.leaderboard.page import Shown, assembled
from lt_bench.leaderboard.page.data import page_data

pytestmark = pytest.mark.browser

SHIPPED = Path(__file__).parents[2] / "leaderboard" / "v1"
EVIL = "</script><script>alert(1)</script>"
TABLE = "tiny-lt-if500-cifar-30ep"
COUNTS = {
    "ce": ((9, 8, 6, 5, 2, 1), (9, 9, 6, 4, 2, 0), (10, 8, 7, 5, 1, 1)),
    "cmo": ((8, 8, 7, 6, 6, 5), (9, 8, 7, 6, 5, 4), (8, 7, 7, 6, 6, 4)),
    "ldam": ((7, 7, 6, 6, 5, 5), (8, 8, 7, 6, 3, 3)),
    EVIL: ((1, 1, 1, 1, 1, 1),),
}
"""Right predictions of every class, by method and seed."""
RECIPES = {"ldam": {"model": {"backbone": "resnet32", "head": {"name": "experts"}}}}


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with started() as found:
        yield found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board of four methods and two tables, built beside its records."""
    folder = tmp_path_factory.mktemp("board")
    for name, seeds in COUNTS.items():
        for seed, correct in enumerate(seeds):
            add_record(folder / "records", recipe_name=name, seed=seed, correct=correct, recipe=RECIPES.get(name))
    add_record(folder / "records", recipe_name="ce", dataset={"name": "other-lt", "class_names": [EVIL] * 6})
    build(folder / "records", folder)
    return folder / "index.html"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(SHIPPED / "records", tmp_path_factory.mktemp("shipped"))[1]


@pytest.fixture
def opened(browser: Any, small: Path) -> Iterator[Any]:
    """The small board at a state; a later call opens another window."""
    windows: list[AbstractContextManager[Any]] = []

    def call(state: str = "", path: Path = small, **options: Any) -> Any:
        windows.append(window(browser, path, state, **options))
        return windows[-1].__enter__()

    yield call
    for one in windows:
        one.__exit__(None, None, None)


def methods(page: Any) -> list[str]:
    return page.locator("tbody .method .open").all_inner_texts()


def column(page: Any, number: int) -> list[str]:
    """The cells of a column, counted from 1, of all rows of methods."""
    return page.locator(f"tbody tr[id^=row-] > :nth-child({number})").all_inner_texts()


def open_button(page: Any, method: str) -> Any:
    return page.get_by_role("button", name=method, exact=True)


def test_rows_are_sorted_by_a_click_on_the_head(opened: Any) -> None:
    page = opened("columns=method,top1,few,seconds")
    assert methods(page) == ["cmo", "ldam", "ce", EVIL]
    page.get_by_role("button", name="Few", exact=True).click()
    few = [float(text) for text in column(page, 4)]
    assert few == sorted(few, reverse=True)
    assert page.get_by_role("columnheader", name="Few").get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="Few", exact=True).click()
    assert [float(text) for text in column(page, 4)] == sorted(few)
    assert page.locator("[aria-sort]").count() == 1


def test_numbers_are_those_of_the_tables(opened: Any, small: Path) -> None:
    page = opened("columns=rank,method,top1,many,medium,few")
    table = small.parent / "tables" / f"{TABLE}.csv"
    expected = list(csv.DictReader(io.StringIO(table.read_text())))
    for place, row in enumerate(expected):
        ranks = "–".join(dict.fromkeys((row["rank_best"], row["rank_worst"]))) or "–"
        half = f" ± {float(row['top1_interval']):.2f}" if row["top1_interval"] else ""
        groups = [f"{float(row[name]):.2f}" for name in ("many", "medium", "few")]
        cells = [column(page, number)[place] for number in range(2, 8)]
        assert cells == [ranks, row["method"], f"{float(row['top1']):.2f}{half}", *groups]


def test_search_and_filters_leave_what_fits(opened: Any) -> None:
    page = opened()
    page.get_by_role("searchbox").fill("ld experts")
    assert methods(page) == ["ldam"]
    page.get_by_role("searchbox").fill("")
    page.locator(".more summary", has_text="More filters").click()
    page.get_by_label("Seeds from").fill("3")
    assert methods(page) == ["cmo", "ce"]
    page.get_by_label("Seconds up to").fill("12")
    assert "No method passes these filters" in page.locator("main").inner_text()
    page.get_by_role("button", name="Reset").click()
    assert len(methods(page)) == 4
    page.get_by_role("combobox", name="Network").select_option("resnet32 + experts")
    assert methods(page) == ["ldam"]
    page.get_by_role("combobox", name="Data set").select_option("other-lt")
    assert methods(page) == ["ce"]
    assert "1 of 5 methods, 1 run, 1 table" in page.locator("#count").inner_text()
    page.get_by_role("combobox", name="Data set").select_option("all")
    assert page.locator("tr.group").all_inner_texts() == [
        f"{name}, factor 500: cifar-30ep {text}, 60 test images"
        for name, text in (("other-lt", "1 method"), ("tiny-lt", "4 methods"))
    ]


def test_a_row_opens_to_what_stands_behind_it(opened: Any, small: Path) -> None:
    page = opened()
    open_button(page, "cmo").click()
    details = page.get_by_role("article", name="Details of cmo")
    titles = details.get_by_role("heading").all_inner_texts()
    assert titles == [
        "Accuracy by class", "Groups", "Seeds", "Reliability", "Curve", "The paper's figures", "To repeat it", "Runs",
    ]  # fmt: skip
    assert details.locator("svg.chart").count() == 5
    assert open_button(page, "cmo").get_attribute("aria-expanded") == "true"
    for seed, link in enumerate(details.locator("td a").all()):
        record = small.parent / str(link.get_attribute("href"))
        assert json.loads(record.read_text())["seed"] == seed
    assert "torch 2.9.0" in details.inner_text()
    open_button(page, "cmo").click()
    assert details.count() == 0


def test_the_cursor_reads_every_class_to_a_screen_reader(opened: Any) -> None:
    page = opened()
    open_button(page, "cmo").click()
    slider = page.get_by_role("slider", name="Accuracy by class of cmo and ce")
    slider.focus()
    for key in ("End", "ArrowLeft"):
        page.keyboard.press(key)
    assert slider.get_attribute("aria-valuetext") == "class 4, 19 training images: cmo 56.7 %, ce 16.7 %"
    assert page.locator(".readout").first.inner_text() == slider.get_attribute("aria-valuetext")


def test_two_rows_are_compared_as_the_command_compares_them(opened: Any, small: Path) -> None:
    page = opened()
    for name in ("ce", "cmo"):
        page.get_by_label(f"Pin {name}").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    expected = compare(small.parent / "records", "ce", "cmo", TABLE)
    assert page.locator(".verdict").inner_text() == expected.verdict
    lines = [line.split("\t") for line in page.locator(".versus table").inner_text().splitlines() if "±" in line]
    assert len(lines) == len(expected.differences)
    for line, one in zip(lines, expected.differences, strict=True):
        figures = [float(text.strip("± ").replace("−", "-")) for text in line[1:5]]
        assert figures == pytest.approx([one.first, one.second, one.difference, one.over_seeds], abs=0.006)
    gains = [second - first for first, second in zip(top1("ce"), top1("cmo"), strict=True)]
    assert float(lines[0][5]) == pytest.approx(stats.ttest_1samp(gains, 0).pvalue, abs=0.0006)
    assert page.get_by_role("heading", name="Two against each other").is_visible()


def test_without_pins_the_plain_row_and_the_best_are_compared(opened: Any) -> None:
    page = opened("view=compare")
    chosen = [page.locator(f"#compare-{name} option:checked").inner_text() for name in "ab"]
    assert chosen == ["ce", "cmo"]
    page.get_by_role("combobox", name="First").select_option(label="ldam")
    assert page.locator(".versus caption").inner_text().startswith("Second minus first, seed by seed over 2 common")
    page.get_by_role("combobox", name="Second").select_option(label=EVIL)
    assert page.locator(".verdict").inner_text() == "One common seed says nothing about another training."
    assert "60 test images: −50.00 ± at most" in page.locator("#over-images").inner_text()


def top1(method: str) -> list[float]:
    return [100 * sum(correct) / 60 for correct in COUNTS[method]]


def test_at_most_four_rows_are_pinned(opened: Any) -> None:
    page = opened("data=all")
    for box in page.get_by_role("checkbox", name="Pin").all()[:4]:
        box.check()
    assert page.locator("tbody.pinned tr[id^=row-]").count() == 4
    assert page.get_by_role("checkbox", name="Pin").last.is_disabled()


def test_the_statistics_are_those_of_scipy(opened: Any) -> None:
    page = opened()
    freedoms = [1, 2, 3, 4, 5, 9, 29, 100]
    quantiles = page.evaluate("(all) => all.map(quantileT)", freedoms)
    assert quantiles == pytest.approx([stats.t.ppf(0.975, freedom) for freedom in freedoms], rel=1e-6)
    within = page.evaluate("(all) => all.map((freedom) => withinT(1.7, freedom))", freedoms)
    assert within == pytest.approx([1 - 2 * stats.t.sf(1.7, freedom) for freedom in freedoms], rel=1e-9)


def test_a_view_is_its_address(opened: Any) -> None:
    first = opened()
    first.get_by_role("combobox", name="Data set").select_option("all")
    first.get_by_role("button", name="ECE", exact=True).click()
    first.locator(".more summary", has_text="Columns").click()
    first.locator("#column-gap").uncheck()
    first.get_by_label("Pin ldam").check()
    open_button(first, "cmo").click()
    second = opened(first.url.partition("#")[2])
    assert second.locator("#main").inner_text() == first.locator("#main").inner_text()
    first.go_back()
    assert first.get_by_role("article").count() == 0
    # What an address of another board names is left out.
    assert len(methods(opened("pin=0123456789&sort=nothing&view=nowhere&columns=gap,toString&x=y"))) == 4


def test_csv_is_what_is_shown(opened: Any) -> None:
    page = opened("columns=method,top1,few&sort=few&seeds=2")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV").click()
    found = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text())))
    assert [row["method"] for row in found] == methods(page) == ["ce", "ldam", "cmo"]
    assert list(found[0]) == ["table", "method", "top1", "top1_interval", "few"]
    assert float(found[2]["few"]) == pytest.approx(50.0)
    assert page.evaluate('csvCell("=1+1")') == "'=1+1"
    assert page.evaluate("""csvCell('a,"b"')""") == '"a,""b"""'


@pytest.mark.parametrize("view", ["table", "classes", "compare", "plot"])
def test_names_are_text_whatever_they_are(view: str, opened: Any) -> None:
    page = opened(f"data=all&view={view}")
    assert EVIL in page.locator("main").inner_text() or page.locator(f'[aria-label*="{EVIL}"]').count()
    assert page.locator("script").count() == 2  # the page's own: its data and its script


def test_a_point_of_a_plot_is_picked(opened: Any) -> None:
    page = opened("view=plot")
    page.get_by_role("button", name="Head against tail").click()
    point = page.get_by_role("button", name="ldam: Few")
    point.focus()
    page.keyboard.press("Enter")
    picked = page.locator(".picked")
    assert picked.inner_text().startswith("ldam Few 40.00, Many 75.00; cpu, 2 seeds, rank ")
    assert opened(page.url.partition("#")[2]).locator(".picked").inner_text() == picked.inner_text()
    picked.get_by_role("button", name="Pin").click()
    assert page.get_by_role("tab", name="Compare (1)").is_visible()
    page.locator(".picked").get_by_role("button", name="Open").click()
    assert page.get_by_role("article", name="Details of ldam").is_visible()


def test_everything_is_reached_by_the_keyboard(opened: Any) -> None:
    page = opened()
    press = page.keyboard.press
    press("Tab")
    press("Enter")  # skips to the results
    assert page.evaluate("document.activeElement.id") == "main"
    press("/")
    page.keyboard.type("cmo")
    assert methods(page) == ["cmo"]
    tab_to(page, "open-")
    press("Enter")
    assert page.get_by_role("article", name="Details of cmo").is_visible()
    assert page.evaluate("document.activeElement.id").startswith("open-")  # focus stays where it was
    page.get_by_role("tab", name="Table").focus()
    press("ArrowRight")
    assert page.get_by_role("tab", name="Classes").get_attribute("aria-selected") == "true"
    tab_to(page, "cell-")
    press("Tab")
    press("ArrowRight")
    assert page.locator("#matrix-readout").inner_text() == "cmo, class 1, 101 training images: 76.7 %"


def tab_to(page: Any, start: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id").startswith(start):
            return
    raise AssertionError(f"no Tab leads to {start}")


def test_arrows_walk_the_matrix(opened: Any) -> None:
    page = opened("view=classes")
    page.get_by_role("slider").first.focus()
    for key in ("End", "ArrowDown", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.locator("#matrix-readout").inner_text() == "ce, class 4, 19 training images: 16.7 %"
    assert page.locator(".cells[tabindex='0']").count() == 1


def test_heads_have_hints_for_pointer_and_focus(opened: Any) -> None:
    page = opened()
    head = page.get_by_role("button", name="ECE", exact=True)
    for show in (head.hover, head.focus):
        page.mouse.move(0, 0)
        show()
        assert "calibration error" in page.get_by_role("tooltip").inner_text()
        assert head.get_attribute("aria-describedby") == "hint"
    page.keyboard.press("Escape")
    assert page.get_by_role("tooltip").count() == 0


def luminance(page: Any) -> float:
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) / 3


def test_dark_by_the_system_and_white_for_a_paper(opened: Any) -> None:
    page = opened(dark=True)
    assert luminance(page) < 40
    page.get_by_role("button", name="Paper view").click()
    assert luminance(page) == 255
    assert not page.locator("#controls, .masthead, footer").filter(visible=True).count()
    assert not page.get_by_role("checkbox").count()
    page.keyboard.press("Escape")
    assert luminance(page) < 40
    page.emulate_media(media="print")
    assert luminance(page) == 255
    assert not page.locator("#controls").is_visible()


@pytest.mark.parametrize("view", ["table", "classes", "compare", "plot"])
def test_a_phone_shows_it_without_scrolling_sideways(view: str, opened: Any, shipped: Path) -> None:
    page = opened(f"view={view}", shipped, viewport=PHONE)
    if view == "table":
        page.locator("tbody .open").first.click()
    page.wait_for_selector("#view")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_table_that_is_too_wide_scrolls_in_its_box(opened: Any, shipped: Path) -> None:
    columns = "rank,method,n,top1,many,medium,few,ece"  # not all: what a machine's fonts take differs
    page = opened(f"data=all&factor=all&protocol=all&columns={columns}", shipped)
    for width, fits in ((1600, True), (660, False), (1600, True)):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_selector(f".scroller{'.fits' if fits else ':not(.fits)'}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_two_thousand_rows(opened: Any, small: Path, tmp_path: Path) -> None:
    board = read_board(small.parent / "records")
    data = page_data([Shown("table", "a table", "", table) for table in board.tables], board, None)
    rows = [row for row in data["rows"] if row["table"] == 1]
    many = []
    for k in range(2000):
        row = copy.copy(rows[k % len(rows)])
        row.update(id=f"row{k}", method=f"method {k}", means={**row["means"], "top1": k / 20})
        many.append(row)
    path = tmp_path / "index.html"
    path.write_text(assembled({**data, "rows": many, "tables": [{**one, "squares": ""} for one in data["tables"]]}))
    page = opened("data=all&factor=all&protocol=all", path)
    assert len(methods(page)) == 200
    assert methods(page)[0] == "method 1999"
    assert page.locator("#further").inner_text() == "Show 400 more of 1,800"
    page.locator("#further").scroll_into_view_if_needed()  # the end comes near, and with it more rows
    page.locator("tr[id^=row-]").nth(599).wait_for()
    page.get_by_role("searchbox").fill("method 77")
    assert len(methods(page)) == sum("77" in str(k) for k in range(2000))
    assert page.evaluate("tableLines().length") == len(methods(page))
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("tab", name="Plot").click()
    assert page.locator(".point").count() == 2000


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(dark: bool, opened: Any, shipped: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: pip install 'lt-bench[dev]'")
    page = opened("q=mixup", shipped, dark=dark, bypass_csp=True)
    for box in page.get_by_role("checkbox", name="Pin").all()[:2]:
        box.check()
    page.locator("tbody .open").first.click()
    for view in ("Table", "Classes", "Compare (2)", "Plot"):
        page.get_by_role("tab", name=view).click()
        found = axe.Axe().run(page).response["violations"]
        assert not [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


def test_the_page_itself_refuses_what_lies_elsewhere(browser: Any, small: Path) -> None:
    """That none of the other tests makes the page ask for anything is held by `window`."""
    page = browser.new_page()
    page.goto(small.as_uri())
    refused = page.evaluate("""() => new Promise((done) => {
        document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
        document.body.append(Object.assign(new Image(), { src: "https://example.org/image.png" }));
    })""")
    assert refused == "img-src"
    page.close()
