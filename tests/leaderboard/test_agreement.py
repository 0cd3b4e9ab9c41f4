"""The bound over test images without their labels: never below what the labels give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from records_factory import add_record, make_predictions, make_record

from lt_bench.evaluation.predictions import Predictions
from lt_bench.leaderboard.agreement import MOST_ROWS, MOST_SEEDS, NOTHING, _square, squares
from lt_bench.leaderboard.record import write_record
from lt_bench.leaderboard.sources import read_board


def bounds(records: Path) -> list[float]:
    (table,) = read_board(records).tables
    return squares(table.rows)


def test_where_wrong_predictions_are_alike_the_bound_is_exact(tmp_path: Path) -> None:
    """Wrong images are taken for the next class by both, so they differ just where one alone is right."""
    seeds = {"a": [(9, 8, 7, 6, 5, 4), (9, 9, 9, 9, 9, 9)], "b": [(3, 8, 7, 10, 5, 4), (9, 9, 9, 0, 9, 9)]}
    for name, every in seeds.items():
        for seed, correct in enumerate(every):
            add_record(tmp_path, recipe_name=name, seed=seed, correct=correct)
    labels = np.repeat(np.arange(6), 10)
    right = [[make_predictions(c).predicted == labels for c in every] for every in seeds.values()]
    gains = np.mean([b.astype(float) - a for a, b in zip(*right, strict=True)], axis=0)
    differ = np.mean([a != b for a, b in zip(*right, strict=True)], axis=0)
    assert bounds(tmp_path) == [pytest.approx(float((differ**2).mean()))]
    assert float((gains**2).mean()) <= float((differ**2).mean())


def test_the_bound_holds_for_any_predictions(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 10)
    predicted = {name: generator.integers(0, 6, (3, 60)).astype(np.int16) for name in "ab"}
    for name, seeds in predicted.items():
        for seed, classes in enumerate(seeds):
            told = Predictions(labels, classes, np.full(60, 0.75, np.float32))
            correct = tuple(np.bincount(labels[classes == labels], minlength=6).tolist())
            write_record(make_record(recipe_name=name, seed=seed, correct=correct), told, tmp_path)
    gains = ((predicted["b"] == labels).astype(float) - (predicted["a"] == labels)).mean(0)
    (bound,) = bounds(tmp_path)
    assert (gains**2).mean() <= bound == pytest.approx(((predicted["a"] != predicted["b"]).mean(0) ** 2).mean())


def test_seeds_that_cannot_be_compared_may_differ_everywhere() -> None:
    """Of another order than most, without predictions, or of two orders; what is known of the others is kept."""
    same, other = np.zeros(4, np.int16), np.array([0, 0, 0, 1], np.int16)
    first = {0: ("x", same), 1: ("x", same), 2: ("y", same), 3: ("x", None), 4: ("x", same)}
    second = {0: ("x", same), 1: ("x", other), 2: ("y", same), 3: ("x", same), 4: ("y", same)}
    differ = np.array([[0, 0, 0, 0], [0, 0, 0, 1], *[[1, 1, 1, 1]] * 3])
    assert _square(first, second) == pytest.approx((differ.mean(0) ** 2).mean())
    assert _square({3: first[3], 4: first[4]}, second) == NOTHING


def test_pairs_without_a_common_seed_or_predictions_say_nothing(tmp_path: Path) -> None:
    for seed in range(MOST_SEEDS):
        add_record(tmp_path, recipe_name="a", seed=seed)
    add_record(tmp_path, recipe_name="b", seed=MOST_SEEDS + 1, correct=(1, 1, 1, 1, 1, 1))
    add_record(tmp_path, recipe_name="c", seed=0, correct=(0, 0, 0, 0, 0, 0))
    assert bounds(tmp_path) == [NOTHING, pytest.approx(39 / 60), NOTHING]
    (table,) = read_board(tmp_path).tables
    assert squares(table.rows[:1] * (MOST_ROWS + 1)) == []
