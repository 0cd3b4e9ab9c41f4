from __future__ import annotations

import csv
import errno
import io
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from records_factory import add_record, digest
from rich.console import Console

from lt_bench.errors import UserError
from lt_bench.evaluation.significance import mean_interval
from lt_bench.leaderboard import build, check, load_record, print_tables
from lt_bench.leaderboard.board import MARK, render
from lt_bench.recipe import load_recipe
from lt_bench.recipe.overrides import split_arguments

SHIPPED = Path(__file__).parents[2] / "leaderboard" / "v1"

A, B, C = (10, 9, 8, 7, 6, 5), (9, 8, 7, 6, 5, 4), (2, 2, 2, 2, 2, 2)


def rows(records: Path, table: str = "tiny-lt-if500-cifar-30ep") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render(records)[f"tables/{table}.csv"].decode())))


def page(records: Path, table: str = "tiny-lt-if500-cifar-30ep") -> str:
    return render(records)[f"tables/{table}.md"].decode()


def cells(records: Path, method: str) -> dict[str, str]:
    """The cells of one method in the Markdown table, by column title."""
    lines = [line.strip("| ").split(" | ") for line in page(records).splitlines() if line.startswith("|")]
    titles = [title.strip(" ↑↓") for title in lines[0]]
    named = {re.sub(r"^\[(.*)\]\(.*\)$", r"\1", line[titles.index("Method")]): line for line in lines}
    return dict(zip(titles, named[method], strict=True))


def tables(records: Path) -> list[str]:
    return [name for name in render(records) if name.endswith(".md") and name != "README.md"]


def test_a_row_by_hand(tmp_path: Path) -> None:
    for seed, correct in enumerate([(9, 8, 7, 6, 5, 4), (9, 8, 7, 6, 5, 7)]):
        add_record(tmp_path, seed=seed, correct=correct, best=(9, 9, 7, 6, 5, 7))
    (row,) = rows(tmp_path)
    top1 = [100 * 39 / 60, 100 * 42 / 60]
    expected = {
        "n": 2,
        "top1": sum(top1) / 2,
        "top1_interval": mean_interval(top1)[1],
        "many": 85.0,
        "medium": 65.0,
        "few": (45.0 + 60.0) / 2,
        "worst_class": (40.0 + 50.0) / 2,
        "ece": (75 - top1[0] + 75 - top1[1]) / 2,
        "best_on_test": 100 * 43 / 60,
        "gap": 100 * (4 + 1) / 60 / 2,
    }
    assert {name: float(row[name]) for name in expected} == pytest.approx(expected)
    assert row["best_on_val"] == row["paper_top1"] == row["verified"] == ""
    assert cells(tmp_path, "ce")["Top-1"] == f"67.50 ± {mean_interval(top1)[1]:.2f}"
    assert cells(tmp_path, "ce")["Best on test − last"] == "4.17"


def test_heading_says_what_the_numbers_are_of(tmp_path: Path) -> None:
    add_record(tmp_path, dataset={"name": "cifar10-lt", "factor": 100.0})
    lines = page(tmp_path, "cifar10-lt-if100-cifar-30ep").splitlines()
    assert lines[2] == "# cifar10-lt, factor 100: cifar-30ep"
    for part in (
        "factor 100",
        "exponential",
        digest("index")[:12],
        "cifar-30ep version 9",
        "60 test images",
        "last epoch",
    ):
        assert part in lines[4]


def test_a_balanced_set_has_a_table_of_its_own_without_groups(tmp_path: Path) -> None:
    balanced = {"name": "cifar10", "factor": 1.0, "train_counts": [500] * 6, "index_sha256": digest("balanced")}
    add_record(tmp_path, dataset={"name": "cifar10-lt", "factor": 100.0})
    add_record(tmp_path, dataset=balanced)
    lines = page(tmp_path, "cifar10-if1-cifar-30ep").splitlines()
    assert lines[2] == "# cifar10, balanced: cifar-30ep"
    assert "balanced, 500 to 500 training images a class" in lines[4]
    assert not any(group in "\n".join(lines[:8]) for group in ("Many", "Medium", "Few"))
    assert "Many" in page(tmp_path, "cifar10-lt-if100-cifar-30ep")


def test_ranking_ignores_the_best_epoch_on_test(tmp_path: Path) -> None:
    add_record(tmp_path, recipe_name="steady", correct=B)
    add_record(tmp_path, recipe_name="lucky", correct=C, best=(10,) * 6)
    assert [row["method"] for row in rows(tmp_path)] == ["steady", "lucky"]


