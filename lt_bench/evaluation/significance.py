"""How far a mean over seeds can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import stdtr, stdtrit  # scipy.stats has the same, and takes a second to import


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float | None]:
    """Mean over seeds and the half-width of its Student t interval.

    The half-width is t(level, n - 1) * s / sqrt(n) with the sample deviation s (n - 1); None for one seed,
    which says nothing about the spread.
    """
    n = len(values)
    if n == 1:
        return float(values[0]), None
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return mean, float(stdtrit(n - 1, (1 + level) / 2)) * deviation / math.sqrt(n)


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
    mean = math.fsum(differences) / n
    error = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1) / n)
    distance = bound - abs(mean)  # to the nearer bound, whose test has the larger p
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stdtr(n - 1, -distance / error))
