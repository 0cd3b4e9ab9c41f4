"""How long trainings will take: by records made on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from lt_bench import ranks
from lt_bench.data.opening import open_split
from lt_bench.data.spec import DataSpec
from lt_bench.errors import UserError
from lt_bench.leaderboard.record import Record, load_record, slug
from lt_bench.nodes import IDLE_TUNERS, mapping
from lt_bench.recipe import Recipe
from lt_bench.registry import members
from lt_bench.resources import resource_folder

if TYPE_CHECKING:
    from lt_bench.training.options import Options

MOST = 3
"""Records of a recipe that are looked at."""
BACKWARD = 3
"""A step costs so many times what a prediction of its images costs; with frozen features one time."""

Machine = tuple[str, int, str, str, int]
"""Processor or GPU, threads (0: of a GPU), precision, what is compiled, processes."""
Run = tuple[str, Recipe, int]
"""A run's title, recipe and seed."""
Training = tuple[str, int]
"""What is trained once: the sha256 of a recipe, and the seed."""


@dataclass(frozen=True)
class Data:
    """Of a split what a time depends on, and its digest."""

    digest: str
    train: int
    test: int


@dataclass(frozen=True)
class Estimate:
    """Seconds that a training takes, and where that is known from."""

    seconds: float
    source: str


@dataclass(frozen=True)
class Known:
    """A training whose time is on record."""

    sha256: str
    kind: str
    machine: Machine
    work: float
    seconds: float

    @classmethod
    def of(cls, record: Record) -> Known | None:
        if record.environment is None or record.timing is None:
            return None
        where, compiled = record.environment, record.environment.compile
        threads = where.threads if where.device == "cpu" else 0
        device = where.cpu if threads else where.device
        machine = (device, threads, where.precision, str(compiled or ""), where.processes)
        work = _work(record.recipe, sum(record.dataset.train_counts), record.test_images)
        return cls(record.recipe_sha256, _kind(record.recipe), machine, work, record.timing.wall_s)


@dataclass
class Estimator:
    """Knows the data and the records that trainings with these options have to do with; reads each once."""

    options: Options
    threads: int
    """That a training has."""
    records: dict[Path, Known | None] = field(default_factory=dict)
    splits: dict[DataSpec, Data | UserError] = field(default_factory=dict)

    def data(self, recipe: Recipe) -> Data | None:
        """None where the data cannot be opened."""
        found = self._opened(recipe.data)
        return found if isinstance(found, Data) else None

    def refusal(self, recipe: Recipe) -> UserError | None:
        """Why the data cannot be opened."""
        found = self._opened(recipe.data)
        return found if isinstance(found, UserError) else None

    def _opened(self, spec: DataSpec) -> Data | UserError:
        if spec not in self.splits:
            try:
                split = open_split(spec, self.options.data_root)
                self.splits[spec] = Data(split.digest, len(split.train.labels), len(split.test.labels))
            except UserError as error:
                self.splits[spec] = error
        return self.splits[spec]

    def done(self, runs: Iterable[Run]) -> set[str]:
        """Titles of the runs that have a record, as far as its name tells."""
        if self.options.force:
            return set()
        names = {path.name.split("-")[-1].split(".")[0] for path in self.options.records.rglob("seed*.json")}
        return {title for title, recipe, seed in runs if self._identity(recipe, seed) in names}

    def trainings(self, runs: Iterable[Run]) -> dict[Training, Recipe]:
        """What runs without a record have to train, first stages included, each once."""
        runs = list(runs)
        firsts = [(title, first, seed) for title, recipe, seed in runs if (first := recipe.first()) is not None]
        done = self.done(firsts)
        needed = [*(run for run in firsts if run[0] not in done), *runs]
        return {(recipe.sha256(), seed): recipe for _, recipe, seed in needed}

    def seconds(self, runs: Iterable[Run]) -> tuple[float, bool]:
        """Of all that runs without a record have to train, one after the other; whether nothing in it is unknown."""
        needed = self.trainings(runs)
        each = {sha256: self.of(recipe) for (sha256, _), recipe in needed.items()}
        found = [one.seconds for sha256, _ in needed if (one := each[sha256]) is not None]
        return sum(found), len(found) == len(needed)

    def of(self, recipe: Recipe) -> Estimate | None:
        """By records of this very recipe, or else of what costs the same; one's own before the shipped board's."""
        data = self.data(recipe)
        if data is None:
            return None
        own, shipped = self.options.records, resource_folder("leaderboard") / "v1" / "records"
        here, work = self.machine, _work(recipe.resolved(), data.train, data.test)
        known = [[one for one in self._near(folder, recipe) if one.machine == here] for folder in (own, shipped)]
        sha256 = recipe.sha256()
        for very in (True, False):
            for records, whose in zip(known, ("", " of the shipped board"), strict=True):
                fitting = [one for one in records if not very or one.sha256 == sha256]
                if fitting:
                    seconds = median(work * one.seconds / one.work for one in fitting)
                    what = "this recipe" if very else "what costs the same"
                    return Estimate(seconds, f"{len(fitting)} record{'s' * (len(fitting) > 1)}{whose} of {what}")
        return None

    @cached_property
    def machine(self) -> Machine:
        """On what these options compute."""
        from lt_bench.training.runtime import COMPILE_FROM_STEPS, choose_runtime  # noqa: PLC0415 (torch)

        options = self.options
        found = choose_runtime(options.device, options.precision, options.compile, COMPILE_FROM_STEPS)
        threads = self.threads if found.device.type == "cpu" else 0
        return found.device_name, threads, found.precision, found.compiled or "", ranks.count()

    def _identity(self, recipe: Recipe, seed: int) -> str:
        """As far as it stands in the name of a record."""
        data = self.data(recipe)
        return "" if data is None else recipe.identity(data.digest, seed)[:12]

    def _near(self, folder: Path, recipe: Recipe) -> Iterator[Known]:
        """Records below a folder of what costs the same as a recipe."""
        kind = _kind(recipe.resolved())
        for home in folder.glob(f"{slug(recipe.data.name)}*/*/*"):
            for path in sorted(home.glob("seed*.json"))[:MOST]:
                if path not in self.records:
                    self.records[path] = None
                    with suppress(UserError):  # said by who needs this record
                        self.records[path] = Known.of(load_record(path))
                known = self.records[path]
                if known is not None and known.kind == kind and known.work and known.seconds:
                    yield known


