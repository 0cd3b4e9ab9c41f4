"""What can be listed, what is said to fit together, and the page of all methods that is made of it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from recipe_cases import LISTED

from lt_bench import method_page, written
from lt_bench.bibliography import shipped_papers
from lt_bench.errors import UserError
from lt_bench.listing import KINDS, NETWORK, OTHERS, Members, _some_of, all_members, combines_with, fits, listing
from lt_bench.methods import Method
from lt_bench.plugins import load_plugin
from lt_bench.recipe import DEFAULTS, load_recipe
from lt_bench.recipe.files import shipped
from lt_bench.recipe.resolve import resolve
from lt_bench.registry import FAMILIES, Component, Family, Info, lookup, members
from lt_bench.settings import added
from lt_bench.yaml_files import read_yaml

LtBench = Callable[..., Any]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "methods.md"
PAIRS = [
    *(("method", "sampler"), ("method", "mix"), ("method", "loss"), ("method", "head"), ("method", "stage")),
    *(("loss", "head"), ("stage", "head")),
]
MINE = """from lt_bench.methods import Method
from lt_bench.registry import Info
class Mine(Method):
    name = "mine"
    info = Info("a | b", "me", 2026, cost="7x")
    uses = frozenset({"mix"})
    heads = frozenset({"linear", "experts"})
    streams = loss = None
