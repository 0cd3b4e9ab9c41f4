"""Images in parquet files of the hub's layout: a struct column of encoded bytes and a label column."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lt_bench.data.arrays import Pixels, with_progress
from lt_bench.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from lt_bench.data.types import IntArray

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "fine_label")
_FORMATS = ("PNG", "WEBP", "JPEG", "BMP", "GIF", "TIFF")
"""In this order: Pillow's own order tries many others first and takes three times as long."""


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a parquet file. Raises UserError in one line."""
    import pyarrow as pa  # noqa: PLC0415 (slow to import)
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        # A plain file: the folder names on the way must not turn into columns.
        with pq.ParquetFile(path) as file:
            return file.read(columns)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a readable parquet file: {' '.join(str(error).split())}") from None


def decode_table(table: pa.Table, path: Path) -> tuple[Pixels, IntArray]:
    """Images uint8 [N, H, W, 3] and labels int64 [N] of a table. Raises UserError."""
    image_column, label_column = (_column(table, names, path) for names in (_IMAGE_COLUMNS, _LABEL_COLUMNS))
    try:
        encoded = table.column(image_column).combine_chunks().field("bytes").to_pylist()
        images = np.stack([_pixels(cell) for cell in with_progress(encoded, f"decode {path.name}")])
        labels = table.column(label_column).to_numpy().astype(np.int64)
    except (OSError, ValueError, KeyError, TypeError, SyntaxError) as error:
        raise UserError(f"{path}: holds an image or label that cannot be read: {error}") from None
    if not 0 <= labels.min() <= labels.max() < 256:
        raise UserError(f"{path}: labels must lie in 0..255, found {labels.min()}..{labels.max()}")
    return images, labels


def class_names(schema: pa.Schema) -> tuple[str, ...]:
    """Class names in the schema's `huggingface` metadata, empty where there are none."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return next(tuple(features[name]["names"]) for name in _LABEL_COLUMNS if name in features)
    except (TypeError, KeyError, ValueError, StopIteration):
        return ()


def _column(table: pa.Table, names: Iterable[str], path: Path) -> str:
    for name in names:
        if name in table.column_names:
            return name
    raise UserError(f"{path}: no column {' or '.join(names)} (found {', '.join(table.column_names)})")


def _pixels(encoded: bytes) -> Pixels:
    from PIL import Image  # noqa: PLC0415

    with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
