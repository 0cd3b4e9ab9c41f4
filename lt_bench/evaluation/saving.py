"""Predictions of single images as a file for other programs."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lt_bench.csv_text import cell
from lt_bench.errors import UserError, unknown
from lt_bench.evaluation.predictions import Predictions
from lt_bench.files import in_words, write_atomically


def check_place(path: Path) -> None:
    """Raise UserError where `save_predictions` could not write: before a network is asked for hours of predictions."""
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: {unknown('suffix of predictions', path.suffix, FORMATS)}")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")
    if path.suffix == ".npz" and path.with_suffix(".json").is_file():
        raise UserError(f"{path}: belongs to the record beside it, so it is not overwritten; choose another name")


def save_predictions(
    path: Path, predictions: Predictions, images: np.ndarray, class_names: Sequence[str], *, labelled: bool = True
) -> None:
    """Write what a network says of every image, with its logits; the suffix is the format.

    Args:
        path: `.npz` holds the arrays image [N], label int64 [N], predicted int16 [N], confidence float32 [N], logits
            float32 [N, C] and class_names [C]; `.csv` has a line an image and a column `logit_0`, ... a class.
        predictions: With logits.
        images: What each image is called, in their order [N]: its file, or its place in the test part.
        class_names: [C].
        labelled: Whether the labels are any. Without, a `.csv` has a column `class` with the name of the prediction.

    Raises:
        UserError: The file cannot be written.
    """
    check_place(path)
    assert predictions.logits is not None, "they were asked for"
    arrays = {"image": images, "label": predictions.labels, "predicted": predictions.predicted}
    arrays |= {"confidence": predictions.confidence, "logits": predictions.logits}
    if not labelled:
        del arrays["label"]
    try:
        write_atomically(path, FORMATS[path.suffix](arrays, class_names))
    except OSError as error:
        raise UserError(f"{path}: the predictions could not be written: {in_words(error)}") from None


def _npz(arrays: dict[str, Any], class_names: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, class_names=np.array(class_names), **arrays)
    return buffer.getvalue()


def _csv(arrays: dict[str, Any], class_names: Sequence[str]) -> bytes:
    import pandas as pd  # noqa: PLC0415 (slow to import)

    logits = arrays.pop("logits")
    if "label" not in arrays:
        names = [cell(name) for name in class_names]
        arrays |= {"image": [cell(name) for name in arrays["image"]], "class": [names[k] for k in arrays["predicted"]]}
    columns = arrays | {f"logit_{k}": logits[:, k] for k in range(len(class_names))}
    text: str = pd.DataFrame(columns).to_csv(index=False, lineterminator="\n")
    return text.encode()


FORMATS: dict[str, Callable[[dict[str, Any], Sequence[str]], bytes]] = {".npz": _npz, ".csv": _csv}
