"""Records on disk: written once, read for ever, believed only where they do not contradict themselves."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock
from pydantic import ValidationError

from lt_bench.data.reading import read_bytes
from lt_bench.errors import RunError, UserError
from lt_bench.files import TEMPORARY, in_words, write_together
from lt_bench.leaderboard.belief import believe
from lt_bench.leaderboard.dataset import Dataset
from lt_bench.leaderboard.manifest import adding, check_manifest, record_paths
from lt_bench.leaderboard.schema import Curve, PredictionsFile, Record, Selection
from lt_bench.leaderboard.seal import check_seal, sealed
from lt_bench.leaderboard.side_file import check_predictions, pack, read_side_file, unpack
from lt_bench.leaderboard.track import condition

if TYPE_CHECKING:  # Imports torch, which reading records does not need.
    import numpy as np

    from lt_bench.evaluation.predictions import Predictions

__all__ = [
    "Curve",
    "Record",
    "Selection",
    "data_slug",
    "dataset_slug",
    "find_record",
    "iter_records",
    "latest",
    "load_predictions",
    "load_record",
    "load_records",
    "record_folder",
    "revision",
    "slug",
    "to_json",
    "write_record",
]

T = TypeVar("T")

MOST_BYTES = 2 * 2**20
MOST_VALUES = 100_000
"""What 8,142 classes and 400 epochs take, twice and one and a half times. Reading a value can take 2 kB."""


def write_record(record: Record, predictions: Predictions, folder: Path) -> Path:
    """Write a record and its predictions, both or neither, and return the record's path.

    An existing record of the same identity stays; the new one becomes its next revision.

    Args:
        record: The finished run.
        predictions: Of the selection `last`, on the test set.
        folder: Root of the record tree; sub-folders are made as needed.

    Raises:
        RunError: The record would not be believed, as that of a network which has diverged.
        UserError: The files cannot be written, for example because the disk is full.
    """
    try:
        check_predictions(predictions.predicted, predictions.confidence, record)
        believe(record)
    except ValueError as error:
        raise RunError(f"{record.recipe_name} seed {record.seed}: there is no record: {error}") from None
    with place(record, folder) as path:
        write_at(path, record, pack(predictions.predicted, predictions.confidence))
    return path


@contextmanager
def place(record: Record, folder: Path) -> Iterator[Path]:
    """The free path of a record below `folder`, which no other process takes until the block is left.

    Raises UserError where files cannot be written, there or in the block.
    """
    home = folder / record_folder(record)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with adding(folder) as listed, FileLock(home / ".lock"):
            for left in home.glob(TEMPORARY):  # by a process that was killed while it wrote
                left.unlink(missing_ok=True)
            path = _free_path(home, f"seed{record.seed}-{record.identity[:12]}")
            yield path
            if path.is_file():
                listed(path)
    except OSError as error:
        raise UserError(f"{home}: the record could not be written: {in_words(error)}") from None


def write_at(path: Path, record: Record, arrays: bytes) -> None:
    """Write a record, sealed anew, with its side file of these contents. Raises OSError, leaving neither."""
    side = path.with_suffix(".npz")
    stored = PredictionsFile(file=side.name, sha256=hashlib.sha256(arrays).hexdigest())
    text = to_json(record.model_copy(update={"predictions": stored, "sha256": None}))
    write_all({side: arrays, path: (sealed(text) if record.schema_version > 1 else text).encode()})


def record_folder(record: Record) -> Path:
    """Where a record lies below the root: data set with the condition, protocol, recipe."""
    return Path(data_slug(record), slug(record.protocol.name), slug(record.recipe_name))


def data_slug(record: Record) -> str:
    """The data set, and under what it was trained on: `cifar10-lt-if10-symmetric-0.4`."""
    return slug("-".join(filter(None, [dataset_slug(record.dataset), condition(record).slug])))


def dataset_slug(dataset: Dataset) -> str:
    """The data set and what distinguishes its split, as part of a file name: `cifar10-lt-if100-step-split3`."""
    factor = "" if dataset.factor is None else f"-if{dataset.factor:g}"
    step = "-step" if dataset.profile == "step" else ""
    split = f"-split{dataset.subset_seed}" if dataset.subset_seed else ""
    return slug(f"{dataset.name}{factor}{step}{split}")


@lru_cache(1024)
def slug(name: str) -> str:
    """A name as part of a path: no separators, no leading dot."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip(".-")[:100] or "unnamed"