"""


@pytest.fixture(scope="module")
def page() -> str:
    return method_page.page()


@pytest.fixture
def mine(working_folder: Path, registry: None) -> Path:
    """A plug-in with a method, not loaded."""
    (working_folder / "mine.py").write_text(MINE)
    return working_folder / "mine.py"


def cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def linked_name(cell: str) -> str:
    """The text of a cell that is a link."""
    return cell.removeprefix("[").partition("]")[0]


def tables(text: str) -> dict[str, list[dict[str, str]]]:
    """The tables of a page by the heading they stand under."""
    found = {}
    for section in re.split(r"^#+ ", text, flags=re.M)[1:]:
        lines = [cells(line) for line in section.splitlines() if line.startswith("|")]
        assert len({len(line) for line in lines}) <= 1, section
        found[section.splitlines()[0]] = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    return found


# --- lists -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [*KINDS, *OTHERS])
def test_every_list_is_printed_and_written_for_machines(
    lt_bench: LtBench, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    plain, machine = lt_bench("list", what), lt_bench("list", what, "--json")
    assert (plain.code, machine.code) == (0, 0)
    rows = json.loads(machine.out)
    assert rows == listing(what)
    # Not a terminal: one line for each, as long as it is.
    names = ["name", *(row["name"] for row in rows)]
    assert [line.split()[0] for line in plain.out.splitlines()] == names

    # A cell that is too long goes on in the next line, but a name stays whole.
    monkeypatch.setenv("COLUMNS", "80")
    narrow = lt_bench("list", what).out
    assert max(map(len, narrow.splitlines())) <= 80
    assert re.findall(r"^\S+", narrow, re.M) == names


def test_the_help_names_every_list(lt_bench: LtBench) -> None:
    said = re.findall(r"[a-z]+", lt_bench("list", "--help").out)
    assert {*KINDS, *OTHERS} <= set(said)


def test_methods_are_all_families_but_the_network(lt_bench: LtBench) -> None:
    rows = json.loads(lt_bench("list", "methods", "--json").out)
    assert list(rows[0]) == ["name", "kind", "paper", "year", "combines_with", "cost"]
    listed = [(row["kind"], row["name"]) for row in rows]
    assert sorted(listed) == sorted((kind, name) for kind in FAMILIES if kind not in NETWORK for name in members(kind))
    cmo = next(row for row in rows if row["name"] == "cmo")
    assert (cmo["kind"], cmo["paper"], cmo["year"], cmo["cost"]) == ("mix", "Park et al., CVPR 2022", 2022, "1x")


def test_a_method_of_a_plug_in_is_listed(lt_bench: LtBench, mine: Path) -> None:
    rows = json.loads(lt_bench("list", "methods", "--plugin", mine, "--json").out)
    row = next(row for row in rows if row["name"] == "mine")
    assert {"any mix", "any stage but gcl", "head experts or linear", "own sampler, loss"} <= set(
        row.pop("combines_with").split("; ")
    )
    assert row == {"name": "mine", "kind": "method", "paper": "me", "year": 2026, "cost": "7x"}
    remix = next(row for row in rows if row["name"] == "remix")
    assert fits("mix", lookup("mix", "remix"), "method", lookup("method", "mine"))
    assert "mine" in remix["combines_with"] or "any method but" in remix["combines_with"]


def test_a_new_family_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    base = type("Extra", (Component,), {"__doc__": "Comes last.", "__module__": method_page.__name__})
    one = type("One", (base,), {"name": "one", "info": Info("the first"), "__module__": method_page.__name__})
    monkeypatch.setattr(method_page, "Extra", base, raising=False)
    monkeypatch.setattr(method_page, "One", one, raising=False)
    monkeypatch.setitem(FAMILIES, "extra", Family("extra", method_page.__name__, "Extra"))
    monkeypatch.setitem(KINDS, "extras", "extra")
    known, here = written.homes, method_page.__name__
    monkeypatch.setattr(written, "homes", lambda package: {"one": here} if package == here else known(package))
    assert [row["name"] for row in listing("extras")] == ["one"]
    assert [row["kind"] for row in listing("methods") if row["name"] == "one"] == ["extra"]
    assert tables(method_page.components())["Extras"][0]["What it does"] == "the first"


# --- what fits together ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("method", "standard", "any sampler, mix, loss, head"),
        ("method", "bbn", "head bilateral; own sampler, mix, loss"),
        ("method", "balpoe", "any sampler, mix; head experts; own loss"),
        ("loss", "ldam", "any sampler, mix; head cosine; method standard"),
        ("head", "linear", "any loss but ldam; method standard"),
        ("mix", "cmo", "any sampler, loss; any method but bbn or dbn-mix"),
        ("backbone", "resnet32", ""),
    ],
)
def test_what_a_component_combines_with(kind: str, name: str, said: str) -> None:
    assert combines_with(kind, lookup(kind, name), few_members()) == said


def test_what_does_not_fit_is_named_where_it_is_at_most_half_of_what_does() -> None:
    failing = dict.fromkeys("xyz", False)
    assert _some_of("loss", dict.fromkeys("abcdef", True) | failing) == "any loss but x, y or z"
    assert _some_of("loss", dict.fromkeys("abcde", True) | failing) == "loss a, b, c, d or e"


def few_members() -> Members:
    """What is there today, so that the phrases above do not change with what is added."""
    some = {
        "method": ("standard", "bbn", "dbn-mix", "balpoe", "ride", "sade"),
        "loss": ("cross-entropy", "focal", "ldam"),
        "mix": ("mixup", "cutmix", "cmo"),
        "head": ("linear", "cosine", "experts", "dual-branch", "bilateral"),
    }
    kept = {kind: some.get(kind, found) for kind, found in all_members().items() if kind in DEFAULTS or kind in NETWORK}
    return {kind: {name: lookup(kind, name) for name in kept.get(kind, ())} for kind in FAMILIES}


def accepted(**named: str) -> bool:
    """Whether a recipe with these components can be completed by some head and loss to a valid one."""
    base = {"protocol": load_recipe("digits-lt/ce").resolved()["protocol"]}
    heads = [named.pop("head")] if "head" in named else members("head")
    if "stage" in named:
        named["second_stage"] = named.pop("stage")
    losses = [named.pop("loss")] if "loss" in named else ["cross-entropy", "ldam"]
    for head, loss in product(heads, losses):
        choice = {"model": {"backbone": "resnet8", "head": head}, "loss": loss, **named}
        try:
            resolve({**base, "data": {"name": "digits-lt", "factor": 20}, **choice}, Path("x.yaml"))
        except UserError:
            continue
        return True
    return False


STRIDE = 7
"""Of the partners of every component one in so many is tried; `make test-whole` tries all."""


@pytest.mark.parametrize(("kind", "other_kind"), PAIRS)
def test_what_is_said_to_fit_is_what_a_recipe_may_name(kind: str, other_kind: str) -> None:
    together = product(enumerate(members(kind).values()), enumerate(members(other_kind).values()))
    for (row, one), (column, two) in together:
        if (row + column) % STRIDE and not os.environ.get("LT_BENCH_WHOLE"):
            continue
        if DEFAULTS.get(other_kind) == two.name:
            continue  # A recipe may name a default that its method does not use.
        said = fits(kind, one, other_kind, two)
        assert said == accepted(**{kind: one.name, other_kind: two.name}), (one.name, two.name)
        assert said == fits(other_kind, two, kind, one)


def test_what_no_common_head_can_train_does_not_fit() -> None:
    narrow = type("Narrow", (Method,), {"name": "narrow", "uses": frozenset({"loss"}), "heads": frozenset({"linear"})})
    ldam, focal, cosine = lookup("loss", "ldam"), lookup("loss", "focal"), lookup("head", "cosine")
    assert not fits("method", narrow, "loss", ldam)
    assert fits("loss", focal, "method", narrow)
    assert not fits("head", cosine, "method", narrow)
    assert fits("method", narrow, "backbone", lookup("backbone", "resnet32")) is None


# --- the page ----------------------------------------------------------------------------------------


def test_the_page_is_up_to_date(page: str) -> None:
    current = PAGE.read_bytes() if PAGE.is_file() else b""
    assert current == page.encode(), "docs/methods.md is out of date: run make docs"


def test_make_docs_writes_the_page(
    lt_bench: LtBench, working_folder: Path, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(method_page, "page", lambda: page)  # which takes 8 s
    assert re.search(r"^docs: .*\n\t\$\(BIN\)/lt-bench docs$", (ROOT / "Makefile").read_text(), re.M)
    done = lt_bench("docs")
    assert (done.code, done.out) == (0, "docs/methods.md\n")
    assert (working_folder / "docs" / "methods.md").read_bytes() == page.encode()


def test_a_page_of_other_hands_is_kept(lt_bench: LtBench, working_folder: Path) -> None:
    (working_folder / "methods.md").write_text("mine\n")
    done = lt_bench("docs", "--out", ".")
    assert (done.code, done.err) == (
        2,
        "lt-bench: methods.md: was not made by this command, so it is not overwritten\n",
    )
    assert (working_folder / "methods.md").read_text() == "mine\n"
    refused = lt_bench("docs", "--out", "methods.md")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)


def test_every_shipped_component_stands_in_it_once(page: str) -> None:
    found = tables(page)
    for word, kind in KINDS.items():
        names = [re.match(r"\[(.+?)\]", row["Name"]) for row in found[word.capitalize()]]
        assert [match[1] for match in names if match] == sorted(members(kind))


def test_a_plug_in_does_not_change_the_page(mine: Path, page: str) -> None:
    load_plugin(mine)
    assert "mine" in members("method")
    assert method_page.components() in page


def test_every_recipe_stands_in_it_once_for_each_setting_that_it_fits(page: str) -> None:
    rows = tables(page)["Recipes"]
    listed = [f"{setting}/{linked_name(row['Recipe'])}" for row in rows for setting in row["On"].split(", ")]
    assert Counter(listed) == Counter(LISTED)
    assert all(row["Recipe"].endswith(f"(../recipes/{linked_name(row['Recipe'])}.yaml)") for row in rows)


@pytest.mark.parametrize(
    ("recipe", "dataset", "parts", "cost"),
    [
        ("cmo-balanced-softmax", "cifar100-lt", "mix `cmo`; loss `balanced-softmax`", "1x"),
        ("ce", "imagenet-lt", "loss `cross-entropy`", "1x"),
        (
            "cmo-ldam-drw",
            "digits-lt",
            "mix `cmo`; loss `ldam`, from 80% with weights `effective-number`; head `cosine`",
            "1x",
        ),
        ("crt", "cifar100-lt", "loss `cross-entropy`; stage `crt` with sampler `class-aware`", "1x"),
        (
            "pc-softmax",
            "cifar10-lt",
            r"loss `cross-entropy`; stage `post-hoc` with loss `logit-adjustment` (post\_hoc true)",
            "1x",
        ),
        ("bbn", "cifar10-lt", "head `bilateral`; method `bbn`", "2x"),
        (
            "bbn-own-protocol",
            "cifar10-lt",
            "head `bilateral`; method `bbn`; protocol [bbn-200ep](../recipes/protocols/bbn-200ep.yaml)",
            "2x",
        ),
        (
            "glmc-wide",
            "cifar100-lt",
            "head `twin-classifier`; method `glmc` (revision 2); backbone `resnet32-w4`",
            "2x",
        ),
        (
            "disalign",
            "digits-lt",
            "loss `cross-entropy`; stage `disalign` with loss `cross-entropy` "
            "(weights `inverse-frequency` (exponent 1.2))",
            "1x",
        ),
        ("balpoe", "cifar10-lt", r"mix `mixup` (alpha 0.8); head `experts`; method `balpoe` (tau \[0, 1, 2\])", "2.3x"),
        ("class-distance-mix-ours", "cifar10-lt", "mix `class-distance-mix-ours`; loss `cross-entropy`", "1.3x"),
    ],
)
def test_what_a_recipe_is_made_of(page: str, recipe: str, dataset: str, parts: str, cost: str) -> None:
    rows = tables(page)["Recipes"]
    (row,) = [r for r in rows if linked_name(r["Recipe"]) == recipe and dataset in r["On"].split(", ")]
    assert (row["Parts"], row["Cost"]) == (parts, cost)


def test_a_phase_may_bring_another_component(tmp_path: Path) -> None:
    text = "extends: protocols/digits-demo\ndata: {name: digits-lt, factor: 20}\nmodel: {backbone: resnet8}\n"
    text += (
        "mix: {name: mixup, alpha: 2.0}\nphases: [{until: 40%}, {until: 80%, mix: none}, {until: 100%, mix: cutmix}]\n"
    )
    (tmp_path / "changing.yaml").write_text(text)
    parts = method_page._parts(load_recipe(tmp_path / "changing.yaml"))
    assert parts == "mix `mixup` (alpha 2), from 40% `none`, from 80% `cutmix`; loss `cross-entropy`"


def test_a_setting_added_later_is_shown_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Config(lookup("mix", "mixup").Config):  # type: ignore[misc]
        tilt: float = added(0.5)

    monkeypatch.setattr(lookup("mix", "mixup"), "Config", Config)
    row = method_page._component("mix", lookup("mix", "mixup"), all_members())
    assert row["Settings and their defaults"] == "`alpha` 1, `tilt` 0.5"
    plain, tilted = {"name": "mixup", "alpha": 1.0}, {"name": "mixup", "alpha": 1.0, "tilt": 0.7}
    assert method_page._part("mix", [(0, plain)]) == "mix `mixup`"
    assert method_page._part("mix", [(0, tilted), (50, plain)]) == "mix `mixup` (tilt 0.7), from 50% with tilt 0.5"


def test_the_figures_are_those_of_the_recipes(page: str) -> None:
    rows = tables(page)["Published figures"]
    columns = ("Data set", "Factor", "Top-1", "Source")
    shown = Counter((linked_name(row["Recipe"]), *(row[column] for column in columns)) for row in rows)
    carried: Counter[tuple[str, ...]] = Counter()
    for name, path in shipped().items():
        for row in read_yaml(path).get("reported", []):
            numbers = (f"{row['factor']:g}" if "factor" in row else "", f"{row['top1']:g}")
            carried[name, row["data"], *numbers, row["paper"]] += 1
    assert shown == carried
    assert "| [cmo-balanced-softmax](../recipes/cmo-balanced-softmax.yaml) | cifar100-lt | 100 | 46.6 |" in page


def test_every_recipe_leads_to_its_papers(page: str) -> None:
    rows = {linked_name(row["Recipe"]): row["Paper"] for row in tables(page)["Recipes"]}
    cmo, ldam = "[Park et al., CVPR 2022](https://arxiv.org/abs/2112.00412)", "[Cao et al., NeurIPS 2019]"
    assert rows["cmo-ldam-drw"] == f"{cmo}; {ldam}(https://arxiv.org/abs/1906.07413)"
    assert [name for name, paper in rows.items() if not paper] == ["ce", "class-balanced-sampling", "csce"]


def test_an_unverified_figure_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = {"data": "cifar10-lt", "paper": "heard of", "factor": 100, "top1": 99.9, "verified": False}
    monkeypatch.setattr(method_page, "read_yaml", lambda path: {"reported": [figure, figure | {"verified": True}]})
    assert len(list(method_page._figures())) == len(shipped())


def test_its_links_lead_somewhere(page: str) -> None:
    papers = {paper.link for paper in shipped_papers().values()}
    targets = set(re.findall(r"\]\(([^)]+)\)", page)) - papers
    assert len(targets) > 120
    for target in targets:
        path, _, anchor = target.partition("#")
        assert (PAGE.parent / path).exists(), target
        text = (PAGE.parent / path).read_text() if path else page
        titles = [re.sub(r"[^\w]+", "-", title.lower()) for title in re.findall(r"^#+ (.+)$", text, re.M)]
        assert not anchor or anchor in titles, target


def test_no_text_can_break_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup("mix", "cmo"), "info", Info("a | b", "<i>me</i> [x](y)", 2026, cost="*3x*"))
    (row,) = [row for row in tables(method_page.components())["Mixes"] if row["Name"].startswith("[cmo]")]
    assert row["What it does"] == r"a \| b"
    assert row["Paper"] == r"&lt;i&gt;me&lt;/i&gt; \[x\](y)"
    assert row["Cost"] == r"\*3x\*"
