"""Predictions of any program, as a file: read as numbers and nothing else, and put into the test set's order."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np

from lt_bench.data.reading import lines_of, read_bytes
from lt_bench.errors import UserError, unknown

MOST_BYTES = 2**30
CLASSES = ("predicted", "class", "prediction")
"""What the predicted class may be called."""
SCORES = ("probabilities", "probs", "logits")
"""Arrays [N, C]; a CSV has columns that begin so, as `logit_0` or `prob_0`."""
COLUMNS = {"prob_": "probabilities", "logit_": "logits"}
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, NotImplementedError, RuntimeError)
UNREADABLE = (*DAMAGED, ValueError, TypeError, OSError, SyntaxError, TokenError, MemoryError)
"""What zipfile and NumPy, which parses the head of an array, raise for a file that is none of theirs."""
ROOM = 1e-3
"""How far probabilities may sum past 1: some programs keep them in half precision."""


@dataclass(frozen=True)
class Submitted:
    """One row per test image, in the order of the test set."""

    predicted: np.ndarray
    """int16 [N]."""
    confidence: np.ndarray | None
    """float32 [N], None where only classes were given."""


def read_predictions(path: Path, images: Sequence[str] | int, labels: np.ndarray, classes: int) -> Submitted:
    """Read a file that `lt-bench evaluate --predictions` or any other program has written.

    `.npz` holds arrays, `.csv` columns: `predicted` (a class from 0) or `probabilities` or `logits` [N, C], in a CSV
    `prob_0`, ... or `logit_0`, ...; beside classes perhaps `confidence`. `image` is the place in the test set, or the
    file's name where the data set is one of files; without it the order is that of the test set. Where `label` is
    there it is held against the test set's labels, and classes beside scores against the largest of these.

    Args:
        path: The file. Nothing in it is unpickled.
        images: The names of the test images, or their number.
        labels: Of the test images, int64 [N].
        classes: C.

    Raises:
        UserError: The file is of another kind, or does not fit the test set; says where.
    """
    readers: dict[str, Callable[[bytes, Path], Mapping[str, np.ndarray]]] = {".npz": _npz, ".csv": _csv}
    if path.suffix not in readers:
        raise UserError(f"{path}: {unknown('suffix of predictions', path.suffix, readers)}")
    arrays = readers[path.suffix](read_bytes(path, "file of predictions", MOST_BYTES), path)
    try:
        return _ordered(arrays, images, labels, classes)
    except ValueError as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None


def _npz(data: bytes, path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > 4 * MOST_BYTES:
                raise ValueError(f"{size:,} bytes when unpacked")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            known = ("image", "label", "confidence", *CLASSES, *SCORES)
            return {name: arrays[name] for name in known if name in arrays}
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable .npz of predictions: {' '.join(str(error).split())}") from None


def _csv(data: bytes, path: Path) -> dict[str, np.ndarray]:
    import csv  # noqa: PLC0415

    try:
        rows = [row for row in csv.reader(lines_of(data, path, "CSV of predictions")) if row]
    except csv.Error as error:
        raise UserError(f"{path}: not a readable CSV of predictions: {error}") from None
    head, *rows = rows or [[]]
    for number, row in enumerate(rows, 2):
        if len(row) != len(head):
            raise UserError(f"{path}: line {number} has {len(row)} fields, the head has {len(head)}")
    names = [name.strip() for name in head]
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise UserError(f"{path}: the head has {twice[0]!r:.100} {names.count(twice[0])} times")
    columns = {name: [row[place].strip() for row in rows] for place, name in enumerate(names)}
    found = {name: _numbers(values) for name, values in columns.items()}
    for beginning, name in COLUMNS.items():
        members = [f"{beginning}{k}" for k in range(len(head)) if f"{beginning}{k}" in found]
        if members:
            found[name] = np.stack([found[member] for member in members], axis=1)
    return found


def _numbers(texts: list[str]) -> np.ndarray:
    """Whole numbers, else numbers, else the texts."""
    for kind in (np.int64, np.float64):
        try:
            return np.array(texts, dtype=str).astype(kind)
        except (ValueError, OverflowError):
            continue
    return np.array(texts, dtype=str)


# --- what the arrays have to be ----------------------------------------------------------------------


def _ordered(
    arrays: Mapping[str, np.ndarray], images: Sequence[str] | int, labels: np.ndarray, classes: int
) -> Submitted:
    scores = next((name for name in SCORES if name in arrays), None)
    name = scores or next((name for name in CLASSES if name in arrays), None)
    if name is None:
        raise ValueError(f"holds neither classes ({', '.join(CLASSES)}) nor scores ({', '.join(SCORES)})")
    given = np.asarray(arrays[name])
    places = _places(arrays.get("image"), images, len(labels), len(given))
    _check_labels(arrays.get("label"), labels, places)
    if scores is None:
        predicted, confidence = _classes(given, name, classes), _confidence(arrays.get("confidence"), len(given))
    else:
        predicted, confidence = _of_scores(given, name, classes)
        _check_classes(arrays, given)
    order = np.argsort(places)
    return Submitted(
        predicted[order].astype(np.int16), None if confidence is None else confidence[order].astype(np.float32)
    )


def _places(image: np.ndarray | None, images: Sequence[str] | int, count: int, given: int) -> np.ndarray:
    """The place of each row in the test set, int64 [N]: each image once."""
    if given != count:
        raise ValueError(f"{given} predictions of {count} test images")
    if image is None:
        return np.arange(count)
    if image.shape != (count,):
        raise ValueError(f"image: {list(image.shape)} values of {count} test images")
    if image.dtype.kind in "iu":
        places = image.astype(np.int64)
    else:
        known = {} if isinstance(images, int) else {name: place for place, name in enumerate(images)}
        places = np.array([known.get(str(name), -1) for name in image])
    outside = np.flatnonzero((places < 0) | (places >= count))
    if len(outside):
        raise ValueError(f"image: {str(image[outside[0]])!r:.100} is not in the test set of {count} images")
    repeated = np.flatnonzero(np.bincount(places, minlength=count) > 1)
    if len(repeated):
        raise ValueError(f"image: {repeated[0]} of the test set comes more than once")
    return places


def _check_labels(label: np.ndarray | None, labels: np.ndarray, places: np.ndarray) -> None:
    if label is None:
        return
    if label.shape != labels.shape:
        raise ValueError(f"label: {list(label.shape)} values of {len(labels)} test images")
    wrong = np.flatnonzero(label != labels[places])
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"label: {len(wrong)} of {len(labels)} are not those of the test set, so these are other images or another "
            f"order; the first is in row {row}: {label[row]}, the test set has {labels[places[row]]}"
        )


def _classes(given: np.ndarray, name: str, classes: int) -> np.ndarray:
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected whole numbers [N], found {given.dtype} {list(given.shape)}")
    wrong = np.flatnonzero((given < 0) | (given >= classes))
    if len(wrong):
        raise ValueError(f"{name}: row {wrong[0]} has class {given[wrong[0]]}, allowed are 0 to {classes - 1}")
    return given


def _check_classes(arrays: Mapping[str, np.ndarray], scores: np.ndarray) -> None:
    """Raise ValueError where classes stand beside the scores and one is not of the largest, or of one of several."""
    name = next((name for name in CLASSES if name in arrays), None)
    if name is None:
        return
    stated = _classes(np.asarray(arrays[name]), name, scores.shape[1])
    if len(stated) != len(scores):
        raise ValueError(f"{name}: {len(stated)} classes of {len(scores)} predictions")
    wrong = np.flatnonzero(np.take_along_axis(scores, stated[:, None], 1)[:, 0] < scores.max(1))
    if len(wrong):
        largest = scores[wrong[0]].argmax()
        raise ValueError(f"{name}: row {wrong[0]} has class {stated[wrong[0]]}, its largest score is of {largest}")


def _confidence(given: np.ndarray | None, count: int) -> np.ndarray | None:
    if given is None:
        return None
    if given.shape != (count,) or given.dtype.kind not in "fiu" or not ((given >= 0) & (given <= 1)).all():
        raise ValueError("confidence: expected a probability from 0 to 1 for each prediction")
    return given


def _of_scores(given: np.ndarray, name: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Class and confidence [N] of the largest score; the first of several that are equal, as in the suite."""
    if given.ndim != 2 or given.shape[1] != classes or given.dtype.kind not in "fiu":
        raise ValueError(f"{name}: expected numbers [N, {classes}], found {given.dtype} {list(given.shape)}")
    if not np.isfinite(given).all():
        raise ValueError(f"{name}: row {np.flatnonzero(~np.isfinite(given).all(1))[0]} is not finite")
    scores = given.astype(np.float64)
    if name == "logits":
        scores = np.exp(scores - scores.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
    elif scores.min() < 0 or (np.abs(scores.sum(1) - 1) > ROOM * classes**0.5).any():
        row = int(np.argmax(np.maximum(-scores.min(1), np.abs(scores.sum(1) - 1))))
        raise ValueError(f"{name}: row {row} sums to {scores[row].sum():.4g}, and probabilities are not negative")
    return scores.argmax(1), np.minimum(scores.max(1), 1)
