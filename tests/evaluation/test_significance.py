from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from lt_bench.evaluation.significance import (
    PRECISION,
    equivalence_p,
    exchange_p,
    holm,
    mean_interval,
    paired_p,
    paired_spread,
    power,
    seeds_needed,
    surely_above,
)


def test_interval_by_hand() -> None:
    mean, half = mean_interval([40.0, 41.0, 42.0])  # s = 1, t(0.975, 2) = 4.302653
    assert mean == 41.0
    assert half == pytest.approx(4.302653 / 3**0.5, rel=1e-6)


def test_one_seed_has_no_interval() -> None:
    assert mean_interval([37.5]) == (37.5, None)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=8))
def test_interval_is_that_of_the_t_test(values: list[float]) -> None:
    mean, half = mean_interval(values)
    assert half is not None
    low, high = stats.t.interval(0.95, len(values) - 1, mean, max(stats.sem(values), 1e-300))
    assert (mean - half, mean + half) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


@given(arrays(float, (4, 3), elements=st.integers(0, 100).map(float)))
def test_rows_are_told_apart_by_the_paired_t_test(scores: np.ndarray) -> None:
    above = surely_above(scores)
    for i, j in np.ndindex(above.shape):
        differences = scores[i] - scores[j]
        mean, half = mean_interval(differences.tolist())
        assert half is not None
        if not math.isclose(mean, half):
            assert above[i, j] == (mean > half)
        if differences.std() > 0:
            found = stats.ttest_rel(scores[i], scores[j])
            assert above[i, j] == (found.pvalue < 0.05 and found.statistic > 0)


@given(
    arrays(float, (3, 4), elements=st.integers(0, 99).map(float)),
    arrays(float, 4, elements=st.integers(0, 99).map(float)),
)
def test_what_a_seed_adds_to_every_row_changes_nothing(scores: np.ndarray, luck: np.ndarray) -> None:
    assert (surely_above(scores + luck) == surely_above(scores)).all()


def test_only_seeds_that_both_rows_have_count() -> None:
    nan = math.nan
    scores = np.array([[40.0, 41.0, 42.0, nan], [30.0, 31.1, 32.0, 99.0], [nan, 1.0, nan, 1.0], [nan] * 4])
    assert np.argwhere(surely_above(scores)).tolist() == [[0, 1]]


def test_equivalence_agrees_with_two_t_tests() -> None:
    differences = [0.3, -0.2, 0.5, 0.1, -0.4, 0.2]
    above = stats.ttest_1samp(differences, -1, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, 1, alternative="less").pvalue
    assert equivalence_p(differences, 1) == pytest.approx(max(above, below))
    assert equivalence_p(differences, 1) < 0.05
    assert equivalence_p([d + 0.9 for d in differences], 1) > 0.05


def test_a_mean_on_the_bound_is_a_toss_and_beyond_it_worse() -> None:
    assert equivalence_p([0.9, 1.1], 1) == pytest.approx(0.5)
    assert equivalence_p([1.9, 2.1], 1) > 0.9
    assert equivalence_p([0.5, 0.5], 1) == 0
    assert equivalence_p([1.5, 1.5], 1) == 1


@pytest.mark.parametrize(("differences", "bound"), [([0.1], 1.0), ([0.1, 0.2], 0.0)])
def test_equivalence_needs_pairs_and_a_bound(differences: list[float], bound: float) -> None:
    with pytest.raises(ValueError, match="positive bound"):
        equivalence_p(differences, bound)


@given(st.lists(st.integers(-9, 9).map(float), min_size=2, max_size=6).filter(lambda values: len(set(values)) > 1))
def test_over_seeds_it_is_the_paired_t_test(differences: list[float]) -> None:
    assert paired_p(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)


def test_differences_without_a_spread_are_sure() -> None:
    assert (paired_p([0.5]), paired_p([0.0, 0.0]), paired_p([0.5, 0.5])) == (None, 1.0, 0.0)


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (6, 6), (12, 3), (60, 30)])
def test_over_images_of_one_seed_it_is_the_test_of_mcnemar(better: int, worse: int) -> None:
    gains = np.array([1] * better + [-1] * worse + [0] * 20)
    exact = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert exchange_p(gains) == pytest.approx(exact, abs=1e-12)


@given(arrays(int, 9, elements=st.integers(-3, 3)))
def test_over_images_of_several_seeds_all_exchanges_are_counted(gains: np.ndarray) -> None:
    signs = 1 - 2 * ((np.arange(2**9)[:, None] >> np.arange(9)) & 1)  # [512, 9]
    exact = (np.abs(signs @ gains) >= abs(gains.sum())).mean()
    assert exchange_p(gains) == pytest.approx(exact, abs=1e-12)


def test_no_p_value_is_below_what_the_transform_can_tell() -> None:
    assert exchange_p(np.array([1] * 60)) == PRECISION
    assert exchange_p(np.array([1] * 40 + [-1] * 4)) == pytest.approx(stats.binomtest(40, 44).pvalue, rel=1e-4)


def test_more_seeds_are_needed_at_a_stricter_level() -> None:
    assert power(1.0, 1.0, 17, 0.99) >= 0.8 > power(1.0, 1.0, 14, 0.99)
    assert seeds_needed(1.0, 1.0) < seeds_needed(1.0, 1.0, level=0.99) <= 17  # type: ignore[operator]


def test_holm_by_hand() -> None:
    """The smallest of four times 4, the next times 3, and no later one below an earlier one."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_spread_is_that_of_the_middle_pair() -> None:
    nan = math.nan
    scores = np.array([[40.0, 41.0, 42.0], [40.0, 42.0, 41.0], [nan, 7.0, 9.0], [1.0, nan, nan]])
    # Sums of squares of the three pairs that share two seeds or more, over the median of chi-squared.
    estimates = [2.0 / (2 * math.log(2)), 0.5 / stats.chi2.median(1), 4.5 / stats.chi2.median(1)]
    assert paired_spread(scores) == pytest.approx(math.sqrt(np.median(estimates)))
    assert paired_spread(scores[3:]) is None
    assert paired_spread(scores[2:]) is None


def test_the_spread_is_near_the_truth_and_one_failure_leaves_it_there() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 0.5, (60, 3)) + rng.normal(0, 5, 3)  # luck of a seed for all, and 0.5 of each run
    scores[0] = [10, 40, 42]
    assert paired_spread(scores) == pytest.approx(0.5 * math.sqrt(2), rel=0.1)


def test_power_is_that_of_the_tables() -> None:
    """A paired test of a difference of half its deviation needs 34 pairs for 80 % (Cohen 1988)."""
    assert seeds_needed(0.5, 1.0) == 34
    assert seeds_needed(-1.0, 1.0) == 10
    assert power(0.5, 1.0, 34) == pytest.approx(0.8078, abs=1e-4)


def test_power_agrees_with_trials() -> None:
    trials = np.random.default_rng(0).normal(0.8, 0.5, (20_000, 3))
    found = (stats.ttest_1samp(trials, 0, axis=1).pvalue < 0.05).mean()
    assert power(0.8, 0.5, 3) == pytest.approx(found, abs=0.01)


def test_power_grows_with_every_seed_however_sure_the_difference() -> None:
    found = [power(2.0, 0.56, n) for n in range(2, 60)]
    assert found == sorted(found)
    assert found[-1] == 1
    assert power(0.0, 0.56, 3) == pytest.approx(0.05)
    assert seeds_needed(40.0, 0.5) == 2


def test_no_number_of_seeds_finds_what_is_not_there() -> None:
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1e-3, 1.0) is None
    assert seeds_needed(0.3, 0.0) == 2