def find_record(folder: Path, identity: str) -> Path | None:
    """The latest record of a run below `folder`; None if there is none. Raises UserError for one that is not valid."""
    named = (path for path in folder.rglob(f"seed*-{identity[:12]}*.json") if not path.name.startswith("."))
    found = [(age(path, record), path) for path in named if (record := load_record(path)).identity == identity]
    return max(found)[1] if found else None


def age(path: Path, record: Record) -> tuple[str, int, str]:
    """Sorts the records of one identity from the first to the latest: by when each was made, wherever it came from."""
    return record.created, *revision(path)


def revision(path: Path) -> tuple[int, str]:
    """Sorts the files of the records of one identity in the order in which they were written here."""
    match = re.search(r"\.r(\d{1,9})\.json$", path.name)
    return (int(match[1]) if match else 1), str(path)


def load_record(path: Path) -> Record:
    """Read a record. Raises UserError naming the file and the field that is wrong."""
    data = read_bytes(path, "record", MOST_BYTES)
    if len(data) > MOST_VALUES and data.count(b",") > MOST_VALUES:
        raise UserError(f"{path}: more than {MOST_VALUES} values, which no record has")
    try:
        record = Record.model_validate_json(data)
        believe(record)
        if record.schema_version > 1:
            check_seal(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "record"
        said = " ".join(first["msg"].split()).removeprefix("Value error, ")
        raise UserError(f"{path}: {field}: {said}") from None
    except ValueError as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    read_side_file(path, record)
    return record


def iter_records(folder: Path) -> Iterator[tuple[Path, Record]]:
    """All records below `folder`, every revision, in the order of their paths. Raises UserError for a bad file."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of records")
    for path in record_paths(folder):
        yield path, load_record(path)


def load_records(folder: Path) -> list[tuple[Path, Record]]:
    """The list of `iter_records`."""
    return list(iter_records(folder))


def latest(folder: Path, make: Callable[[Path, Record], T]) -> list[T]:
    """`make` of path and record of each run's latest revision below `folder`, in the order of the paths.

    Records are read one by one and dropped, so that memory holds only what `make` keeps of them. A folder that has a
    manifest is held against it first.
    """
    check_manifest(folder)
    newest: dict[str, tuple[tuple[str, int, str], T]] = {}
    for path, record in iter_records(folder):
        order = age(path, record)
        if record.identity not in newest or order > newest[record.identity][0]:
            newest[record.identity] = order, make(path, record)
    return [made for _, made in newest.values()]


def load_predictions(path: Path, record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes int16 [N] and confidences float16 [N] that belong to the record at `path`.

    Raises UserError where the side file is missing or is not the one that the record was written with.
    """
    data = read_side_file(path, record)
    try:
        return unpack(data, record)
    except ValueError as error:
        name = record.predictions and record.predictions.file
        raise UserError(f"{path.with_name(str(name))}: {' '.join(str(error).split())}") from None


def to_json(record: Record) -> str:
    """A record as it is stored: one field a line where that is readable, short things in one line."""
    return _layout(record.model_dump(mode="json"), "\n") + "\n"


def _layout(value: Any, newline: str) -> str:
    flat = json.dumps(value)
    nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict | list) for v in value))
    if not nested or len(flat) <= 120:
        return flat
    inner = newline + " "
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {_layout(item, inner)}" for key, item in value.items()]
        return "{" + inner + ("," + inner).join(lines) + newline + "}"
    return "[" + inner + ("," + inner).join(_layout(item, inner) for item in value) + newline + "]"


def _free_path(folder: Path, stem: str) -> Path:
    path, number = folder / f"{stem}.json", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}.r{number}.json"
    return path


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write files that do not exist yet, all or none; the last one appears last."""
    try:
        write_together(files)
    except BaseException:
        for path in files:
            path.unlink(missing_ok=True)
        raise
