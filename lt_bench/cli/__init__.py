"""The command line: parse, call one function, print. Heavy imports wait until a command needs them."""

from __future__ import annotations

from lt_bench.cli import runs, results, robust  # isort: skip (help names the commands in the order of their modules)
from lt_bench.cli import board, data
from lt_bench.cli.app import app
from lt_bench.terminal import show_what_can_be_shown

__all__ = ["app", "board", "data", "main", "results", "robust", "runs"]


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 a run failed, 2 the user's input, 130 interrupted."""
    show_what_can_be_shown()
    app(prog_name="lt-bench")
