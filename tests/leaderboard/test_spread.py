from __future__ import annotations

import math
from pathlib import Path

import pytest
from records_factory import add_record

from lt_bench.leaderboard.sources import read_board
from lt_bench.leaderboard.spread import seed_spread, spread


def test_groups_stand_beside_the_total(tmp_path: Path) -> None:
    """2 of 10 images of one class of six come and go: a tenth of the group of two classes, a thirtieth of all."""
    for seed in range(2):
        add_record(tmp_path, recipe_name="ce", seed=seed)
        add_record(tmp_path, recipe_name="cmo", seed=seed, correct=(9, 8, 7, 6, 5, 4 + 2 * seed))
    (table,) = read_board(tmp_path).tables
    assert seed_spread(table, "few") == pytest.approx(3 * seed_spread(table, "top1"))  # type: ignore[operator]
    assert seed_spread(table, "many") == 0
    few = 10 / math.sqrt(2) / math.sqrt(0.454936)  # the median of chi-squared with one degree of freedom
    said = f"{few / 3:.2f} points of top-1, 0.00 of many, 0.00 of medium, {few:.2f} of few."
    assert spread(table) == [f"From seed to seed the difference of two rows spreads by {said}"]


def test_single_seeds_say_nothing_of_it(tmp_path: Path) -> None:
    add_record(tmp_path, recipe_name="ce")
    add_record(tmp_path, recipe_name="cmo")
    (table,) = read_board(tmp_path).tables
    assert spread(table) == []