def test_one_seed_ranks_nothing(tmp_path: Path) -> None:
    add_record(tmp_path, recipe_name="single", correct=A)
    for seed in range(3):
        add_record(tmp_path, recipe_name="triple", seed=seed, correct=(9, 8, 7, 6, 5, 4 + seed))
    assert cells(tmp_path, "single")["Rank"] == "–"
    assert cells(tmp_path, "single")["Top-1"] == "75.00"
    assert cells(tmp_path, "triple")["Rank"] == "1"
    assert [row["rank_best"] for row in rows(tmp_path)] == ["", "1"]


def test_methods_that_cannot_be_told_apart_share_their_ranks(tmp_path: Path) -> None:
    for seed in range(3):
        add_record(tmp_path, recipe_name="first", seed=seed, correct=(9, 8, 7, 6, 5, 5 + seed))
        add_record(tmp_path, recipe_name="second", seed=seed, correct=(9, 8, 7, 6, 5, 6 - seed))
        add_record(tmp_path, recipe_name="third", seed=seed, correct=(2, 2, 2, 2, 2, 2 + seed))
    assert [cells(tmp_path, name)["Rank"] for name in ("first", "second", "third")] == ["1–2", "1–2", "3"]


def test_luck_of_a_seed_that_all_methods_share_does_not_blur_their_ranks(tmp_path: Path) -> None:
    for seed, luck in enumerate((0, 9, 3)):
        add_record(tmp_path, recipe_name="better", seed=seed, correct=(luck, 8, 7, 6, 5, 6 + seed % 2))
        add_record(tmp_path, recipe_name="worse", seed=seed, correct=(luck, 8, 7, 6, 5, 4))
    better, worse = rows(tmp_path)
    assert float(better["top1"]) - float(worse["top1"]) < float(worse["top1_interval"])  # the intervals overlap
    assert [row["rank_best"] + row["rank_worst"] for row in (better, worse)] == ["11", "22"]


def test_methods_without_common_seeds_are_not_told_apart(tmp_path: Path) -> None:
    for seed in range(2):
        add_record(tmp_path, recipe_name="high", seed=seed, correct=(9, 9, 9, 9, 9, 9 + seed))
        add_record(tmp_path, recipe_name="low", seed=seed + 1, correct=(1, 1, 1, 1, 1, 1 + seed))
    assert [cells(tmp_path, name)["Rank"] for name in ("high", "low")] == ["1–2", "1–2"]


def test_latest_revision_counts_and_a_seed_counts_once(tmp_path: Path) -> None:
    add_record(tmp_path, correct=C)
    add_record(tmp_path, correct=A, created="2026-06-01T00:00:00Z")
    add_record(tmp_path, correct=B, created="2026-04-01T00:00:00Z", dataset={"split_sha256": digest("another flip")})
    (row,) = rows(tmp_path)
    assert (row["n"], float(row["top1"])) == ("1", 75.0)


def test_a_run_by_a_faulty_revision_is_shown_but_not_ranked(tmp_path: Path) -> None:
    figure = {"paper": "A paper", "protocol": "cifar-30ep", "top1": 70.0}
    for seed in range(2):
        for method, correct in ({"name": "glmc"}, A), ({"name": "glmc", "revision": 2}, B):
            add_record(
                tmp_path,
                recipe_name="glmc",
                seed=seed,
                correct=(*correct[:5], seed),
                recipe={"method": method, "reported": [figure]},
            )
        add_record(tmp_path, recipe_name="ce", seed=seed, correct=C)
    assert [row["method"] for row in rows(tmp_path)] == ["glmc (superseded)", "glmc", "ce"]
    assert [row["rank_best"] + row["rank_worst"] for row in rows(tmp_path)] == ["", "11", "22"]
    assert [row["paper_top1"] for row in rows(tmp_path)] == ["", "70.0", ""]
    assert "| – | [glmc (superseded)](https://arxiv.org/abs/2305.08661) |" in page(tmp_path)
    reason = "the CutMix box was one pixel too large where its side is an odd number of pixels"
    line = f"glmc (superseded): not ranked. glmc: {reason} (corrected on 2026-11-28)."
    assert f"- {line}\n" in page(tmp_path)
    console = Console(width=200, record=True)
    print_tables(tmp_path, console)
    assert line in " ".join(console.export_text().split())


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": {"factor": 10.0}},
        {"dataset": {"profile": "step"}},
        {"dataset": {"subset_seed": 1}},
        {"dataset": {"version": 2}},
        {"dataset": {"index_sha256": digest("another split")}},
        {"dataset": {"content_sha256": digest("another order of the archive")}},
        {"dataset": {"test_sha256": digest("another test set")}},
        {"protocol": {"name": "cifar-200ep"}},
        {"protocol": {"version": 2}},
        {"protocol": {"modified": True}},
        {"protocol": {"batch_size": 64}},  # settings changed under one version
    ],
    ids=str,
)
def test_what_cannot_be_compared_never_shares_a_table(change: dict[str, Any], tmp_path: Path) -> None:
    add_record(tmp_path, seed=0)
    add_record(tmp_path, seed=1, **change)
    found = tables(tmp_path)
    assert len(found) == len(set(found)) == 2
    for name in found:
        assert len(rows(tmp_path, Path(name).stem)) == 1
        assert name in render(tmp_path)["README.md"].decode()


