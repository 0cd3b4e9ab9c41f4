"""What is told of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lt_bench.data.groups import group_masks
from lt_bench.evaluation.metrics import accuracy_by_class


def class_rows(
    names: Sequence[str], train_counts: Sequence[int], correct: Sequence[int], total: Sequence[int]
) -> list[dict[str, Any]]:
    """A row for each of C classes: class_index, class_name, group, train_count, correct, total and accuracy.

    The accuracy is a fraction, NaN for a class without test images.
    """
    masks = group_masks(train_counts)
    groups = [next(name for name, mask in masks.items() if mask[k]) for k in range(len(names))]
    accuracy = accuracy_by_class(correct, total).tolist()
    columns = ("class_index", "class_name", "group", "train_count", "correct", "total", "accuracy")
    rows = zip(range(len(names)), names, groups, train_counts, correct, total, accuracy, strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]
