"""Records of trained networks under attack: files of their own kind, written once. Records of runs never change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from operator import gt
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from filelock import FileLock
from pydantic import Field, FiniteFloat, ValidationError, model_validator

from lt_bench.data.reading import read_bytes
from lt_bench.errors import UserError
from lt_bench.files import in_words, write_atomically
from lt_bench.leaderboard.dataset import Dataset
from lt_bench.leaderboard.fields import Count, Counts, Name, Sha256
from lt_bench.leaderboard.record import MOST_BYTES, dataset_slug, revision, slug
from lt_bench.leaderboard.schema import Environment, Protocol
from lt_bench.leaderboard.seal import check_seal, sealed
from lt_bench.robustness.trials import Norm, Trial
from lt_bench.settings import Settings, added


class Result(Settings):
    """What a trial left."""

    trial: Trial
    correct: Counts
    """Images of each class that were still right."""
    version: Name | None = None
    """Of the library that searched; None: this suite did."""


class RobustRecord(Settings):
    """A trained network looked at under some trials, on images that are told to the byte."""

    kind: Literal["robustness"] = "robustness"
    schema_version: Literal[1] = 1
    benchmark_version: Name
    created: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)$")]
    """UTC, ISO 8601."""
    identity: Sha256
    """That of the run whose weights they are."""
    weights_sha256: Sha256
    """Of the weights' file."""
    recipe_name: Name
    recipe: dict[str, Any]
    recipe_sha256: Sha256
    overrides: tuple[Name, ...]
    protocol: Protocol
    dataset: Dataset
    """With the digest of the whole test set."""
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    environment: Environment
    wall_s: Annotated[FiniteFloat, Field(ge=0)]
    norm: Norm
    radius: Annotated[FiniteFloat, Field(ge=0)]
    """Of the ball, in 255ths."""
    sample: Count | None
    """Test images of each class that were looked at, the first ones; None: all."""
    total: Counts
    """How many these are by class."""
    clean: Counts
    """Of them right as they are."""
    results: tuple[Result, ...]
    worst: Counts
    """Right as they are and under all trials that search for the worst."""
    sha256: Sha256 | None = added(None)
    """Of all that stands before it in its file."""

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        classes = len(self.dataset.class_names)
        searched = [one.correct for one in self.results if one.trial.harms]
        columns = {"clean": self.clean, "worst": self.worst, **{one.trial.name: one.correct for one in self.results}}
        for name, counts in columns.items():
            if len(counts) != classes or len(self.total) != classes:
                raise ValueError(f"{name}: {len(counts)} classes of {classes}")
            if any(map(gt, counts, self.total)):
                raise ValueError(f"{name}: more right than there are images")
        if any(any(map(gt, counts, self.clean)) for counts in searched):
            raise ValueError("an attack leaves more right than there were without it")
        if any(any(map(gt, self.worst, counts)) for counts in (self.clean, *searched)):
            raise ValueError("worst: more than an attack has left")
        return self

    @property
    def asked(self) -> str:
        """Digest of what was asked: one weights' file, the trials and the images."""
        return asked(self.weights_sha256, tuple(one.trial for one in self.results), self.sample)

    @cached_property
    def columns(self) -> dict[str, Counts]:
        """Right images by class as they are, under each trial and in the worst case."""
        found = {"clean": self.clean, **{one.trial.name: one.correct for one in self.results}}
        return found | ({"worst case": self.worst} if any(one.trial.harms for one in self.results) else {})


def asked(weights_sha256: str, trials: tuple[Trial, ...], sample: int | None) -> str:
    """Digest of weights, trials and images, so that the same question is not answered twice."""
    told = [weights_sha256, [trial.model_dump(mode="json") for trial in trials], sample]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def write(record: RobustRecord, folder: Path) -> Path:
    """Write a record below a folder; one that answers the same question stays. Raises UserError."""
    home = folder / dataset_slug(record.dataset) / slug(record.protocol.name) / slug(record.recipe_name)
    stem = f"seed{record.seed}-{record.identity[:12]}-{record.asked[:12]}"
    data = record.model_dump(mode="json", exclude={"sha256"})
    lines = ",\n".join(f' "{key}": {json.dumps(value)}' for key, value in data.items())
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock"):
            path, number = home / f"{stem}.json", 1
            while path.exists():
                number += 1
                path = home / f"{stem}.r{number}.json"
            write_atomically(path, sealed("{\n" + lines + "\n}\n").encode())
    except OSError as error:
        raise UserError(f"{home}: the record could not be written: {in_words(error)}") from None
    return path


def load(path: Path) -> RobustRecord:
    """A record. Raises UserError, naming the file, for any other file and for one that was changed."""
    data = read_bytes(path, "record of robustness", MOST_BYTES)
    try:
        check_seal(data)
        return RobustRecord.read(json.loads(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {where}: {first['msg']}".replace(": : ", ": ")) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a record of robustness: {' '.join(str(error).split())[:200]}") from None


def every(folder: Path) -> Iterator[tuple[Path, RobustRecord]]:
    """All records below a folder, the older revisions of each first."""
    paths = [path for path in folder.rglob("seed*.json") if not path.name.startswith(".")]
    for path in sorted(paths, key=lambda one: (one.parent, revision(one))):
        yield path, load(path)


def find(folder: Path, question: str) -> Path | None:
    """The latest record that answers a question, by its digest."""
    paths = folder.rglob(f"seed*-{question[:12]}*.json")
    found = [path for path in paths if not path.name.startswith(".") and load(path).asked == question]
    return max(found, key=revision, default=None)
