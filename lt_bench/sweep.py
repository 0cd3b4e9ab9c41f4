"""Many runs: recipes x seeds, one after the other or a few at once, within a budget of time."""

from __future__ import annotations

import fnmatch
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any

from lt_bench.data.cards import remember, remembered
from lt_bench.errors import RunError, UserError, shown
from lt_bench.estimates import Estimator, Run
from lt_bench.leaderboard.repeating import recorded_recipe
from lt_bench.recipe import Recipe, load_recipe
from lt_bench.recipe.files import SETTINGS, is_record, own_recipes, path_exists, shipped, shipped_recipes
from lt_bench.recipe.overrides import split_arguments
from lt_bench.registry import load_plugin, plugin_files
from lt_bench.sweep_report import Live, Report
from lt_bench.training.options import BudgetSpent, Options, Outcome
from lt_bench.training.progress import Lines, Shared, Status

UNITS = {"s": 1, "m": 60, "h": 3600}


def run(recipe: Recipe, seed: int, options: Options) -> Outcome:
    """As `lt_bench.training.run.run`, which is imported with torch when the first run begins."""
    from lt_bench.training.run import run as train  # noqa: PLC0415

    return train(recipe, seed, options)


@dataclass(frozen=True)
class Sweep:
    """The list of runs. Every recipe is validated before the first one starts."""

    recipes: tuple[Recipe, ...]
    seeds: tuple[tuple[int, ...], ...]
    """Of each recipe."""
    options: Options

    @classmethod
    def plan(
        cls, arguments: Sequence[str], seeds: Sequence[int] | None, options: Options, usual: Sequence[int] = (0,)
    ) -> Sweep:
        """From command-line arguments: recipes, and `key=value` overrides that hold for all of them.

        A record stands for its recipe and, unless `seeds` are given, its seed; others then get the `usual` ones. Where
        `*` stands for any method or setting, what does not fit, or needs a file that is not given, is left out and
        told. Raises UserError for the rest.
        """
        names, overrides = split_arguments(arguments)
        planned = [found for name in names for found in _planned(name, overrides)]
        chosen = [(recipe, tuple(seeds or own or usual)) for recipe, own in planned]
        return cls(tuple(recipe for recipe, _ in chosen), tuple(every for _, every in chosen), options)

    def execute(self, budget_s: float | None = None, *, jobs: int = 1, stop_on_failure: bool = False) -> None:
        """Run what has no record yet, seed by seed, so that early results cover all recipes.

        With `jobs` above 1 so many runs share the machine, each in a process of its own with its part of the
        threads. With `stop_on_failure` the first failure is raised. Otherwise the rest goes on, and at the end
        comes a RunError, or a UserError where all that failed was the user's to mend.
        """
        deadline = None if budget_s is None else time.monotonic() + budget_s
        options = replace(self.options, deadline=deadline)
        report = self._report(jobs, quiet=stop_on_failure)
        failures: list[tuple[str, BaseException]] = []
        spent = False
        for title, result in self._one_by_one(options) if jobs == 1 else self._at_once(options, jobs, report):
            if isinstance(result, Outcome):
                _tell(title, result)
            elif isinstance(result, BudgetSpent):
                spent = True
            elif stop_on_failure:
                text = f"{title}: {reason(result)}"
                raise (result if isinstance(result, UserError) else RunError(text)) from result
            else:
                failures.append((title, result))
                _trace(result)
                _say(f"{title}: failed: {reason(result)}")
            if not isinstance(result, BudgetSpent):
                report.ended(title, result if isinstance(result, Outcome) else None)
        if spent:
            _say(f"the budget is spent; the same command goes on from here: {report.undone()}")
        report.end()
        self._raise(failures)

    def _report(self, jobs: int, *, quiet: bool) -> Report:
        """One that has begun; a single run, and what needs no training, speak for themselves if they may be `quiet`."""
        estimator = Estimator(self.options, threads=_threads(jobs))
        runs = self.runs()
        quiet = quiet and (len(runs) == 1 or len(estimator.done(runs)) == len(runs))
        report = Report(runs, estimator, jobs, quiet)
        report.begin()
        return report

    def runs(self) -> list[Run]:
        """Seed by seed, so that early results cover all recipes."""
        return [
            (f"{recipe.data.name}/{recipe.name} {recipe.protocol.name} seed {seed}", recipe, seed)
            for round_ in zip_longest(*self.seeds)
            for recipe, seed in zip(self.recipes, round_, strict=True)
            if seed is not None
        ]

    def _one_by_one(self, options: Options) -> Iterator[tuple[str, Outcome | BaseException]]:
        for title, recipe, seed in self.runs():
            try:
                result: Outcome | BaseException = run(recipe, seed, options)
            except (Exception, SystemExit) as error:
                result = error
            yield title, result
            if isinstance(result, BudgetSpent):
                return

    def _at_once(self, options: Options, jobs: int, report: Report) -> Iterator[tuple[str, Outcome | BaseException]]:
        threads = _threads(jobs)
        live = Live(report)
        # Bars of several processes would overwrite each other; a run may be the first stage of another that began
        # with it.
        options = replace(options, progress=_shared if live.active else Lines, wait=True)
        pending = deque(spread(self.runs()))
        free = [_Worker(threads) for _ in range(min(jobs, len(pending)))]
        running: dict[Future[Outcome | BaseException], tuple[str, _Worker]] = {}
        try:
            with live:
                while pending or running:
                    while pending and free:
                        title, recipe, seed = pending.popleft()
                        worker = free.pop()
                        running[worker.submit(recipe, seed, options)] = title, worker
                        report.begins(title)
                    live.show({title: worker.status for title, worker in running.values()})
                    for future in wait(running, timeout=live.every, return_when=FIRST_COMPLETED).done:
                        title, worker = running.pop(future)
                        free.append(worker)
                        yield title, _result(future)
        finally:
            for worker in [*free, *(worker for _, worker in running.values())]:
                worker.pool.shutdown(cancel_futures=True)

    def _raise(self, failures: Sequence[tuple[str, BaseException]]) -> None:
        if failures:
            kind = UserError if all(isinstance(error, UserError) for _, error in failures) else RunError
            titles = ", ".join(title for title, _ in failures)
            raise kind(f"{len(failures)} of {sum(map(len, self.seeds))} runs failed: {titles}")


