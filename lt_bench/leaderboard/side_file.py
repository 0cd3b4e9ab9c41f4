"""The predictions beside a record: packed once, and read as what they have to be and nothing else."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lt_bench.data.reading import read_bytes
from lt_bench.errors import UserError

if TYPE_CHECKING:
    from lt_bench.leaderboard.schema import Record

ARRAYS = {"predicted": np.dtype("<i2"), "confidence": np.dtype("<f2")}
"""What the file holds of every test image, by the name of the array."""
MOST_BYTES = 64 * 2**20
"""No test set is that large: four bytes an image."""
MAGIC = b"\x93NUMPY\x01\x00"
HEADER_BYTES = 4096
"""More than what stands before the values of an array."""

UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, NotImplementedError, RuntimeError)
"""What zipfile raises, beside ValueError, for a damaged archive."""


def pack(predicted: np.ndarray, confidence: np.ndarray) -> bytes:
    """The file's contents from classes and confidences [N]."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        predicted=predicted.astype(ARRAYS["predicted"]),
        confidence=confidence.astype(ARRAYS["confidence"]),
    )
    return buffer.getvalue()


def read_side_file(path: Path, record: Record) -> bytes:
    """The side file of the record at `path`. Raises UserError where it is not the one that was written with it."""
    if record.predictions is None:
        raise UserError(f"{path}: predictions: the record names none")
    side = path.with_name(record.predictions.file)
    data = read_bytes(side, "side file", MOST_BYTES)
    if hashlib.sha256(data).hexdigest() != record.predictions.sha256:
        raise UserError(f"{side}: not the file that {path.name} was written with (its sha256 differs)")
    return data


def unpack(data: bytes, record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes int16 [N] and confidences float16 [N]. Raises ValueError for anything else."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            predicted, confidence = (_array(archive, name, record.test_images) for name in ARRAYS)
    except UNREADABLE as error:
        raise ValueError(f"not readable as arrays: {error}") from None
    check_predictions(predicted, confidence, record)
    return predicted, confidence


def predicted_classes(path: Path, images: int) -> np.ndarray:
    """Predicted classes int16 [N] alone, of a side file whose record was read before. Raises ValueError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _array(archive, "predicted", images)
    except (*UNREADABLE, OSError) as error:
        raise ValueError(f"not readable as arrays: {error}") from None


def check_predictions(predicted: np.ndarray, confidence: np.ndarray, record: Record) -> None:
    """Raise ValueError where predictions [N] cannot be those that a record counts."""
    images, correct = record.test_images, record.selections["last"].correct
    if not len(predicted) == len(confidence) == images:
        raise ValueError(f"{len(predicted)} predictions and {len(confidence)} confidences of {images} test images")
    if not (np.isfinite(confidence).all() and confidence.min() >= 0 and confidence.max() <= 1.001):
        raise ValueError("confidence: not all are finite and from 0 to 1, as those of a network that has diverged")
    if not 0 <= predicted.min() <= predicted.max() < len(correct):
        raise ValueError(f"predicted: not all are classes from 0 to {len(correct) - 1}")
    if (np.bincount(predicted, minlength=len(correct)) < correct).any():
        raise ValueError("predicted: fewer images of a class than selections.last.correct has right")


def _array(archive: zipfile.ZipFile, name: str, images: int) -> np.ndarray:
    """One array [N], unpacked only where its size is that of N values."""
    member, dtype = archive.getinfo(f"{name}.npy"), ARRAYS[name]
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name}: compressed as no record's arrays are")
    if not 0 <= member.file_size - images * dtype.itemsize <= HEADER_BYTES:
        raise ValueError(f"{name}: {member.file_size} bytes, which are not {images} values of {dtype}")
    data = archive.read(member)
    start = len(data) - images * dtype.itemsize
    # Compared and not parsed: NumPy has written this text for ever, and reads far more than this.
    described = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({images},), }}"
    prefix = MAGIC + (start - 10).to_bytes(2, "little")
    if not data.startswith(prefix) or data[10:start].strip() != described.encode():
        raise ValueError(f"{name}: not {dtype} [{images}]")
    return np.frombuffer(data, dtype, offset=start)
