from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lt_bench.evaluation.significance import mean_interval


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
