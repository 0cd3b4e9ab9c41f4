"""Runs as tasks of a Ray cluster (extra `ray`): one that is running, or one of this machine for as long as a sweep."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field, field_validator

from lt_bench.errors import RunError, UserError
from lt_bench.estimates import Run
from lt_bench.settings import Settings
from lt_bench.sweep.cluster import Cluster
from lt_bench.sweep.elsewhere import Back, Sent, asked, check_extra, marked
from lt_bench.sweep.engines import Result
from lt_bench.sweep.packed import reason
from lt_bench.sweep.report import Report
from lt_bench.training.options import Options

LOST = 3
"""So often Ray begins a run again whose process or machine was lost."""


class Resources(Settings):
    """What each run takes of the cluster."""

    gpus: float | None = Field(default=None, ge=0)
    """Default: one where the cluster has any. Below one, so many runs share a card, whose memory nothing divides."""
    cpus: int = Field(default=1, ge=1)
    """Also its threads."""
    memory: int | None = Field(default=None, ge=1)
    """GB. Ray counts it, and limits nothing."""

    @field_validator("gpus")
    @classmethod
    def _of_one_or_whole(cls, gpus: float | None) -> float | None:
        if gpus is not None and gpus > 1 and gpus % 1:
            raise ValueError("should be a share of one GPU or a number of whole ones")
        return gpus


@dataclass(frozen=True)
class Ray:
    """A task a run. Of `jobs` at once no more begin than the cluster has room for."""

    resources: Resources
    jobs: int | None = None
    address: str = "local"
    """As `ray.init` takes it; `local` begins a cluster that ends with the sweep."""

    def __post_init__(self) -> None:
        check_extra("ray", "ray")

    @property
    def where(self) -> str:
        return "of this machine" if self.address == "local" else f"at {self.address}"

    @property
    def place(self) -> str:
        return f"on a Ray cluster {self.where}, a task each{asked(self.jobs, self.resources)}"

    def results(self, runs: Sequence[Run], options: Options, report: Report) -> Generator[Result]:
        with self.connected() as ray, marked(options) as home:
            task, options = self.task(ray, options)
            yield from _Tasks(ray, task, self).follow(runs, options, home)

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """Ray, with the cluster. Raises UserError where there is none at the address."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unless it is asked for
        # Of a task without GPUs Ray hides none of them; this will be its default.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray  # noqa: PLC0415

        begun = not ray.is_initialized()
        if begun:
            try:
                ray.init(address=self.address, logging_level=logging.ERROR, **self._own())
            except Exception as error:  # of many kinds, for an address that is wrong or does not answer
                raise UserError(f"--on ray: no cluster {self.where}: {reason(error)}") from error
        try:
            yield ray
        finally:
            if begun:
                ray.shutdown()

    def _own(self) -> dict[str, Any]:
        return {"include_dashboard": False} if self.address == "local" else {}

    def task(self, ray: Any, options: Options) -> tuple[Any, Options]:
        """What makes a run with its resources, and what it is told of them. Raises UserError for impossible ones."""
        given, gpus = self.resources, self.resources.gpus
        if gpus is None:
            gpus = float(options.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0)
        if not gpus and options.device == "cuda":
            raise UserError("--device cuda: --on ray a run without gpus has none; add --resources gpus=1")
        memory = {} if given.memory is None else {"memory": given.memory * 2**30}
        made = ray.remote(num_cpus=given.cpus, num_gpus=gpus, max_retries=LOST, **memory)(_make)
        # Without GPUs of its own a run would see all of the machine's.
        return made, options if gpus else replace(options, device="cpu")


class _Tasks(Cluster[Any]):
    """Tasks of Ray."""

    def __init__(self, ray: Any, task: Any, engine: Ray) -> None:
        super().__init__(engine.jobs)
        self.ray, self.task, self.threads = ray, task, engine.resources.cpus

    def submit(self, runs: Sequence[Sent]) -> Sequence[Any]:
        return [self.task.remote(run, self.threads) for run in runs]

    def ended(self, jobs: Collection[Any]) -> Collection[Any]:
        found: Collection[Any] = self.ray.wait([*jobs], timeout=1)[0]
        return found

    def result(self, job: Any) -> Back:
        try:
            back: Back = self.ray.get(job)
        except Exception as error:  # the cluster's, whose messages are pages long
            said = f"its worker was lost {LOST + 1} times or could not begin ({reason(error)[:300]})"
            return Back(RunError(f"{said}; the same command goes on from here"), {})
        return back

    def cancel(self, job: Any) -> None:
        self.ray.cancel(job, force=True)


def _make(sent: Sent, threads: int) -> Back:
    """In a worker of the cluster."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)
    return sent.make()
