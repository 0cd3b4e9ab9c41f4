from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from lt_bench.data.types import Batch, IntArray
from lt_bench.errors import RunError
from lt_bench.evaluation.predictions import Predictions, predict


class LogitImages:
    """Images whose first pixels are the logits that the network is to give."""

    def __init__(self, logits: Tensor, labels: list[int]) -> None:
        self.images = logits
        self.labels = np.array(labels)

    def stream(self, order: IntArray, batch_size: int, rng: np.random.Generator) -> Iterator[Batch]:
        raise NotImplementedError

    def clean(self, batch_size: int) -> Iterator[Batch]:
        for start in range(0, len(self.labels), batch_size):
            part = slice(start, start + batch_size)
            yield Batch(self.images[part], torch.from_numpy(self.labels[part]))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 10])
def test_prediction_and_confidence(batch_size: int) -> None:
    logits = torch.tensor([[0.0, 0.0, np.log(2.0)], [3.0, 3.0 + np.log(9.0), -200.0], [5.0, -95.0, -95.0]])
    found = predict(lambda images: images, LogitImages(logits, [2, 0, 0]), batch_size)
    assert found.predicted.tolist() == [2, 1, 0]
    assert found.labels.tolist() == [2, 0, 0]
    np.testing.assert_allclose(found.confidence, [0.5, 0.9, 1.0], rtol=1e-6)
    assert (found.predicted.dtype, found.confidence.dtype) == (np.int16, np.float32)


def test_softmax_is_taken_in_float32() -> None:
    logits = torch.tensor([[4.0, 3.0]], dtype=torch.bfloat16)
    found = predict(lambda images: images, LogitImages(logits, [0]), 1)
    assert found.confidence[0] == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-6)


def test_no_gradient_is_kept() -> None:
    weight = torch.ones(1, requires_grad=True)
    seen: list[Tensor] = []

    def score(images: Tensor) -> Tensor:
        seen.append(images * weight)
        return seen[-1]

    predict(score, LogitImages(torch.eye(2), [0, 1]), 2)
    assert not seen[0].requires_grad


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_a_failed_run(value: float) -> None:
    logits = torch.eye(5)
    logits[1, 2] = logits[4, 0] = value
    with pytest.raises(RunError, match=r"^the logits of 2 of 5 images are not finite$"):
        predict(lambda images: images, LogitImages(logits, [0, 1, 2, 3, 4]), 2)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="3 labels, 2 predictions"):
        Predictions(np.zeros(3, np.int64), np.zeros(2, np.int16), np.zeros(3, np.float32))
