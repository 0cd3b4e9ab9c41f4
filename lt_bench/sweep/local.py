"""Runs on this machine: one after the other in this process, or several at once in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.sharedctypes import RawValue
from typing import Any, ClassVar

from lt_bench.errors import RunError
from lt_bench.estimates import Run
from lt_bench.sweep import packed
from lt_bench.sweep.engines import Result, spread
from lt_bench.sweep.packed import Packed
from lt_bench.sweep.report import Live, Report
from lt_bench.training.options import BudgetSpent, Options, Outcome
from lt_bench.training.progress import Lines, Shared, Status


@dataclass(frozen=True)
class Local:
    """Makes runs on this machine. Of several at once each has a process of its own, with its part of the threads."""

    jobs: int = 1
    place: ClassVar[str] = ""

    def results(self, runs: Sequence[Run], options: Options, report: Report) -> Generator[Result]:
        return one_by_one(runs, options) if self.jobs == 1 else _at_once(runs, options, self.jobs, report)


def one_by_one(runs: Sequence[Run], options: Options) -> Generator[Result]:
    """In this process."""
    for title, recipe, seed in runs:
        try:
            result: Outcome | BaseException = packed.run(recipe, seed, replace(options, title=title))
        except (Exception, SystemExit) as error:
            result = error
        yield title, result
        if isinstance(result, BudgetSpent):
            return


def _at_once(runs: Sequence[Run], options: Options, jobs: int, report: Report) -> Generator[Result]:
    live = Live(report)
    # Bars of several processes would overwrite each other; a run may be the first stage of another that began with it.
    options = replace(options, progress=_shared if live.active else Lines, wait=True)
    pending = deque(spread(runs))
    free = [_Worker(threads_of(jobs)) for _ in range(min(jobs, len(pending)))]
    running: dict[Future[Outcome | BaseException], tuple[str, _Worker]] = {}
    try:
        with live:
            while pending or running:
                while pending and free:
                    run = pending.popleft()
                    worker = free.pop()
                    running[worker.submit(Packed.of(run, options))] = run[0], worker
                    report.begins(run[0])
                live.show({title: worker.status for title, worker in running.values()})
                for future in wait(running, timeout=live.every, return_when=FIRST_COMPLETED).done:
                    title, worker = running.pop(future)
                    free.append(worker)
                    yield title, _result(future)
    finally:
        busy = [worker for _, worker in running.values()]  # where this ends early
        for worker in busy:
            worker.end_run()
        for worker in [*free, *busy]:
            worker.pool.shutdown(cancel_futures=True)


class _Worker:
    """One process that runs are made in, one after the other, and its successor if it is killed.

    A pool of several would end with the first that is killed, and nobody could tell at which run it was.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.status: Status = RawValue(Status)
        """Where its run stands."""
        self.pool = self._new_pool()

    def submit(self, run: Packed) -> Future[Outcome | BaseException]:
        self.status.epochs = 0
        try:
            return self.pool.submit(run.attempt)
        except BrokenProcessPool:
            self.pool = self._new_pool()
            return self.pool.submit(run.attempt)

    def end_run(self) -> None:
        """End the process in the middle of its run, which goes on from its checkpoint another time."""
        if self.status.pid:
            with suppress(ProcessLookupError):
                os.kill(self.status.pid, signal.SIGTERM)

    def _new_pool(self) -> ProcessPoolExecutor:
        self.status.pid = 0
        # Spawned, because a forked process could not use CUDA.
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start_worker, (self.threads, self.status))


_status = Status()
"""Of the run of this process, where it is a worker."""


def threads_of(jobs: int) -> int:
    """Of each of so many runs at once."""
    import torch  # noqa: PLC0415

    return max(1, torch.get_num_threads() // jobs)


def _start_worker(threads: int, status: Status) -> None:
    global _status  # noqa: PLW0603 (only the process that is started has it; it does not travel with a task)
    _status = status
    status.pid = os.getpid()
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


def _result(future: Future[Outcome | BaseException]) -> Outcome | BaseException:
    """What a worker gave back, or what became of it."""
    try:
        return future.result()
    except BrokenProcessPool:
        return RunError("its process was killed, perhaps for want of memory; the same command goes on from here")
