"""What is written into the board's tables: text stays text, on the page, in cells and on a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from board_cases import A, page, reported, rows
from records_factory import add_record
from rich.console import Console

from lt_bench.errors import UserError
from lt_bench.leaderboard import print_tables
from lt_bench.leaderboard.board import render

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


def test_a_folder_without_records_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there are no records of runs; lt-bench run makes them"):
        print_tables(tmp_path, Console(file=io.StringIO()))
