"""Cross entropy with the floor of mixRnet's code, against its card."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lt_bench.errors import UserError
from lt_bench.losses import CrossEntropy

COUNTS = [5, 3, 1]
FLOOR = 1e-5


def loss_and_gradient(logits: list[float], label: int, floor: float | None) -> tuple[float, list[float]]:
    z = torch.tensor([logits], dtype=torch.float32, requires_grad=True)
    loss = CrossEntropy(COUNTS, probability_floor=floor)(z, torch.tensor([label]))
    loss.backward()
    assert z.grad is not None
    return loss.item(), z.grad[0].tolist()


def test_below_the_floor_there_is_no_gradient() -> None:
    assert loss_and_gradient([100, 0, 0], 1, FLOOR) == (pytest.approx(11.512925), [0, 0, 0])
    assert loss_and_gradient([100, 0, 0], 1, None) == (100, pytest.approx([1, -1, 0]))


def mixed(criterion: CrossEntropy, logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of soft targets [B, C], one term a class."""
    terms = [criterion(logits, torch.full((len(logits),), label), targets[:, label]) for label in range(3)]
    return torch.stack(terms).sum()


@pytest.mark.parametrize("floor", [None, FLOOR])
def test_above_it_is_cross_entropy(floor: float | None) -> None:
    logits, targets = torch.tensor([[2.0, 0, 0], [0, 1, 0]]), torch.tensor([[0.7, 0.3, 0], [0, 1, 0]])
    found = mixed(CrossEntropy(COUNTS, probability_floor=floor), logits, targets)
    assert float(found) == pytest.approx(0.695495, abs=1e-6)
    assert float(found) == pytest.approx(float(F.cross_entropy(logits, targets)))


def test_it_holds_for_the_smoothed_part_too() -> None:
    criterion = CrossEntropy(COUNTS, probability_floor=FLOOR, label_smoothing=0.3)
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.testing.assert_close(criterion(logits, labels), F.cross_entropy(logits, labels, label_smoothing=0.3))
    # A tenth for each of the two others, whose probabilities are 0.
    assert float(criterion(torch.tensor([[100.0, 0, 0]]), labels[:1])) == pytest.approx(0.2 * 11.512925)


def test_it_is_an_addition_and_has_bounds() -> None:
    assert CrossEntropy.Config().model_dump() == CrossEntropy.Config(probability_floor=None).model_dump()
    assert "probability_floor" not in CrossEntropy.Config().model_dump()
    for wrong in (0, 1, -1e-5):
        with pytest.raises(UserError, match="probability_floor"):
            CrossEntropy(COUNTS, probability_floor=wrong)
