"""The list of runs of a command, and what becomes of them."""

from __future__ import annotations

import fnmatch
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from lt_bench.durations import parse_time
from lt_bench.errors import RunError, UserError, shown
from lt_bench.estimates import Estimator, Run
from lt_bench.leaderboard.repeating import recorded_recipe
from lt_bench.recipe import Recipe, load_recipe
from lt_bench.recipe.files import SETTINGS, is_record, own_recipes, path_exists, shipped, shipped_recipes
from lt_bench.recipe.overrides import split_arguments
from lt_bench.sweep.engines import Engine, Result
from lt_bench.sweep.grid import Point, points
from lt_bench.sweep.local import Local, one_by_one, threads_of
from lt_bench.sweep.packed import reason, trace
from lt_bench.sweep.report import Report
from lt_bench.training.options import BudgetSpent, Options, Outcome

HERE = Local()


@dataclass(frozen=True)
class Sweep:
    """The list of runs. Every recipe is validated before the first one starts."""

    recipes: tuple[Recipe, ...]
    seeds: tuple[tuple[int, ...], ...]
    """Of each recipe."""
    points: tuple[Point, ...]
    """Of each recipe, what of the grid it is."""
    options: Options

    @classmethod
    def plan(
        cls,
        arguments: Sequence[str],
        seeds: Sequence[int] | None,
        options: Options,
        usual: Sequence[int] = (0,),
        grid: Sequence[str] = (),
    ) -> Sweep:
        """From command-line arguments: recipes, `key=value` overrides that hold for all of them, and a grid of others.

        A record stands for its recipe and, unless `seeds` are given, its seed; others then get the `usual` ones. Where
        `*` stands for any method or setting, what does not fit, or needs a file that is not given, is left out and
        told. Raises UserError for the rest.
        """
        names, overrides = split_arguments(arguments)
        every = points(grid, overrides)
        found = [
            (recipe, tuple(seeds or own or usual), point)
            for name in names
            for point in every
            for recipe, own in planned(name, [*overrides, *point])
        ]
        recipes, of_each, placed = zip(*found, strict=True)
        return cls(recipes, of_each, placed, options)

    def execute(self, budget_s: float | None = None, *, engine: Engine = HERE, stop_on_failure: bool = False) -> None:
        """Run what has no record yet, seed by seed, so that early results cover all recipes.

        With `stop_on_failure` the first failure is raised. Otherwise the rest goes on, and at the end comes a RunError,
        or a UserError where all that failed was the user's to mend.
        """
        deadline = None if budget_s is None else time.monotonic() + budget_s
        report = self._report(engine, quiet=stop_on_failure)
        failures: list[tuple[str, BaseException]] = []
        spent = False
        with closing(self._results(engine, replace(self.options, deadline=deadline), report)) as results:
            for title, result in results:
                if isinstance(result, Outcome):
                    _tell(title, result)
                elif isinstance(result, BudgetSpent):
                    spent = True
                    continue
                elif stop_on_failure:
                    text = f"{title}: {reason(result)}"
                    raise (result if isinstance(result, UserError) else RunError(text)) from result
                else:
                    failures.append((title, result))
                    trace(result)
                    _say(f"{title}: failed: {reason(result)}")
                report.ended(title, result if isinstance(result, Outcome) else None)
        if spent:
            _say(f"the budget is spent; the same command goes on from here: {report.undone()}")
        report.end()
        self._raise(failures)

    def _report(self, engine: Engine, *, quiet: bool) -> Report:
        """One that has begun; a single run, and what needs no training, speak for themselves if they may be `quiet`."""
        estimator = Estimator(self.options, threads=threads_of(engine.jobs or 1))
        runs = self.runs()
        quiet = quiet and (len(runs) == 1 or len(estimator.done(runs)) == len(runs))
        report = Report(runs, estimator, engine.jobs or 1, engine.place, quiet)
        report.begin()
        return report

    def _results(self, engine: Engine, options: Options, report: Report) -> Generator[Result]:
        runs = self.runs()
        if engine.place:  # What has its record is told here: nothing travels, or waits in a queue, for that.
            yield from one_by_one([run for run in runs if run[0] in report.done], options)
            runs = [run for run in runs if run[0] not in report.done]
        elif len(runs) > 1:  # The data of the last is looked at before the first has taken its hours.
            refusals = [report.estimator.refusal(recipe) for _, recipe, _ in runs]
            yield from ((run[0], error) for run, error in zip(runs, refusals, strict=True) if error)
            runs = [run for run, error in zip(runs, refusals, strict=True) if not error]
        if runs:
            yield from engine.results(runs, options, report)

    def runs(self) -> list[Run]:
        """Seed by seed, so that early results cover all recipes."""
        return [
            (
                " ".join((f"{recipe.data.name}/{recipe.name}", recipe.protocol.name, *point, f"seed {seed}")),
                recipe,
                seed,
            )
            for round_ in zip_longest(*self.seeds)
            for recipe, point, seed in zip(self.recipes, self.points, round_, strict=True)
            if seed is not None
        ]

    def _raise(self, failures: Sequence[tuple[str, BaseException]]) -> None:
        if failures:
            kind = UserError if all(isinstance(error, UserError) for _, error in failures) else RunError
            titles = ", ".join(title for title, _ in failures)
            raise kind(f"{len(failures)} of {sum(map(len, self.seeds))} runs failed: {titles}")


def planned(name: str, overrides: Sequence[str]) -> Iterator[tuple[Recipe, tuple[int, ...]]]:
    """The recipes that a word of the command line stands for, each with the seeds it brings along.

    Raises UserError for what no run could begin with.
    """
    if is_record(name):
        recipe, seed = recorded_recipe(Path(name), overrides)
        yield recipe, (seed,)
    elif "*" in name and not path_exists(Path(name)):
        yield from ((recipe, ()) for recipe in _matching(name, overrides))
    else:
        yield _checked(name, overrides), ()


def _matching(pattern: str, overrides: Sequence[str]) -> Iterator[Recipe]:
    setting = pattern.rpartition("/")[0]
    names = shipped_recipes() if "*" in setting or setting in shipped(SETTINGS) else own_recipes(setting)
    left_out = {}
    for name in fnmatch.filter(names, pattern):
        try:
            yield _checked(name, overrides)
        except UserError as error:
            left_out[name] = error
            print(f"{name}: left out: {error}", file=sys.stderr)
    found = len(fnmatch.filter(names, pattern))
    if found == len(left_out):
        why = f"none of {found} fits, the first: {next(iter(left_out.values()))}" if found else "no method is like that"
        raise UserError(f"{shown(pattern)}: {why}")


def _checked(name: str, overrides: Sequence[str]) -> Recipe:
    recipe = load_recipe(name, overrides)
    from lt_bench.training.network import check_given, check_network  # noqa: PLC0415 (as `run`)

    check_network(recipe)
    check_given(recipe)
    return recipe


def parse_budget(text: str) -> float:
    """A time such as 90s, 40m or 1.5h, in seconds."""
    return parse_time(text, "--budget")


def _tell(title: str, outcome: Outcome) -> None:
    top1 = f"top-1 {100 * outcome.top1:.2f} %"
    state = "" if outcome.trained else "already done, "
    _say(f"{title}: {state}{top1}, {outcome.record}")


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)
