"""What became of wrong training labels: who learned them, and who found them.

A label is wrong where the given class differs from the right one. All is counted by the given class, for that is how a
detector meets an image: with a label that says it is rare. Nothing here is known to a training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lt_bench.data.groups import group_masks

if TYPE_CHECKING:
    from lt_bench.data.types import IntArray


NUM_BINS, BIN_WIDTH = 40, 0.25
"""Of a histogram of losses, in nats."""


def parts(train_counts: ArrayLike) -> dict[str, np.ndarray]:
    """Which classes each part of a split holds, bool [C] each, by right labels: `all`, the groups many, medium and few,
    and the thirds with the most and the fewest training images, `head` and `tail`, one class at least; none where all
    classes are of one size.
    """
    counts = np.asarray(train_counts)
    order = np.argsort(-counts, kind="stable")
    third = max(1, len(counts) // 3) if np.ptp(counts) else 0
    every = np.ones(len(counts), dtype=bool)
    head, tail = (np.isin(np.arange(len(counts)), chosen) for chosen in (order[:third], order[len(counts) - third :]))
    return {"all": every, **group_masks(counts), "head": head, "tail": tail}


def auc(score: np.ndarray, wrong: np.ndarray) -> float | None:
    """Chance that a wrong label [N] has a higher score than a right one, ties by half. None without one of both."""
    right = len(wrong) - int(wrong.sum())
    if not right or right == len(wrong):
        return None
    _, tie, size = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(size) - (size - 1) / 2)[tie]  # from 1, the mean of those that tie
    above = rank[wrong].sum() - wrong.sum() * (wrong.sum() + 1) / 2
    return float(above / (wrong.sum() * right))


def auc_by_part(
    score: np.ndarray, given: IntArray, right: IntArray, train_counts: ArrayLike
) -> dict[str, float | None]:
    """`auc` among the images [N] whose given label is of each of the `parts`."""
    wrong = given != right
    members = {name: classes[given] for name, classes in parts(train_counts).items()}
    return {name: auc(score[here], wrong[here]) for name, here in members.items()}


def histograms(
    losses: np.ndarray, given: IntArray, right: IntArray, train_counts: ArrayLike
) -> dict[str, tuple[IntArray, IntArray]]:
    """Losses [N] of right and of wrong labels in each of the `parts`, as counts int64 [40] of bins of a quarter each;
    the last one holds all that is above.
    """
    place = np.minimum(losses / BIN_WIDTH, NUM_BINS - 1).astype(np.int64)
    wrong = given != right
    found = {}
    for name, classes in parts(train_counts).items():
        here = classes[given]
        counts = [np.bincount(place[here & chosen], minlength=NUM_BINS) for chosen in (~wrong, wrong)]
        found[name] = counts[0], counts[1]
    return found


def highest(score: np.ndarray, number: int) -> np.ndarray:
    """Which images [N] have the `number` highest scores, bool; of equals the first."""
    chosen = np.zeros(len(score), dtype=bool)
    chosen[np.argsort(-score, kind="stable")[:number]] = True
    return chosen