def _planned(name: str, overrides: Sequence[str]) -> Iterator[tuple[Recipe, tuple[int, ...]]]:
    """The recipes that a word of the command line stands for, each with the seeds it brings along."""
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


def spread(runs: Sequence[Run]) -> list[Run]:
    """The runs in an order in which those that need the same first stage, or are it, stand as far apart as they can.

    At once they would wait for the one of them that trains it.
    """
    earlier: Counter[tuple[str, int]] = Counter()

    def place(run: Run) -> int:
        _, recipe, seed = run
        trained = (recipe.first() or recipe).sha256(), seed
        earlier[trained] += 1
        return earlier[trained]

    return sorted(runs, key=place)


class _Worker:
    """One process that runs are made in, one after the other, and its successor if it is killed.

    A pool of several would end with the first that is killed, and nobody could tell at which run it was.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.status: Status = RawValue(Status)
        """Where its run stands."""
        self.pool = self._new_pool()

    def submit(self, recipe: Recipe, seed: int, options: Options) -> Future[Outcome | BaseException]:
        self.status.epochs = 0
        task = partial(_attempt, recipe, seed, options, plugin_files(), remembered())
        try:
            return self.pool.submit(task)
        except BrokenProcessPool:
            self.pool = self._new_pool()
            return self.pool.submit(task)

    def _new_pool(self) -> ProcessPoolExecutor:
        # Spawned, because a forked process could not use CUDA.
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start_worker, (self.threads, self.status))


_status = Status()
"""Of the run of this process, where it is a worker."""


def _threads(jobs: int) -> int:
    """Of each of so many runs at once."""
    import torch  # noqa: PLC0415

    return max(1, torch.get_num_threads() // jobs)


def _start_worker(threads: int, status: Status) -> None:
    global _status  # noqa: PLW0603 (only the process that is started has it; it does not travel with a task)
    _status = status
    # Ctrl-C reaches every process: workers end at once, as by kill, which a run survives; only the sweep speaks.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_sweep, daemon=True).start()
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)


def _end_with_sweep() -> None:
    """Or a worker would wait for ever for the next run of a sweep that was killed."""
    sweep = multiprocessing.parent_process()
    assert sweep is not None
    sweep.join()
    os._exit(1)


def _shared(*arguments: Any) -> Shared:
    """Progress that the sweep shows."""
    return Shared(_status, *arguments)


def _attempt(
    recipe: Recipe, seed: int, options: Options, plugins: Sequence[Path], card_folders: Sequence[Path]
) -> Outcome | BaseException:
    """What a run gives, in a worker. Errors become ones of ours: another's class may not survive the way back."""
    try:
        for path in plugins:
            load_plugin(path)
        for folder in card_folders:
            remember(folder)
        return run(recipe, seed, options)
    except BudgetSpent as error:
        return error
    except UserError as error:
        return UserError(str(error))
    except (Exception, SystemExit) as error:
        _trace(error)
        return RunError(reason(error))


def _result(future: Future[Outcome | BaseException]) -> Outcome | BaseException:
    """What a worker gave back, or what became of it."""
    try:
        return future.result()
    except BrokenProcessPool:
        return RunError("its process was killed, perhaps for want of memory; the same command goes on from here")


def parse_budget(text: str) -> float:
    """A time such as 90s, 40m or 1.5h, in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if match is None:
        raise UserError(f"--budget {text}: expected a time such as 90s, 40m or 2h")
    return float(match[1]) * UNITS[match[2]]


def _trace(error: BaseException) -> None:
    if os.environ.get("LT_BENCH_TRACEBACK"):
        traceback.print_exception(error)


def reason(error: BaseException) -> str:
    """The error in one line; an unforeseen one, of a plug-in or of the hardware, with its type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError | RunError) else f"{type(error).__name__}: {text}".removesuffix(": ")


def _tell(title: str, outcome: Outcome) -> None:
    top1 = f"top-1 {100 * outcome.top1:.2f} %"
    state = "" if outcome.trained else "already done, "
    _say(f"{title}: {state}{top1}, {outcome.record}")


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)
