"""Images in parquet files of the hub's layout: a column of encoded images and a label column."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lt_bench.data.arrays import Pixels, with_progress
from lt_bench.data.decoding import UnreadableError, read_rgb
from lt_bench.data.reading import reason, regular_size
from lt_bench.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from lt_bench.data.types import IntArray

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "fine_label")


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a parquet file. Raises UserError in one line."""
    import pyarrow.parquet as pq  # noqa: PLC0415 (slow to import)

    try:
        regular_size(path)
        # A plain file: the folder names on the way must not turn into columns.
        with pq.ParquetFile(path) as file:
            return file.read(columns)
    except Exception as error:  # Damaged files make pyarrow raise more than its own errors.
        raise UserError(f"{path}: not a readable parquet file: {reason(error)}") from None


def decode_table(table: pa.Table, path: Path, side: int) -> tuple[Pixels, IntArray]:
    """Images uint8 [N, side, side, 3] and labels int64 [N] of a table.

    An image is a struct of `bytes` and `path`, as the hub has it, or the bytes alone. Raises UserError with the row.
    """
    labels = integers(table, _column(table, _LABEL_COLUMNS, path), path)
    if not (len(labels) and 0 <= labels.min() <= labels.max() < 256):
        found = f"{labels.min()}..{labels.max()}" if len(labels) else "no rows"
        raise UserError(f"{path}: labels must lie in 0..255, found {found}")
    encoded = list(_encoded(table, _column(table, _IMAGE_COLUMNS, path), path))
    images = np.empty((len(encoded), side, side, 3), np.uint8)
    for row, cell in enumerate(with_progress(encoded, f"decode {path.name}")):
        images[row] = _pixels(cell, side, f"{path}: row {row}")
    return images, labels


def integers(table: pa.Table, name: str, path: Path) -> IntArray:
    """A column of whole numbers as int64 [N]. Raises UserError."""
    import pyarrow as pa  # noqa: PLC0415

    column = table.column(_column(table, [name], path))
    if not pa.types.is_integer(column.type) or column.null_count:
        raise UserError(f"{path}: column {name} must hold a whole number in every row, found {column.type}")
    numbers: IntArray = column.to_numpy().astype(np.int64)
    return numbers


def class_names(schema: pa.Schema) -> tuple[str, ...]:
    """Class names in the schema's `huggingface` metadata, empty where there are none."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return next(tuple(features[name]["names"]) for name in _LABEL_COLUMNS if name in features)
    except (TypeError, KeyError, ValueError, StopIteration, RecursionError):
        return ()


def _column(table: pa.Table, names: Iterable[str], path: Path) -> str:
    for name in names:
        if name in table.column_names:
            return name
    raise UserError(f"{path}: no column {' or '.join(names)} (found {', '.join(table.column_names)})")


def _encoded(table: pa.Table, name: str, path: Path) -> Iterator[bytes | None]:
    import pyarrow as pa  # noqa: PLC0415

    for chunk in table.column(name).chunks:  # One by one: together they may be more than an Arrow array can hold.
        cells = chunk.field("bytes") if pa.types.is_struct(chunk.type) and "bytes" in chunk.type.names else chunk
        if not (pa.types.is_binary(cells.type) or pa.types.is_large_binary(cells.type)):
            raise UserError(f"{path}: column {name} must hold images as bytes, found {chunk.type}")
        yield from cells.to_pylist()


def _pixels(encoded: bytes | None, side: int, where: str) -> Pixels:
    if encoded is None:
        raise UserError(f"{where}: holds no image (its bytes are missing)")
    try:
        pixels = np.asarray(read_rgb(io.BytesIO(encoded)))
    except UnreadableError as error:
        raise UserError(f"{where}: not a readable image: {error}") from None
    if pixels.shape[:2] != (side, side):
        raise UserError(f"{where}: an image of {pixels.shape[1]} x {pixels.shape[0]} pixels, expected {side} x {side}")
    return pixels