def test_a_modified_protocol_says_so(tmp_path: Path) -> None:
    add_record(tmp_path, protocol={"modified": True}, overrides=("protocol.epochs=5",))
    (name,) = tables(tmp_path)
    assert "-modified-" in name
    assert "# tiny-lt, factor 500: cifar-30ep (modified)" in page(tmp_path, Path(name).stem)


def test_overrides_make_another_method(tmp_path: Path) -> None:
    add_record(tmp_path, recipe_name="cmo", overrides=("mix.probability=0.25", "loss=ldam"), correct=A)
    add_record(tmp_path, recipe_name="cmo", correct=B)
    assert [row["method"] for row in rows(tmp_path)] == ["cmo (mix.probability=0.25, loss=ldam)", "cmo"]


def test_two_recipes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    add_record(tmp_path, correct=A)
    edited = load_record(add_record(tmp_path, correct=B, recipe={"mix": {"name": "edited"}}))
    assert rows(tmp_path)[1]["method"] == f"ce [{edited.recipe_sha256[:8]}]"


def reported(**fields: Any) -> list[Any]:
    return [{"paper": "Someone | 2020", "top1": 60, "protocol": "cifar-30ep", "verified": True} | fields]


def test_paper_figure_of_the_same_protocol_is_compared(tmp_path: Path) -> None:
    figures = [{"paper": "elsewhere", "top1": 99.0, "protocol": "cifar-200ep"}, *reported(factor=500.0)]
    add_record(tmp_path, reported=figures)
    (row,) = rows(tmp_path)
    assert (row["paper"], float(row["paper_top1"]), float(row["difference"])) == ("Someone | 2020", 60, 5.0)
    found = cells(tmp_path, "ce")
    assert (found["Paper"], found["Difference"], found["Figure seen"]) == ("60.00", "+5.00", "yes")
    assert "- ce: Someone \\| 2020" in page(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"reported": reported(protocol="cifar-200ep")},
        {"reported": [{"paper": "no protocol named", "top1": 60}]},
        {"reported": reported(top1=None)},
        {"reported": reported(top1="60")},
        {"reported": reported(top1=float("nan"))},
        {"reported": "60.0"},
        {"reported": [60.0]},
        {"reported": reported(), "overrides": ("mix.probability=0.25",)},
        {"reported": reported(factor=100.0)},
        {"reported": reported(), "protocol": {"modified": True}},
    ],
    ids=str,
)
def test_any_other_figure_is_not_compared(change: dict[str, Any], tmp_path: Path) -> None:
    add_record(tmp_path, **change)
    (name,) = tables(tmp_path)
    (row,) = rows(tmp_path, Path(name).stem)
    assert row["paper"] == row["paper_top1"] == row["difference"] == row["verified"] == ""


def test_an_empty_group_has_no_column_and_no_value(tmp_path: Path) -> None:
    add_record(tmp_path, dataset={"train_counts": [500, 400, 300, 200, 150, 101]})
    assert rows(tmp_path)[0]["few"] == ""
    assert "Few" not in cells(tmp_path, "ce")


def test_balanced_accuracy_is_shown_where_it_differs(tmp_path: Path) -> None:
    add_record(tmp_path)
    assert "Balanced" not in cells(tmp_path, "ce")
    shutil.rmtree(tmp_path)
    add_record(tmp_path, correct=(30, 0), total=(30, 10))
    assert (cells(tmp_path, "ce")["Top-1"], cells(tmp_path, "ce")["Balanced"]) == ("75.00", "50.00")


HOSTILE_NAME = "<script>alert(1)</script> | `x` [a](b) [red]*_&"


def test_a_name_cannot_become_markup(tmp_path: Path) -> None:
    add_record(tmp_path, recipe_name=HOSTILE_NAME)
    text = page(tmp_path)
    row = next(line for line in text.splitlines() if "script" in line)
    assert "<script>" not in text
    assert row.startswith(r"| – | &lt;script&gt;alert(1)&lt;/script&gt; \| \`x\` \[a\](b) \[red\]\*\_&amp; | 1 |")
    assert rows(tmp_path)[0]["method"] == HOSTILE_NAME


