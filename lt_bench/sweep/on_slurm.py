"""Runs as jobs of a SLURM cluster, submitted by submitit (extra `slurm`)."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lt_bench.durations import parse_time
from lt_bench.errors import RunError, UserError
from lt_bench.estimates import Run
from lt_bench.settings import Line, Settings
from lt_bench.sweep.cluster import Cluster
from lt_bench.sweep.elsewhere import Back, Sent, asked, check_extra, marked
from lt_bench.sweep.engines import Result
from lt_bench.sweep.packed import reason
from lt_bench.sweep.report import Report
from lt_bench.training.options import Options

MARGIN_S = 600
"""Beyond the budget, for the epoch that goes on when it is spent."""
TIMEOUTS = 20
"""So often a run that takes longer than `time` is requeued, each time from its last finished epoch."""


class Resources(Settings):
    """What each job asks for; of what is left out the cluster's own default, which $SBATCH_... variables can set."""

    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    constraint: Line | None = None
    time: Line | None = None
    """Of a job. Default: the budget and ten minutes, or a day."""
    gpus: int | None = Field(default=None, ge=0)
    cpus: int | None = Field(default=None, ge=1)
    memory: int | None = Field(default=None, ge=1)
    """GB."""


@dataclass(frozen=True)
class Slurm:
    """A job array of one job a run. On the `cluster` local the same jobs are processes of this machine."""

    resources: Resources
    jobs: int | None = None
    cluster: Literal["slurm", "local"] = "slurm"

    def __post_init__(self) -> None:
        check_extra("submitit", "slurm")
        if self.resources.time is not None:
            parse_time(self.resources.time, "--resources time")

    @property
    def place(self) -> str:
        return f"on SLURM{' (local)' * (self.cluster == 'local')}, a job each{asked(self.jobs, self.resources)}"

    def results(self, runs: Sequence[Run], options: Options, report: Report) -> Generator[Result]:
        jobs = _Jobs(self.executor(options), self)
        with marked(options) as home:
            yield from jobs.follow(runs, options, home)

    def executor(self, options: Options) -> Any:
        """What submits jobs that ask for the resources. Raises UserError where there is no SLURM."""
        import submitit  # noqa: PLC0415

        timeouts = {"slurm_max_num_timeout": TIMEOUTS, "local_max_num_timeout": TIMEOUTS}
        try:
            executor = submitit.AutoExecutor(options.work / "slurm", cluster=self.cluster, **timeouts)
        except RuntimeError:
            text = "finds no srun on this machine; start it where jobs are submitted, or try the jobs --on slurm:local"
            raise UserError(f"--on slurm: {text}") from None
        executor.update_parameters(**self.parameters(options))
        return executor

    def parameters(self, options: Options) -> dict[str, Any]:
        """As submitit calls them."""
        given = self.resources
        left = 24 * 3600 if options.deadline is None else options.deadline - time.monotonic() + MARGIN_S
        seconds = left if given.time is None else parse_time(given.time, "--resources time")
        named = {f"slurm_{name}": getattr(given, name) for name in ("partition", "account", "qos", "constraint")}
        named |= {"gpus_per_node": given.gpus, "cpus_per_task": given.cpus, "mem_gb": given.memory}
        named |= {"name": "lt-bench", "timeout_min": math.ceil(seconds / 60), "slurm_array_parallelism": self.jobs}
        return {name: value for name, value in named.items() if value is not None}


class Job:
    """What is pickled for a job; submitit asks it what to requeue when SLURM is about to take its machine away."""

    def __init__(self, sent: Sent) -> None:
        self.sent = sent
        self.requeued = False

    def __call__(self) -> Back:
        self.process = os.getpid()
        return self.sent.make(leaving=lambda: self.requeued)

    def checkpoint(self) -> Any:
        """The same run, which goes on from its last finished epoch."""
        from submitit.helpers import DelayedSubmission  # noqa: PLC0415

        if os.getpid() != self.process:  # the signal reaches forked processes, such as those that decode, too
            return None
        self.requeued = True
        return DelayedSubmission(Job(self.sent))


class _Jobs(Cluster[Any]):
    """Jobs of submitit."""

    def __init__(self, executor: Any, engine: Slurm) -> None:
        here = engine.cluster == "local"
        # Of an array SLURM itself runs no more than `jobs` at once, so it gets all of them.
        super().__init__(engine.jobs if here else None)
        self.executor = executor
        self.every = 0.2 if here else 5.0
        """Seconds from one look for results to the next."""

    def submit(self, runs: Sequence[Sent]) -> Sequence[Any]:
        try:
            jobs: Sequence[Any] = self.executor.submit_array([Job(run) for run in runs])
        except Exception as error:  # whatever sbatch and the file system have against it
            raise UserError(f"--on slurm: the jobs were not taken: {reason(error)}") from error
        ids = " to ".join(dict.fromkeys(jobs[end].job_id for end in (0, -1)))
        print(f"submitted as {ids}, logs in {self.executor.folder}", file=sys.stderr, flush=True)
        return jobs

    def ended(self, jobs: Collection[Any]) -> Collection[Any]:
        time.sleep(self.every)
        return [job for job in jobs if job.done()]

    def result(self, job: Any) -> Back:
        try:
            back: Back = job.result()
        except Exception:  # of many kinds, with the whole log in it
            ended = f"its job {job.job_id} ended without a result ({job.state})"
            return Back(RunError(f"{ended}, see {job.paths.stderr}; the same command goes on from here"), {})
        return back

    def cancel(self, job: Any) -> None:
        job.cancel(check=False)

    def waits(self, job: Any) -> bool:
        return not Path(job.paths.stderr).exists()
