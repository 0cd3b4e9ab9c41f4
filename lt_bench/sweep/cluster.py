"""Jobs of a cluster, submitted and followed until they end; what a cluster has to say for that."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Generator, Sequence
from typing import Generic, TypeVar

from lt_bench.errors import UserError
from lt_bench.estimates import Run
from lt_bench.sweep.elsewhere import Back, Home, Sent
from lt_bench.sweep.engines import Result, spread
from lt_bench.training.options import BudgetSpent, Options, Outcome

J = TypeVar("J")
"""What the cluster's own library gives for a job."""


class Cluster(ABC, Generic[J]):
    """A cluster, which itself decides where and when a job runs.

    Args:
        at_once: So many jobs are submitted before one has to end; None: all.
    """

    def __init__(self, at_once: int | None) -> None:
        self.at_once = at_once

    @abstractmethod
    def submit(self, runs: Sequence[Sent]) -> Sequence[J]:
        """A job for each. Raises UserError where the cluster does not take them."""

    @abstractmethod
    def ended(self, jobs: Collection[J]) -> Collection[J]:
        """Those that have ended, after a while of waiting for one."""

    @abstractmethod
    def result(self, job: J) -> Back:
        """What a job gave that has ended."""

    @abstractmethod
    def cancel(self, job: J) -> None:
        """End it, if it runs as by kill, which a run survives."""

    def waits(self, job: J) -> bool:
        """Whether no machine has begun with it, so that it may be long before it learns that the budget is spent."""
        return False

    def follow(self, runs: Sequence[Run], options: Options, home: Home) -> Generator[Result]:
        """What comes of the runs, as they end. Jobs that nobody waits for any more are cancelled."""
        pending = deque(spread(runs))
        running: dict[J, str] = {}
        try:
            while pending or running:
                spent = options.deadline is not None and time.monotonic() > options.deadline
                free = 0 if spent else min(len(pending), (self.at_once or len(runs)) - len(running))
                batch = [pending.popleft() for _ in range(free)]
                if batch:
                    jobs = self.submit([Sent.of(run, options, home) for run in batch])
                    running |= {job: title for job, (title, _, _) in zip(jobs, batch, strict=True)}
                if spent:
                    yield from self._given_up(pending, running)
                for job in self.ended(running) if running else ():
                    yield running.pop(job), self._unpacked(job, options)
        finally:
            for job in running:
                self.cancel(job)

    def _given_up(self, pending: deque[Run], running: dict[J, str]) -> Generator[Result]:
        for job in [job for job in running if self.waits(job)]:
            self.cancel(job)
            yield running.pop(job), BudgetSpent()
        while pending:
            yield pending.popleft()[0], BudgetSpent()

    def _unpacked(self, job: J, options: Options) -> Outcome | BaseException:
        try:
            return self.result(job).unpack(options)
        except UserError as error:  # a record that cannot be read or written
            return error
