"""The inputs on which the losses are compared with their papers' own code: class sizes 500, 50, 5; four images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lt_bench.data.types import ClassStats
from lt_bench.losses import Loss
from lt_bench.mixing import Share
from lt_bench.registry import lookup

STATS = ClassStats(torch.tensor([500, 50, 5]))
LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.2, 1.0, 0.3], [1.5, 0.1, 0.9], [-0.5, 0.4, 1.2]])
COSINES = torch.tensor([[0.8, 0.1, -0.2], [0.3, 0.5, 0.0], [0.4, -0.1, 0.2], [-0.3, 0.2, 0.6]])
LABELS = torch.tensor([0, 1, 2, 2])
FEATURES = torch.tensor([[1.0, -2.0], [0.0, 2.0], [-1.0, 0.5], [0.25, 0.25]])
"""Of L1 norms 3, 2, 1.5 and 0.5."""


def build(name: str, stats: ClassStats = STATS, **settings: Any) -> Loss:
    component = lookup("loss", name)
    loss: Loss = component(stats, **settings)
    return loss


def check(found: Tensor, expected: float | list[Any], rtol: float = 2e-5, atol: float = 2e-6) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), rtol=rtol, atol=atol)


def value(loss: Loss, logits: Tensor, labels: Tensor = LABELS, share: Share = 1.0) -> Tensor:
    """The loss, given the features of the images if it takes them."""
    features = [FEATURES.to(logits.device)] if loss.takes_features else []
    found: Tensor = loss(logits, labels, share, *features)
    return found


def gradient(loss: Loss, logits: Tensor, labels: Tensor = LABELS) -> Tensor:
    leaf = logits.clone().requires_grad_()
    value(loss, leaf, labels).backward()
    assert leaf.grad is not None
    return leaf.grad
