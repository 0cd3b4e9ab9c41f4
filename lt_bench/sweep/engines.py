"""What makes the runs of a sweep, by the word that a command line has for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from lt_bench.errors import UserError, unknown
from lt_bench.estimates import Run
from lt_bench.settings import Settings
from lt_bench.sweep.report import Report
from lt_bench.training.options import Options, Outcome
from lt_bench.validation import validated
from lt_bench.yaml_files import parse_yaml

S = TypeVar("S", bound=Settings)
Result = tuple[str, Outcome | BaseException]
"""The title of a run, and what came of it."""
ENGINES = ("local", "slurm", "slurm:local", "ray", "ray:ADDRESS", "ray://HOST:PORT")


class Engine(Protocol):
    """Makes runs."""

    @property
    def jobs(self) -> int | None:
        """So many at once; None: as many as there is room for."""

    @property
    def place(self) -> str:
        """Where, as `on SLURM`; empty: on this machine, whose records tell how long they take."""

    def results(self, runs: Sequence[Run], options: Options, report: Report) -> Generator[Result]:
        """What comes of each run, as they end. A run that the deadline stopped, or kept from its begin, is BudgetSpent.

        Whoever stops asking stops the runs: they go on another time from their last finished epoch.
        """


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


def engine_named(on: str, jobs: int | None, resources: str | None) -> Engine:
    """The engine that `--on`, `--jobs` and `--resources` of a command line ask for.

    Raises UserError for another word, a wrong resource, and where what drives the engine is not installed.
    """
    kind, _, where = on.partition(":")
    if on in ("slurm", "slurm:local"):
        from lt_bench.sweep.on_slurm import Resources as OfSlurm  # noqa: PLC0415
        from lt_bench.sweep.on_slurm import Slurm  # noqa: PLC0415

        return Slurm(_parsed(resources, OfSlurm), jobs, "local" if where else "slurm")
    if on == "ray" or (kind == "ray" and where):
        from lt_bench.sweep.on_ray import Ray  # noqa: PLC0415
        from lt_bench.sweep.on_ray import Resources as OfRay  # noqa: PLC0415

        return Ray(_parsed(resources, OfRay), jobs, on if where.startswith("//") else where or "local")
    if on != "local":
        raise UserError(f"--on {unknown('engine', on, ENGINES)}")
    if resources is not None:
        raise UserError("--resources: runs on this machine share all of it; --jobs says among how many")
    from lt_bench.sweep.local import Local  # noqa: PLC0415

    return Local(jobs or 1)


def _parsed(text: str | None, kind: type[S]) -> S:
    """`partition=gpu,time=2h,gpus=1` as settings, each value read as YAML."""
    given = {}
    for pair in filter(None, (text or "").split(",")):
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--resources {text}: expected NAME=VALUE,NAME=VALUE such as gpus=1,cpus=8")
        given[name.strip()] = parse_yaml(value, f"--resources {pair}")
    found: S = validated(kind, given, Path("--resources"), "job")
    return found
