"""Many runs: recipes x seeds, one after the other, within a budget of time."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from lt_bench.errors import RunError, UserError
from lt_bench.recipe import Recipe, load_recipe, split_arguments
from lt_bench.training.run import BudgetSpent, Options, Outcome, run

UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Sweep:
    """The list of runs. Every recipe is validated before the first one starts."""

    recipes: tuple[Recipe, ...]
    seeds: tuple[int, ...]
    options: Options

    @classmethod
    def plan(cls, arguments: Sequence[str], seeds: Sequence[int], options: Options) -> Sweep:
        """From command-line arguments: recipes, and `key=value` overrides that hold for all of them."""
        names, overrides = split_arguments(arguments)
        return cls(tuple(load_recipe(name, overrides) for name in names), tuple(seeds), options)

    def execute(self, budget_s: float | None = None, *, stop_on_failure: bool = False) -> None:
        """Run what has no record yet, seed by seed, so that early results cover all recipes.

        With `stop_on_failure` the first failure is raised. Otherwise the rest goes on, and at the end
        comes a RunError, or a UserError where all that failed was the user's to mend.
        """
        deadline = None if budget_s is None else time.monotonic() + budget_s
        options = replace(self.options, deadline=deadline)
        failures: list[tuple[str, Exception]] = []
        for seed, recipe in product(self.seeds, self.recipes):
            title = f"{recipe.data.name}/{recipe.name} {recipe.protocol.name} seed {seed}"
            try:
                _report(title, run(recipe, seed, options))
            except BudgetSpent:
                _say("the budget is spent; the same command goes on from here")
                break
            except Exception as error:
                if stop_on_failure:
                    raise (error if isinstance(error, UserError) else RunError(f"{title}: {_reason(error)}")) from error
                failures.append((title, error))
                _say(f"{title}: failed: {_reason(error)}")
        self._raise(failures)

    def _raise(self, failures: Sequence[tuple[str, Exception]]) -> None:
        if failures:
            kind = UserError if all(isinstance(error, UserError) for _, error in failures) else RunError
            titles = ", ".join(title for title, _ in failures)
            raise kind(f"{len(failures)} of {len(self.recipes) * len(self.seeds)} runs failed: {titles}")


def parse_budget(text: str) -> float:
    """A time such as 90s, 40m or 1.5h, in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if match is None:
        raise UserError(f"--budget {text}: expected a time such as 90s, 40m or 2h")
    return float(match[1]) * UNITS[match[2]]


def _reason(error: Exception) -> str:
    """The error in one line; an unforeseen one, of a plug-in or of the hardware, with its type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError | RunError) else f"{type(error).__name__}: {text}"


def _report(title: str, outcome: Outcome) -> None:
    top1 = f"top-1 {100 * outcome.top1:.2f} %"
    state = "" if outcome.trained else "already done, "
    _say(f"{title}: {state}{top1}, {outcome.record}")


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)
