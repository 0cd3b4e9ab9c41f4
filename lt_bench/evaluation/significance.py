"""How far a mean over seeds can be trusted.

Student's t is SciPy's, from `scipy.special`: `scipy.stats` has the same, and takes a second to import. It is imported
late because a training needs this module and none of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float | None]:
    """Mean over seeds and the half-width of its Student t interval.

    The half-width is t(level, n - 1) * s / sqrt(n) with the sample deviation s (n - 1); None for one seed,
    which says nothing about the spread.
    """
    n = len(values)
    if n == 1:
        return float(values[0]), None
    from scipy.special import stdtrit  # noqa: PLC0415

    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return mean, float(stdtrit(n - 1, (1 + level) / 2)) * deviation / math.sqrt(n)


def surely_above(scores: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Which rows are above which by more than their seeds explain: bool [R, R], True at (i, j) for row i above row j.

    That is where the Student t interval of the mean difference, taken seed by seed, lies above 0. A seed sets the
    order of the images and most of the initialisation for all methods alike, so what is luck of a seed cancels.

    Args:
        scores: float [R, S], a row per method and a column per seed, NaN where a method lacks a seed. Two rows that
            have fewer than two seeds in common cannot be told apart.
        level: Confidence of each interval.
    """
    from scipy.special import stdtrit  # noqa: PLC0415

    above = np.zeros((len(scores), len(scores)), dtype=bool)
    for row, own in zip(above, scores, strict=True):
        differences = own - scores  # [R, S]
        known = ~np.isnan(differences)
        n = known.sum(1)
        several = n > 1
        mean = np.where(known, differences, 0).sum(1) / np.maximum(n, 1)
        squares = np.where(known, (differences - mean[:, None]) ** 2, 0).sum(1)
        freedom = np.maximum(n - 1, 1)
        half = stdtrit(freedom, (1 + level) / 2) * np.sqrt(squares / freedom / np.maximum(n, 1))
        row[:] = several & (mean > half)
    return above


def equivalence_p(differences: Sequence[float], bound: float) -> float:
    """p-value of two one-sided t tests that the mean of paired differences lies within ±`bound`.

    Below 0.05 the two are equivalent at that level (Schuirmann 1987): both "the mean is at most -bound" and
    "at least +bound" are rejected. The same as the 90 % interval of the mean lying inside the bounds.

    Args:
        differences: One per pair, at least two, in the unit of `bound`.
        bound: The largest difference that does not matter, positive.
    """
    n = len(differences)
    if n < 2 or bound <= 0:
        raise ValueError(f"needs two differences or more and a positive bound, got {n} and {bound}")
    from scipy.special import stdtr  # noqa: PLC0415

    mean = math.fsum(differences) / n
    error = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1) / n)
    distance = bound - abs(mean)  # to the nearer bound, whose test has the larger p
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stdtr(n - 1, -distance / error))