def _kind(recipe: Mapping[str, Any]) -> str:
    """Equal for resolved recipes of which an epoch costs the same on the same data."""
    stage = recipe.get("second_stage")
    protocol, parts = recipe["protocol"], recipe["phases"] if stage is None else [stage]
    costs = sorted({_cost(kind, part[kind]["name"]) for part in parts for kind in ("mix", "loss")} - {"1x"})
    procedure = recipe["method"] if stage is None else {"name": stage["stage"]["name"]}
    same = [recipe["data"]["name"], recipe["model"], procedure, protocol["batch_size"], protocol["augmentation"], costs]
    same += [recipe.get("regularise", {}), protocol.get("batch_augmentation"), recipe.get("views")]
    return json.dumps(same, sort_keys=True)


def _cost(kind: str, name: str) -> str:
    component = members(kind).get(name)
    return name if component is None else component.info.cost


def _work(recipe: Mapping[str, Any], train: int, test: int) -> float:
    """What a training of so many images, evaluated on so many, costs: in predictions of an image."""
    stage, protocol = recipe.get("second_stage"), recipe["protocol"]
    idle = mapping(recipe["model"].get("tuner")).get("name") in IDLE_TUNERS
    epochs = stage["stage"]["epochs"] if stage is not None else 0 if idle else protocol["epochs"]
    evaluations = max(1, -(-epochs // protocol["evaluate_every"]))
    return float((BACKWARD if stage is None else 1) * epochs * train + evaluations * test)


def grouped(runs: Sequence[Run]) -> list[str]:
    """Runs by their recipes: `digits-lt/ce digits-demo seeds 0, 1`."""
    seeds: dict[str, list[str]] = {}
    for title, _, seed in runs:
        seeds.setdefault(title.removesuffix(f" seed {seed}"), []).append(str(seed))
    return [f"{title} seed{'s' * (len(all_) > 1)} {', '.join(all_)}" for title, all_ in seeds.items()]


def counted(runs: int) -> str:
    return f"{runs} run{'s' * (runs != 1)}"
