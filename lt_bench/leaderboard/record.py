"""The record of one finished run: its schema, and how it is written once and read for ever."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import gt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

import numpy as np
from filelock import FileLock
from pydantic import Field, ValidationError, model_validator

from lt_bench.errors import UserError
from lt_bench.evaluation.metrics import CalibrationBins, calibration_bins, per_class_counts
from lt_bench.settings import Settings, added

if TYPE_CHECKING:  # Imports torch, which reading records does not need.
    from lt_bench.evaluation.predictions import Predictions

T = TypeVar("T")

MAX_RECORD_BYTES = 32 * 2**20

Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$", max_length=500)]
"""Any text on one line; whoever prints it escapes it."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Counts = tuple[Count, ...]
Fraction = Annotated[float, Field(ge=0, le=1)]
SelectionRule = Literal["last", "best-on-val", "best-on-test"]


class Protocol(Settings):
    """The shared training settings: records of different protocols never meet in one table."""

    name: Name
    version: int | Name
    modified: bool
    """Whether the recipe or an override changed a setting that the protocol fixes."""
    sha256: Sha256
    """Of the resolved protocol, so that a modified one is a protocol of its own."""


class Dataset(Settings):
    """The exact training images."""

    name: Name
    version: int | Name
    factor: float | None
    """Size of the largest class over the smallest, None where the profile has no such parameter."""
    profile: Name | None
    subset_seed: int
    index_sha256: Sha256
    content_sha256: Sha256
    content_kind: Name
    """What the content digest is taken over."""
    test_sha256: Sha256
    """Of the test images and labels in the order of the predictions."""
    validation_sha256: Sha256 | None
    """Digest of the validation indices, None without a validation part."""
    class_names: tuple[Name, ...]
    train_counts: Counts


class Environment(Settings):
    """Where and how the run was computed."""

    commit: Name | None
    dirty: bool | None
    python: Name
    torch: Name
    torchvision: Name
    numpy: Name
    platform: Name
    device: Name
    cpu: Name
    threads: Count
    precision: Name
    compile: bool | Name
    """What was compiled; False: nothing."""


class Timing(Settings):
    """What the run cost."""

    wall_s: float
    """Seconds of training and evaluation, interruptions excluded."""
    train_images_per_s: float
    peak_memory_mb: float | None
    """Allocated by the run on a CUDA device; on the host that of the process, earlier runs of a sweep included."""
    epochs: Count
    resumed: Count
    """How often the run went on from a checkpoint."""


class FirstStage(Settings):
    """The run whose network a second stage started from."""

    identity: Sha256
    wall_s: float | None
    """Seconds that it took, where known: a second stage costs them as well."""
    top1: Fraction | None = added(None)
    """On the test images after the last epoch. It need not be that of a record: weights can be made again elsewhere."""
    precision: Name | None = added(None)
    device: Name | None = added(None)


class Calibration(Settings):
    """Predictions in 15 equal bins of confidence; see `CalibrationBins`."""

    count: Counts
    correct: Counts
    confidence_sum: tuple[float, ...]

    @property
    def bins(self) -> CalibrationBins:
        return CalibrationBins(np.array(self.count), np.array(self.correct), np.array(self.confidence_sum))


class Selection(Settings):
    """Counts on the test set after one epoch. Every metric is derived from them."""

    epoch: Count
    """Index of the epoch, from 0."""
    correct: Counts
    """Right predictions per class."""
    total: Counts
    """Test images per class."""
    calibration: Calibration

    @classmethod
    def of(cls, predictions: Predictions, epoch: int, num_classes: int) -> Self:
        """Count the test predictions made after `epoch`."""
        correct, total = per_class_counts(predictions.labels, predictions.predicted, num_classes)
        bins = calibration_bins(predictions.labels, predictions.predicted, predictions.confidence)
        calibration = Calibration(**{name: tuple(values.tolist()) for name, values in vars(bins).items()})
        counts = {"correct": tuple(correct.tolist()), "total": tuple(total.tolist())}
        return cls(epoch=epoch, calibration=calibration, **counts)

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        _same_length(correct=self.correct, total=self.total)
        bins = self.calibration
        _same_length(**{f"calibration.{name}": values for name, values in bins})
        for what, correct, total in (("class", self.correct, self.total), ("bin", bins.correct, bins.count)):
            exceeding = list(map(gt, correct, total))
            if True in exceeding:
                wrong = exceeding.index(True)
                raise ValueError(f"{what} {wrong} has {correct[wrong]} correct of {total[wrong]}")
        if (sum(bins.correct), sum(bins.count)) != (sum(self.correct), sum(self.total)):
            raise ValueError("the calibration bins and the classes count different predictions")
        if not sum(self.total):
            raise ValueError("there are no test images")
        return self


