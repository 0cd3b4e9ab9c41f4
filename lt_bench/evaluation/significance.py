"""How far a mean over seeds can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import stdtrit  # scipy.stats has the same quantile, and takes a second to import


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
