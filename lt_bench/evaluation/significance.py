"""How far a mean over seeds can be trusted, whether two methods differ, and how many seeds it takes to tell.

Student's t is SciPy's, from `scipy.special`: `scipy.stats` has the same, and takes a second to import. It is imported
late because a training needs this module and none of it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

PRECISION = 1e-12
"""Of the probabilities that the discrete transform gives, up to 50,000 images."""
MOST_SEEDS = 1000
"""Nobody trains more of them to tell two methods apart."""


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
    order of the images and most of the initialisation for all methods alike: what luck they share cancels.

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


def rank_ranges(scores: np.ndarray, level: float = 0.95) -> list[tuple[int, int]]:
    """Best and worst place of each row: what remains once the rows `surely_above` and below it have taken theirs.

    Args:
        scores: float [R, S], as there.
        level: As there.
    """
    above = surely_above(scores, level)
    taken = zip(above.sum(0), above.sum(1), strict=True)
    return [(1 + int(better), len(scores) - int(worse)) for better, worse in taken]


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


# --- tests of paired differences ---------------------------------------------------------------------


def paired_p(differences: Sequence[float]) -> float | None:
    """p-value of the two-sided paired t test that the mean difference is 0; None for one pair.

    Over seeds: whether another training would give the same order.
    """
    n = len(differences)
    if n < 2:
        return None
    from scipy.special import stdtr  # noqa: PLC0415

    mean = math.fsum(differences) / n
    error = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1) / n)
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(n - 1, -abs(mean) / error))


def exchange_p(gains: np.ndarray) -> float:
    """p-value of the exact permutation test in which the two methods may change places at every test image.

    For one seed it is McNemar's exact test. Over test images: whether another test set of the kind would give the same
    order, the trained networks kept.

    Exact to `PRECISION`, and never below it.

    Args:
        gains: int [N], of each image how many more seeds the second method has right than the first. The seeds of an
            image change places together: that they agree is no evidence of more images.
    """
    sizes, images = np.unique(np.abs(gains[gains != 0]), return_counts=True)
    most, observed = int(sizes @ images), abs(int(gains.sum()))
    # The sum of independent signs times sizes has this characteristic function, and as an integer from -most to most
    # its probabilities are the discrete transform.
    angles = 2 * np.pi * np.arange(2 * most + 1) / (2 * most + 1)
    transform = np.prod([np.cos(angles * size) ** count for size, count in zip(sizes, images, strict=True)], axis=0)
    below = np.fft.fft(np.broadcast_to(transform, angles.shape)).real[:observed] / len(angles)
    inside = 2 * below.sum() - below[0] if observed else 0.0  # P(|sum| < observed), symmetric around 0
    return float(np.clip(1 - inside, PRECISION, 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being several (Holm 1979): those up to 0.05 are all right with 95 % probability."""
    order = np.argsort(p_values)
    steps = np.asarray(p_values, dtype=float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(p) for p in adjusted]


# --- how many seeds it takes -------------------------------------------------------------------------


def paired_spread(scores: np.ndarray) -> float | None:
    """Deviation of the difference of two rows of a table from seed to seed: the middle one of all pairs of rows.

    Two or three seeds of one pair say little about it, the pairs of a whole table a lot; the median, because a method
    that fails under one seed says nothing about the others. None where no two rows have two seeds in common.

    Args:
        scores: float [R, S], a row per method and a column per seed, NaN where a method lacks a seed.
    """
    from scipy.special import chdtri  # noqa: PLC0415

    found = []
    for row, own in enumerate(scores[:-1]):
        differences = own - scores[row + 1 :]  # [R - row - 1, S]
        known = ~np.isnan(differences)
        n = known.sum(1)
        mean = np.where(known, differences, 0).sum(1) / np.maximum(n, 1)
        squares = np.where(known, (differences - mean[:, None]) ** 2, 0).sum(1)
        # Half of all estimates lie below their chi-squared median and not below the variance.
        found.append(squares[n > 1] / chdtri(n[n > 1] - 1, 0.5))
    variances = np.concatenate(found) if found else np.empty(0)
    return float(np.sqrt(np.median(variances))) if len(variances) else None


def power(difference: float, spread: float, n: int, level: float = 0.95) -> float:
    """Probability that the paired t test over n seeds, two or more, finds a mean difference that is there.

    Args:
        difference: The true mean difference.
        spread: Deviation of the difference from seed to seed, in the same unit and above 0.
        n: Number of seeds.
        level: Confidence of the test.
    """
    from scipy.special import nctdtr, stdtrit  # noqa: PLC0415

    critical = stdtrit(n - 1, (1 + level) / 2)
    shift = abs(difference) / spread * math.sqrt(n)
    # SciPy has NaN for some probabilities that are next to nothing.
    below, beyond = np.nan_to_num([nctdtr(n - 1, shift, critical), nctdtr(n - 1, shift, -critical)])
    return float(np.clip(1 - below + beyond, 0, 1))


def seeds_needed(difference: float, spread: float, wanted: float = 0.8, level: float = 0.95) -> int | None:
    """The fewest seeds that find a difference with the wanted probability, by a test at this confidence; None where
    `MOST_SEEDS` are too few.
    """
    if difference == 0:
        return None
    if spread == 0:
        return 2
    counts = range(2, MOST_SEEDS + 1)
    place = bisect_left(counts, wanted, key=lambda n: power(difference, spread, n, level))
    return counts[place] if place < len(counts) else None
