"""Every metric of the suite, as functions of per-class counts and calibration bins.

`correct` and `total`, integers [C], are the test images of each class that were predicted right and
all of them; `accuracy` [C] is what `accuracy_by_class` makes of them. Accuracies are fractions. A class
without test images has the accuracy NaN and is left out of every mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import sub
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lt_bench.data.groups import group_masks
from lt_bench.errors import UserError, shown

if TYPE_CHECKING:  # Imports torch, which a table of metrics does not need.
    from lt_bench.data.types import IntArray

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

Summary = dict[str, Any]

NUM_BINS = 15


def per_class_counts(labels: IntArray, predicted: np.ndarray, num_classes: int) -> tuple[IntArray, IntArray]:
    """Correct and total predictions per class, int64 [C] each, from labels and predictions [N]."""
    total = np.bincount(labels, minlength=num_classes)
    correct = np.bincount(labels[labels == predicted], minlength=num_classes)
    return correct, total


def accuracy_by_class(correct: ArrayLike, total: ArrayLike) -> FloatArray:
    """Accuracy of each class, float64 [C], NaN where a class has no test images."""
    correct, total = np.asarray(correct), np.asarray(total)
    accuracy: FloatArray = np.full(len(total), np.nan)
    np.divide(correct, total, out=accuracy, where=total > 0)
    return accuracy


def top1(correct: Iterable[int], total: Iterable[int]) -> float:
    """Share of all test images that are predicted right."""
    return float(sum(correct) / sum(total))


def balanced(accuracy: FloatArray) -> float:
    """Mean of the class accuracies; equals top-1 on a balanced test set."""
    return _mean(_tested(accuracy))


def harmonic(accuracy: FloatArray) -> float:
    """Harmonic mean of the class accuracies, 0 as soon as one class is never recognised."""
    return 1 / _mean(1 / _tested(accuracy)) if accuracy.all() else 0.0


def worst_class(accuracy: FloatArray) -> float:
    """The lowest class accuracy."""
    return float(_tested(accuracy).min())


def group_accuracy(accuracy: FloatArray, train_counts: ArrayLike) -> dict[str, float | None]:
    """Mean class accuracy of each group, None for a group without classes; for all where classes are of one size.

    There the figure would repeat that of all classes under a name of the long tail.
    """
    masks, unequal = group_masks(train_counts), np.ptp(train_counts) > 0
    members = {name: _tested(accuracy[mask & unequal]) for name, mask in masks.items()}
    return {name: _mean(values) if len(values) else None for name, values in members.items()}


@dataclass(frozen=True)
class CalibrationBins:
    """Predictions sorted into equal bins of confidence: all that a reliability diagram needs."""

    count: IntArray
    """Predictions per bin, int64 [15]."""
    correct: IntArray
    """How many of them were right, int64 [15]."""
    confidence_sum: FloatArray
    """Sum of their confidences, float64 [15]."""


def calibration_bins(labels: IntArray, predicted: np.ndarray, confidence: np.ndarray) -> CalibrationBins:
    """Sort predictions [N] into 15 bins; a confidence on an edge falls in the lower bin.

    NaN confidences of a diverged network fall in the last bin and make its sum NaN.
    """
    confidence = confidence.astype(np.float64)
    edge = np.digitize(confidence, np.linspace(0, 1, NUM_BINS + 1), right=True)
    # Only 0 lies below the first edge, and NaN above the last one.
    bins = np.clip(edge - 1, 0, NUM_BINS - 1)
    return CalibrationBins(
        count=np.bincount(bins, minlength=NUM_BINS),
        correct=np.bincount(bins[labels == predicted], minlength=NUM_BINS),
        confidence_sum=np.bincount(bins, weights=confidence, minlength=NUM_BINS).astype(np.float64),
    )


def ece(bins: CalibrationBins) -> float:
    """Expected calibration error: the gap between accuracy and confidence per bin, averaged over predictions.

    With 15 bins the estimator of MiSLAS (Zhong et al., CVPR 2021).
    """
    gaps = map(abs, map(sub, bins.correct, bins.confidence_sum))  # for 15 values cheaper than an array
    return math.fsum(gaps) / int(sum(bins.count))


def summary(correct: Sequence[int], total: Sequence[int], bins: CalibrationBins, train_counts: ArrayLike) -> Summary:
    """What is usually told of a run. `correct` and `total` [C] come back as they are."""
    accuracy = accuracy_by_class(correct, total)
    return {
        "top1": top1(correct, total),
        **group_accuracy(accuracy, train_counts),
        "worst_class": worst_class(accuracy),
        "ece": ece(bins),
        "correct": list(correct),
        "total": list(total),
    }


def evaluate_predictions(
    labels: ArrayLike, predicted: ArrayLike, confidence: ArrayLike, train_counts: ArrayLike
) -> Summary:
    """`top1`, `many`, `medium`, `few` (see `group_accuracy`), `worst_class`, `ece`; `correct` and `total` per class.

    Args:
        labels: Classes of N test images, integers in 0..C-1.
        predicted: The classes that were predicted for them.
        confidence: The probabilities in 0..1 that the predictions were given.
        train_counts: Training images per class [C], by which classes fall into groups.

    Raises:
        UserError: The three are not of one length, or hold what is no class, no probability or no number of images.
    """
    labels, predicted = _numbers("labels", labels), _numbers("predicted", predicted)
    confidence, counts = _numbers("confidence", confidence), _numbers("train_counts", train_counts)
    if counts.ndim != 1 or not (np.isfinite(counts) & (counts >= 0)).all() or (counts % 1).any():
        raise UserError("train_counts: should be whole numbers of images [C], from 0")
    if not labels.shape == predicted.shape == confidence.shape == (labels.size,) or not labels.size:
        shapes = ", ".join(str(list(array.shape)) for array in (labels, predicted, confidence))
        raise UserError(f"labels, predicted and confidence should be [N], found {shapes}")
    for name, classes in (("labels", labels), ("predicted", predicted)):
        if classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= len(counts):
            raise UserError(f"{name}: should be integers in 0..{len(counts) - 1}, as there are {len(counts)} counts")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise UserError("confidence: should be probabilities in 0..1")
    correct, total = per_class_counts(labels, predicted, len(counts))
    bins = calibration_bins(labels, predicted, confidence)
    return summary(correct.tolist(), total.tolist(), bins, counts)


def _numbers(name: str, values: Any) -> NDArray[Any]:
    """Numbers in an array, also those of a tensor anywhere and of any type. Raises UserError."""
    try:
        if callable(tensor := getattr(values, "detach", None)):
            values = tensor().cpu()
            values = values.float() if values.is_floating_point() else values  # NumPy has no bfloat16
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError):  # rows of different lengths, or a tensor of no values
        array = np.array("")
    if array.dtype.kind not in "iuf":
        raise UserError(f"{name}: should be numbers, found {shown(values)}")
    return array


def _mean(values: FloatArray) -> float:
    # NumPy's sum depends on the processor in its last digit; a table must not.
    return math.fsum(values.tolist()) / len(values)  # of a list: iterating over an array takes three times as long


def _tested(accuracy: FloatArray) -> FloatArray:
    return accuracy[~np.isnan(accuracy)]