class Curve(Settings):
    """Training epoch by epoch, one column per quantity. Columns, because ten thousand records are read at once."""

    epoch: Counts = ()
    lr: tuple[float, ...] = ()
    train_loss: tuple[float, ...] = ()
    """NaN or infinite once a run has diverged."""
    test_top1: tuple[Fraction | None, ...] = ()
    """None after epochs without an evaluation; likewise `val_top1`."""
    val_top1: tuple[Fraction | None, ...] = ()

    @classmethod
    def of(cls, epochs: Iterable[Mapping[str, Any]]) -> Self:
        """Collect rows, one per epoch, whose keys are the names of the columns; a missing key is None."""
        rows = list(epochs)
        columns: dict[str, Any] = {name: tuple(row.get(name) for row in rows) for name in cls.model_fields}
        return cls(**columns)

    @model_validator(mode="after")
    def _epochs_agree(self) -> Self:
        _same_length(**dict(self))
        return self


class PredictionsFile(Settings):
    """The side file with the test predictions of `last`, beside the record."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.npz$")]
    sha256: Sha256


class Record(Settings):
    """One finished run, never edited.

    `identity` is the digest of resolved recipe, split and seed. `predictions` is filled in by `write_record`.
    """

    schema_version: Literal[1] = 1
    benchmark_version: Name
    created: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)$")]
    """UTC, ISO 8601."""
    identity: Sha256
    recipe_name: Name
    recipe: dict[str, Any]
    """The resolved recipe."""
    recipe_sha256: Sha256
    overrides: tuple[Name, ...]
    """The `key=value` of the command line that made this another method than the recipe's."""
    protocol: Protocol
    dataset: Dataset
    seed: int
    environment: Environment
    timing: Timing
    first_stage: FirstStage | None = added(None)
    selections: dict[SelectionRule, Selection]
    """By rule. `best-on-test` is a diagnostic: nothing is ranked by it."""
    curve: Curve
    predictions: PredictionsFile | None = None

    @model_validator(mode="after")
    def _classes_agree(self) -> Self:
        if "last" not in self.selections:
            raise ValueError("selections.last is missing")
        names, counts = self.dataset.class_names, self.dataset.train_counts
        totals = {f"selections.{rule}.total": selection.total for rule, selection in self.selections.items()}
        _same_length(**{"dataset.class_names": names, "dataset.train_counts": counts} | totals)
        if len(set(totals.values())) > 1:
            raise ValueError("the selections have different test sets")
        return self


def write_record(record: Record, predictions: Predictions, folder: Path) -> Path:
    """Write a record and its predictions, both or neither, and return the record's path.

    An existing record of the same identity stays; the new one becomes its next revision.

    Args:
        record: The finished run.
        predictions: Of the selection `last`, on the test set.
        folder: Root of the record tree; sub-folders are made as needed.

    Raises:
        UserError: The files cannot be written, for example because the disk is full.
    """
    home = folder / record_folder(record)
    arrays = _pack(predictions)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock"):  # or two processes could choose the same free path
            path = _free_path(home, f"seed{record.seed}-{record.identity[:12]}")
            side = path.with_suffix(".npz")
            stored = PredictionsFile(file=side.name, sha256=hashlib.sha256(arrays).hexdigest())
            text = to_json(record.model_copy(update={"predictions": stored}))
            _write_all({side: arrays, path: text.encode()})
    except OSError as error:
        raise UserError(f"{home}: the record could not be written: {error.strerror or error}") from None
    return path


def record_folder(record: Record) -> Path:
    """Where a record lies below the root: data set, protocol, recipe."""
    return Path(dataset_slug(record.dataset), slug(record.protocol.name), slug(record.recipe_name))


