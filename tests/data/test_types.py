"""What methods are told of a training set."""

from __future__ import annotations

import numpy as np
import pytest

from lt_bench.data.types import ClassStats
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
