"""What a terminal cannot show ends no command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lt_bench.terminal import print_rows

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "Best on test − last"),
        ("latin-1:strict", "Best on test - last"),
        ("ascii:strict", "Best on test - last"),
    ],
)
def test_tables_on_any_terminal(encoding: str, shown: str) -> None:
    command = [sys.executable, "-m", "lt_bench", "leaderboard", "show", "--board"]
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout.decode(encoding.split(":", maxsplit=1)[0])


def test_what_has_no_likeness_is_a_question_mark() -> None:
    code = "from lt_bench.terminal import *; show_what_can_be_shown(); print('50.00 \u00b1 1.00 of \u957f\u5c3e')"
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "50.00 +- 1.00 of ??\n"


def test_what_a_terminal_is_too_narrow_for_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"name": "deferred-re-weighting", **{f"score_{k}": f"{k}0.00 ± 1.00" for k in range(6)}}]
    monkeypatch.setenv("COLUMNS", "50")
    print_rows(rows)
    narrow = capsys.readouterr().out
    assert "deferred-re-weighting" in narrow
    assert " ".join(narrow.split()).endswith(
        "Left out for a width of 50: score_2, score_3, score_4, score_5. A wider terminal or COLUMNS=200 shows them."
    )
    assert max(map(len, narrow.splitlines())) <= 50
    monkeypatch.setenv("COLUMNS", "200")
    print_rows(rows)
    assert "Left out" not in capsys.readouterr().out


def test_the_board_on_80_columns(lt_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = lt_bench("leaderboard", "show", "--records", ROOT / "leaderboard" / "v1" / "records").out
    heads = [line for line in told.splitlines() if line.split()[:2] == ["Rank", "Method"]]
    assert heads
    assert all("n" in head.split() and "Top-1 ↑" in head for head in heads)
    assert max(map(len, told.splitlines())) <= 80
    named = " ".join(told.split("Left out for a width of 80: ")[1].split())
    assert named.startswith("Best on test − last, Paper, Difference, Figure seen. A wider terminal or COLUMNS=200")


def test_a_complaint_shows_what_a_terminal_does_not(lt_bench: Callable[..., Any], working_folder: Path) -> None:
    settings = '{"warm\\ufeff\\u0007up": 3, name: x, epochs: 3}'
    (working_folder / "mine.yaml").write_text(f"extends: digits-lt/ce\nprotocol: {settings}\n", encoding="utf-8")
    done = lt_bench("validate", "mine.yaml")
    assert done.code == 2
    assert done.err.rstrip("\n").isprintable()
    assert r"protocol.warm\ufeff\x07up: " in done.err
