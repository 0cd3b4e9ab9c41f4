from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from lt_bench.evaluation.significance import equivalence_p, mean_interval, surely_above


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
