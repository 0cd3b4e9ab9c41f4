"""What methods are told of a training set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lt_bench.data.types import ClassStats, Step
from lt_bench.errors import UserError


def test_images_per_class() -> None:
    stats = ClassStats.of(np.array([2, 0, 0, 1, 0]), 3)
    assert stats.counts.tolist() == [3, 1, 1]
    assert stats.prior.tolist() == pytest.approx([0.6, 0.2, 0.2])


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ([0, 0, 2], "1 of 3 classes have no training image, the first is 1"),
        ([1, 1], "2 of 3 classes have no training image, the first is 0"),
    ],
)
def test_a_class_without_images_is_refused(labels: list[int], complaint: str) -> None:
    """Its prior is 0: log priors, weights and means would be infinite or NaN in one method and silent in another."""
    with pytest.raises(UserError, match=complaint):
        ClassStats.of(np.array(labels), 3)


@pytest.mark.parametrize("counts", [[5, 3, 1], (5, 3, 1), np.array([5, 3, 1]), torch.tensor([5.0, 3.0, 1.0])])
def test_class_sizes_in_any_form(counts: Any) -> None:
    stats = ClassStats.of_counts(counts)
    assert stats.counts.dtype == torch.int64
    assert stats.counts.tolist() == [5, 3, 1]
    assert ClassStats.of_counts(stats) is stats


@pytest.mark.parametrize(
    ("counts", "complaint"),
    [
        ([5, 0], "counts: class 1 has 0 training images"),
        ([5, -2.0], "counts: class 1 has -2 training images"),
        ([5, 2.5], "counts: should be the training images of each class, found"),
        ([5, float("nan")], "counts: should be"),
        ([5, float("inf")], "counts: should be"),
        ([[5, 3]], "counts: should be"),
        ([], "counts: should be"),
        (10, "counts: should be"),
        ("cifar10-lt", "counts: should be"),
        ([True, True], "counts: should be"),
    ],
)
def test_what_are_no_class_sizes_is_refused(counts: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        ClassStats.of_counts(counts)


def test_a_step_of_a_script_draws_the_same_again_and_other_steps_draw_otherwise() -> None:
    first, again = (Step.at(3, 10, epoch=2, epochs=5, seed=0) for _ in range(2))
    assert (first.index, first.total, first.epoch.index, first.epoch.total) == (3, 10, 2, 5)
    draws = first.rng.random(4).tolist()
    assert draws == again.rng.random(4).tolist()
    for index, epoch, seed in ((4, 2, 0), (3, 1, 0), (3, 2, 1)):
        assert Step.at(index, 10, epoch=epoch, epochs=5, seed=seed).rng.random(4).tolist() != draws