PAPERS = ["one\nline", "one\r\nline", "one\u2028line", "one\u202eline", "one\x1b[2Jline", "one\x85line", "one\tline"]


@pytest.mark.parametrize("paper", PAPERS, ids=ascii)
def test_text_stays_on_its_line(paper: str, tmp_path: Path) -> None:
    add_record(tmp_path, reported=reported(paper=paper + "\n# Injected"))
    text = page(tmp_path)
    assert not any(line.startswith("# Injected") for line in text.splitlines())
    assert sum(line.startswith("- ce: one ") for line in text.split("\n")) == 1
    assert not set("\x1b\x85\t\r\u2028\u202e") & set(text)
    assert len(render(tmp_path)["tables/tiny-lt-if500-cifar-30ep.csv"].splitlines()) == 2


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", " =1"])
def test_no_cell_is_a_formula(name: str, tmp_path: Path) -> None:
    add_record(tmp_path, recipe_name=name, reported=reported(paper=name, top1=99.0))
    (row,) = rows(tmp_path)
    assert (row["method"], row["paper"]) == (f"'{name}", f"'{name}")
    assert float(row["difference"]) == -34.0


def test_terminal_tables_show_names_literally(tmp_path: Path) -> None:
    add_record(tmp_path, recipe_name="[red]ce[/red]")
    console = Console(file=io.StringIO(), width=200)
    print_tables(tmp_path, console)
    shown = console.file.getvalue()
    assert "[red]ce[/red]" in shown
    assert "65.00" in shown
    assert "tiny-lt, factor 500: cifar-30ep" in shown


def test_a_narrow_terminal_loses_columns_not_digits(tmp_path: Path) -> None:
    for seed in range(2):
        add_record(tmp_path, recipe_name="class-distance-mix", seed=seed, best=A)
    console = Console(file=io.StringIO(), width=60)
    print_tables(tmp_path, console)
    shown = console.file.getvalue()
    assert " ".join(shown.split()).count("class-distance-mix 2 65.00 ± 0.00") == 1
    table, named = shown.split("Left out for a width of 60: ")
    assert ("Best on test" in table, "Best on test − last" in " ".join(named.split())) == (False, True)


def fill(folder: Path, order: list[int]) -> None:
    for i in order:
        add_record(
            folder, recipe_name=f"method-{i % 4}", seed=i // 4, correct=(9, 8, 7, 6, 5, i % 8), reported=reported()
        )


