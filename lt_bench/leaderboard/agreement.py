"""What test images say of two rows where their labels are not at hand.

Of each image, g is how much more often the second row is right than the first, over their common seeds. The mean of g
is known from the counts. Its interval over test images needs the mean of g², which labels would tell. Without them it
has a bound: where two runs predict the same class, both are right or both are wrong, so |g| is at most the share of
seeds in which the predictions differ. A seed whose predictions cannot be read, or are of the images in another order,
may differ everywhere. An interval from the bound is too wide, never too narrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, islice, starmap

import numpy as np

from lt_bench.leaderboard.aggregate import Row, Run
from lt_bench.leaderboard.side_file import predicted_classes

MOST_ROWS = 200
"""Of a table; the pairs of more would be most of the page."""
MOST_SEEDS = 5
"""The first of each row: they bound it well enough, and all of ten thousand runs take long to unpack."""
NOTHING = 1.0
"""The bound that says nothing."""

Predicted = dict[int, tuple[str, np.ndarray | None]]
"""By seed the digest of the test images in the order that they have there, and the classes int16 [N], if known."""


def squares(rows: Sequence[Row]) -> list[float]:
    """The bound on the mean of g², from 0 to 1, of every two rows of a table: (0, 1), (0, 2), ..., (1, 2), ...

    Over the seeds in common of their first `MOST_SEEDS`. Empty for a table of more than `MOST_ROWS`; `NOTHING` for two
    rows that have no such seed, or none that predicted in one order.
    """
    if len(rows) > MOST_ROWS:
        return []
    predicted = [_predicted(row) for row in rows]
    return [_square(one, other) for k, one in enumerate(predicted) for other in predicted[k + 1 :]]


def _square(first: Predicted, second: Predicted) -> float:
    common = first.keys() & second.keys()
    differ = _differ(first, second, common)
    if not differ:
        return NOTHING
    # The square of a sum of 0 and 1 is the number of pairs, in either order, that are both 1: counted, nothing is cast.
    pairs = sum(map(np.count_nonzero, starmap(np.logical_and, combinations(differ, 2))))
    once = sum(map(np.count_nonzero, differ))
    images, unknown = len(differ[0]), len(common) - len(differ)
    return (once + 2 * pairs + 2 * unknown * once + unknown**2 * images) / len(common) ** 2 / images


def _differ(first: Predicted, second: Predicted, seeds: Iterable[int]) -> list[np.ndarray]:
    """Where the predictions of a seed differ, bool [N], of the seeds that have them in one order, the commonest."""
    by_order: dict[str, list[np.ndarray]] = {}
    for (order, one), (same, other) in ((first[seed], second[seed]) for seed in seeds):
        if order == same and one is not None and other is not None:
            by_order.setdefault(order, []).append(one != other)
    return max(by_order.values(), key=len, default=[])


def _predicted(row: Row) -> Predicted:
    return {seed: (run.test_sha256, _classes(run)) for seed, run in islice(row.runs.items(), MOST_SEEDS)}


def _classes(run: Run) -> np.ndarray | None:
    """None where the record has no predictions beside it that can be read."""
    if run.evidence.predictions is None:
        return None
    try:
        return predicted_classes(run.path.with_name(run.evidence.predictions), run.key.test_images)
    except ValueError:
        return None
