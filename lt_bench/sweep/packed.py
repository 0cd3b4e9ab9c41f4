"""A run on its way to another process: what it takes along, and what comes back."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lt_bench.data.cards import remember, remembered
from lt_bench.errors import RunError, UserError
from lt_bench.estimates import Run
from lt_bench.plugins import load_plugin, plugin_files
from lt_bench.recipe import Recipe
from lt_bench.training.options import BudgetSpent, Options, Outcome

SHOWN = 400
"""Characters of an unforeseen error."""


def run(recipe: Recipe, seed: int, options: Options) -> Outcome:
    """As `lt_bench.training.run.run`, which is imported with torch when the first run begins."""
    from lt_bench.training.run import run as train  # noqa: PLC0415

    return train(recipe, seed, options)


@dataclass(frozen=True)
class Packed:
    """A run with all that a fresh process needs for it beside the package and the data."""

    recipe: Recipe
    """Resolved: it depends on no other file."""
    seed: int
    options: Options
    until: float | None = None
    """The deadline, in seconds since 1970, because each machine counts `time.monotonic` from another moment."""
    plugins: Mapping[Path, str] | None = None
    """The files that the recipe may name components of, each with its sha256."""
    cards: tuple[Path, ...] = ()
    """Folders of one's own data sets that were named by path."""

    @classmethod
    def of(cls, run: Run, options: Options) -> Packed:
        """From this process, with the plug-ins and cards that it knows."""
        title, recipe, seed = run
        left = None if options.deadline is None else options.deadline - time.monotonic()
        until = None if left is None else time.time() + left
        return cls(recipe, seed, replace(options, deadline=None, title=title), until, plugin_files(), remembered())

    def make(self) -> Outcome:
        """Train it here. Raises what `run` raises, and UserError for a plug-in that has changed since."""
        for path, sha256 in (self.plugins or {}).items():
            load_plugin(path, sha256)
        for folder in self.cards:
            remember(folder)
        deadline = None if self.until is None else time.monotonic() + self.until - time.time()
        return run(self.recipe, self.seed, replace(self.options, deadline=deadline))

    def attempt(self, leaving: Callable[[], bool] = lambda: False) -> Outcome | BaseException:
        """What it gives, an error included, in a form that can be sent back.

        Asked when an error comes, `leaving` says whether the whole process is to end with it.
        """
        try:
            return self.make()
        except (Exception, SystemExit) as error:
            if leaving():
                raise
            return told(error)


def told(error: BaseException) -> BaseException:
    """The error as one of ours: the class of another's may not survive the way to another process."""
    if isinstance(error, BudgetSpent):
        return error
    if isinstance(error, UserError):
        return UserError(str(error))
    trace(error)
    return RunError(reason(error))


def trace(error: BaseException) -> None:
    if os.environ.get("LT_BENCH_TRACEBACK"):
        traceback.print_exception(error)


def reason(error: BaseException) -> str:
    """The error in one line; an unforeseen one, of a plug-in or of the hardware, with its type."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError | RunError):
        return text
    return f"{type(error).__name__}: {text[:SHOWN]}".removesuffix(": ") + _where(error)


def _where(error: BaseException) -> str:
    """The last line of a plug-in that an error came by, in parentheses."""
    own = set(map(str, plugin_files()))
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in own]
    return f" ({Path(lines[-1].filename).name}, line {lines[-1].lineno})" if lines else ""