def test_board_is_a_pure_function_of_the_records(tmp_path: Path) -> None:
    fill(tmp_path / "a", list(range(12)))
    fill(tmp_path / "b", list(range(11, -1, -1)))
    assert render(tmp_path / "a") == render(tmp_path / "b")
    # Where a record lies does not matter to the tables either; the page tells it.
    for path in sorted((tmp_path / "b").rglob("seed*")):
        path.rename(tmp_path / "b" / path.name)
    one, other = render(tmp_path / "a"), render(tmp_path / "b")
    assert {name for name in one if one[name] != other[name]} == {"index.html"}
    first, second = (build(tmp_path / "a", tmp_path / out) for out in ("one", "two"))
    assert [path.relative_to(tmp_path / "one") for path in first] == [p.relative_to(tmp_path / "two") for p in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert not any(b"\r" in path.read_bytes() for path in first)


def test_check_names_what_build_would_change(tmp_path: Path) -> None:
    records, out = tmp_path / "records", tmp_path / "out"
    add_record(records)
    add_record(records, protocol={"name": "cifar-200ep"})
    built = build(records, out)
    assert check(records, out) == []
    add_record(records, recipe_name="another")
    changed = check(records, out)
    assert {path.name for path in changed} == {
        "README.md",
        "index.html",
        "tiny-lt-if500-cifar-30ep.md",
        "tiny-lt-if500-cifar-30ep.csv",
    }
    assert set(changed) < set(built)
    build(records, out)
    assert check(records, out) == []


def test_a_table_without_records_goes_and_other_files_stay(tmp_path: Path) -> None:
    records, out = tmp_path / "records", tmp_path / "out"
    add_record(records)
    gone = add_record(records, protocol={"name": "cifar-200ep"})
    build(records, out)
    (out / "tables" / "notes.md").write_text("written by hand")
    shutil.rmtree(gone.parents[1])
    stale = [out / "tables" / f"tiny-lt-if500-cifar-200ep.{kind}" for kind in ("md", "csv")]
    assert set(stale) < set(check(records, out))
    build(records, out)
    assert not any(path.exists() for path in stale)
    assert (out / "tables" / "notes.md").exists()
    assert check(records, out) == []


@pytest.mark.parametrize("name", ["README.md", "index.html"])
def test_a_page_of_somebody_else_is_not_overwritten(name: str, tmp_path: Path) -> None:
    add_record(tmp_path / "records")
    (tmp_path / name).write_text("# My project\n")
    with pytest.raises(UserError, match="not made by this command"):
        build(tmp_path / "records", tmp_path)
    assert (tmp_path / name).read_text() == "# My project\n"


@pytest.mark.parametrize("cut", [0, 1, 40, len(MARK)])
@pytest.mark.parametrize("name", ["README.md", "index.html"])
def test_a_page_that_was_cut_is_made_again(name: str, cut: int, tmp_path: Path) -> None:
    add_record(tmp_path / "records")
    build(tmp_path / "records", tmp_path)
    page = tmp_path / name
    whole = page.read_bytes()
    page.write_bytes(whole[:cut])
    assert check(tmp_path / "records", tmp_path) == [page]
    build(tmp_path / "records", tmp_path)
    assert page.read_bytes() == whole


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_a_full_disk_leaves_the_board_that_was_there(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the four files it is that finds no room."""
    records, out = tmp_path / "records", tmp_path / "out"
    add_record(records)
    before = {path: path.read_bytes() for path in build(records, out)}
    add_record(records, recipe_name="another")
    written = []

    def fsync(file: int) -> None:
        written.append(file)
        if len(written) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(UserError) as error:
            build(records, out)
    assert str(error.value) == f"{out}: the board could not be written: No space left on device"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != ".lock"} == before
    build(records, out)
    assert check(records, out) == []


def test_what_has_not_changed_is_not_written(tmp_path: Path) -> None:
    records, out = tmp_path / "records", tmp_path / "out"
    add_record(records)
    before = {path: path.stat().st_ino for path in build(records, out)}
    assert {path: path.stat().st_ino for path in build(records, out)} == before


def test_no_records_is_an_empty_board(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    index, page = build(tmp_path / "records", tmp_path / "out")
    assert "no records yet" in index.read_text()
    assert '"rows":[]' in page.read_text()


# --- back from a row to the command ------------------------------------------------------------------


def test_the_command_of_a_row_gives_its_recipe() -> None:
    """Every command of the shipped board leads to the recipe that the row's records have.

    But for those that name a teacher's weights, which somebody has to train first.
    """
    commands = 0
    for page in sorted((SHIPPED / "tables").glob("*.csv")):
        with page.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["command"] and "mix.teacher=" not in row["command"]:
                    words = shlex.split(row["command"])
                    assert words[:2] == ["lt-bench", "run"]
                    assert words[-2:] == ["--seeds", row["seeds"].replace(" ", ",")]
                    (name,), overrides = split_arguments(words[2:-2])
                    assert load_recipe(name, overrides).sha256() == row["recipe_sha256"], row["command"]
                    commands += 1
    assert commands > 100


def test_what_no_command_repeats_says_so(tmp_path: Path) -> None:
    add_record(tmp_path, protocol={"modified": True})
    (name,) = tables(tmp_path)
    assert ": its records" in render(tmp_path)[name].decode()


def test_a_method_s_name_leads_to_its_paper(tmp_path: Path) -> None:
    add_record(tmp_path, recipe_name="cmo", overrides=("mix.a=](x)[`|",))
    add_record(tmp_path, recipe_name="cmo", recipe={"plugins": {"mix/cmo": "0" * 64}})
    add_record(tmp_path, recipe_name="ce")
    add_record(tmp_path, recipe_name="mine](https://elsewhere.org)")
    found = [line.split(" | ")[1] for line in page(tmp_path).splitlines() if line.startswith("| –")]
    assert sorted(found) == [
        "[cmo (mix.a=\\](x)\\[\\`\\|)](https://arxiv.org/abs/2112.00412)",
        "ce",
        "cmo",
        "mine\\](https://elsewhere.org)",
    ]


def test_what_a_killed_build_left_goes_with_the_next(tmp_path: Path) -> None:
    add_record(tmp_path / "records")
    board = tmp_path / "board"
    build(tmp_path / "records", board)
    left = [board / ".0123456789abcdef.tmp", board / "tables" / ".0123456789abcdef.tmp"]
    for path in left:
        path.write_text("half a table", encoding="utf-8")
    build(tmp_path / "records", board)
    assert not any(path.exists() for path in left)