def dataset_slug(dataset: Dataset) -> str:
    """The data set and what distinguishes its split, as part of a file name: `cifar10-lt-if100-step-split3`."""
    factor = "" if dataset.factor is None else f"-if{dataset.factor:g}"
    step = "-step" if dataset.profile == "step" else ""
    split = f"-split{dataset.subset_seed}" if dataset.subset_seed else ""
    return slug(f"{dataset.name}{factor}{step}{split}")


def slug(name: str) -> str:
    """A name as part of a path: no separators, no leading dot."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip(".-")[:100] or "unnamed"


def find_record(folder: Path, identity: str) -> Path | None:
    """The latest record of a run below `folder`, looked up by file name; None if there is none."""
    found = [path for path in folder.rglob(f"seed*-{identity[:12]}*.json") if not path.name.startswith(".")]
    return max(found, key=revision, default=None)


def revision(path: Path) -> tuple[int, str]:
    """Sorts the records of one identity from the first to the latest."""
    match = re.search(r"\.r(\d{1,9})\.json$", path.name)
    return (int(match[1]) if match else 1), str(path)


def load_record(path: Path) -> Record:
    """Read a record. Raises UserError naming the file and the field that is wrong."""
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            raise UserError(f"{path}: larger than {MAX_RECORD_BYTES >> 20} MiB, which no record is")
        return Record.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: not readable: {error.strerror or error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "record"
        raise UserError(f"{path}: {field}: {' '.join(first['msg'].split())}") from None


def iter_records(folder: Path) -> Iterator[tuple[Path, Record]]:
    """All records below `folder`, every revision, in the order of their paths. Raises UserError for a bad file."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of records")
    for path in sorted(folder.rglob("*.json"), key=lambda path: path.relative_to(folder).parts):
        if not path.name.startswith("."):
            yield path, load_record(path)


def load_records(folder: Path) -> list[tuple[Path, Record]]:
    """The list of `iter_records`."""
    return list(iter_records(folder))


def latest(folder: Path, make: Callable[[Record], T]) -> list[T]:
    """`make` of the latest revision of each run below `folder`, in the order of their paths.

    Records are read one by one and dropped, so that memory holds only what `make` keeps of them.
    """
    newest: dict[str, tuple[tuple[int, str], T]] = {}
    for path, record in iter_records(folder):
        order = revision(path)
        if record.identity not in newest or order > newest[record.identity][0]:
            newest[record.identity] = order, make(record)
    return [made for _, made in newest.values()]


def load_predictions(path: Path, record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes int16 [N] and confidences float16 [N] that belong to the record at `path`.

    Raises UserError where the side file is missing or is not the one that the record was written with.
    """
    if record.predictions is None:
        raise UserError(f"{path}: the record names no predictions")
    side = path.with_name(record.predictions.file)
    try:
        data = side.read_bytes()
    except OSError as error:
        raise UserError(f"{side}: not readable: {error.strerror or error}") from None
    if hashlib.sha256(data).hexdigest() != record.predictions.sha256:
        raise UserError(f"{side}: not the file that {path.name} was written with (its sha256 differs)")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return arrays["predicted"], arrays["confidence"]


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


def _same_length(**columns: tuple[Any, ...]) -> None:
    if len({len(values) for values in columns.values()}) > 1:
        lengths = ", ".join(f"{name} has {len(values)}" for name, values in columns.items())
        raise ValueError(f"lengths differ: {lengths}")


def _pack(predictions: Predictions) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        predicted=predictions.predicted.astype(np.int16),
        confidence=predictions.confidence.astype(np.float16),
    )
    return buffer.getvalue()


def _free_path(folder: Path, stem: str) -> Path:
    path, number = folder / f"{stem}.json", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}.r{number}.json"
    return path


def _write_all(files: Mapping[Path, bytes]) -> None:
    """Write files that do not exist yet, all or none; the last one appears last."""
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in files}
    try:
        for path, data in files.items():
            with temporary[path].open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path in files:
            temporary[path].replace(path)
    except BaseException:
        for path in [*temporary.values(), *files]:
            path.unlink(missing_ok=True)
        raise
