"""What a terminal cannot show ends no command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
