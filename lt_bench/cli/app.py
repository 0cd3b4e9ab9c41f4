"""The commands' common frame: how a command ends, and the application they are commands of."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lt_bench.cli.examples import FIRST, examples
from lt_bench.errors import RunError, UserError, in_one_line, unknown
from lt_bench.files import in_words

# Of all wrong usage of the command line. Typer exports no more of it than this subclass, and not always from click.
_UsageError: type[Any] = typer.BadParameter.__bases__[0]


STDOUT = 1
"""Its file descriptor."""
TRAINING = ("run", "sweep")
"""Commands that keep what they have done when they are interrupted."""


@contextmanager
def exit_codes(ctx: typer.Context | None = None) -> Iterator[None]:
    """End a command as its error says; `ctx` knows which command it is, once that has begun."""
    try:
        yield
    except (UserError, RunError) as error:
        print(f"lt-bench: {in_one_line(str(error))}", file=sys.stderr)
        if os.environ.get("LT_BENCH_TRACEBACK") and error.__cause__:
            traceback.print_exception(error.__cause__)
        sys.exit(2 if isinstance(error, UserError) else 1)
    except _UsageError as error:
        said, *more = error.format_message().splitlines()
        if more:  # The help, which is the answer to a command without arguments.
            error.show()
        else:
            command = getattr(error.ctx, "command_path", "lt-bench")
            print(f"lt-bench: {said.rstrip('.')}; see {command} --help", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # or what is left of it fails once more at exit
        where = "the output" if error.filename is None else error.filename
        print(f"lt-bench: {where}: {in_words(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        trains = ctx is not None and ctx.invoked_subcommand in TRAINING
        goes_on = "; the same command goes on from the last finished epoch" if trains else ""
        print(f"lt-bench: interrupted{goes_on}", file=sys.stderr)
        sys.exit(130)


class _Group(TyperGroup):
    """Commands with examples, listed with the whole first sentence of their help."""

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            command.epilog = examples(f"{ctx.command_path} {cmd_name}")
        return command

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        if args[0] not in self.commands and not ctx.resilient_parsing:
            raise UserError(unknown("command", args[0], self.commands))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_sentence(command)) for name, command in self.commands.items()])


def _first_sentence(command: Any) -> str:
    return re.split(r"(?<=\.)\s|\n\n", command.help or "", maxsplit=1)[0]


class _Commands(_Group):
    """Typer would answer an interruption with a word of its own: errors are met inside of it."""

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        with exit_codes():
            return super().make_context(*arguments, **settings)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        with exit_codes(ctx):
            done = super().invoke(ctx)
            sys.stdout.flush()  # what cannot be written is to be known in here
            return done


app = typer.Typer(
    name="lt-bench",
    cls=_Commands,
    help="A benchmark suite for long-tailed image recognition.",
    epilog=FIRST,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(
    cls=_Group, help="Make, prepare, verify, describe and export long-tailed splits.", no_args_is_help=True
)
board_app = typer.Typer(cls=_Group, help="Tables made from records.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(board_app, name="leaderboard")


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from lt_bench import __version__

        print(__version__)
        raise typer.Exit
