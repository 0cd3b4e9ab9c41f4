"""The commands' common frame: how a command ends, and the application they are commands of."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lt_bench.errors import RunError, UserError


@contextmanager
def exit_codes() -> Iterator[None]:
    try:
        yield
    except (UserError, RunError) as error:
        # One line even where the name of a file holds a line break.
        print(f"lt-bench: {' '.join(str(error).splitlines())}", file=sys.stderr)
        if os.environ.get("LT_BENCH_TRACEBACK") and error.__cause__:
            traceback.print_exception(error.__cause__)
        sys.exit(2 if isinstance(error, UserError) else 1)
    except KeyboardInterrupt:
        print("lt-bench: interrupted; the same command goes on from the last finished epoch", file=sys.stderr)
        sys.exit(130)


class _Commands(TyperGroup):
    """Typer would answer an interruption with a word of its own: errors are met inside of it."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        with exit_codes():
            return super().invoke(ctx)


app = typer.Typer(
    name="lt-bench",
    cls=_Commands,
    help="A benchmark suite for long-tailed image recognition.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Make, prepare, verify, describe and export long-tailed splits.", no_args_is_help=True)
board_app = typer.Typer(help="Tables made from records.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(board_app, name="leaderboard")


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from lt_bench import __version__

        print(__version__)
        raise typer.Exit
