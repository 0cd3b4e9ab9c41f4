"""Binary cross entropy: its value, and what a threshold makes of the targets of mixed images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loss_cases import LABELS, LOGITS, build, check, gradient
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Step
from lt_bench.errors import UserError
from lt_bench.losses import mixed_loss
from lt_bench.losses.binary_cross_entropy import soft_target
from lt_bench.mixing import Mixed

STEP = Step.at(0, 1, epoch=0, epochs=1, seed=0)
IMAGES = torch.zeros(1)
PARTNERS = torch.tensor([1, 1, 0, 1])


def mixed(*terms: Any, threshold: float | None = None) -> Tensor:
    return mixed_loss(build("binary-cross-entropy", target_threshold=threshold), LOGITS, Mixed(IMAGES, terms), STEP)


def test_a_mean_over_images_and_classes() -> None:
    """At z = 0 each decision costs log 2, and has a gradient of 1/2 either way, over 2 images of 3 classes."""
    zeros = torch.zeros(2, 3)
    check(build("binary-cross-entropy")(zeros, LABELS[:2]), 0.693147)
    check(
        gradient(build("binary-cross-entropy"), zeros, LABELS[:2]),
        [[-1 / 12, 1 / 12, 1 / 12], [1 / 12, -1 / 12, 1 / 12]],
    )
    target = F.one_hot(LABELS, 3).float()
    check(build("binary-cross-entropy")(LOGITS, LABELS), F.binary_cross_entropy_with_logits(LOGITS, target).item())


def test_without_a_threshold_targets_are_shares() -> None:
    share = torch.tensor([0.7, 0.9, 0.5, 1.0])
    target = share[:, None] * F.one_hot(LABELS, 3) + (1 - share)[:, None] * F.one_hot(PARTNERS, 3)
    found = mixed((LABELS, share), (PARTNERS, 1 - share))
    check(found, F.binary_cross_entropy_with_logits(LOGITS, target).item())


@pytest.mark.parametrize(
    ("terms", "target"),
    [
        ([(0, 0.9), (1, 0.1)], [1, 0, 0]),
        ([(0, 0.7), (1, 0.3)], [1, 1, 0]),
        ([(0, 0.8), (1, 1 - 0.8)], [1, 0, 0]),  # 0.2 is not above 0.2
        ([(0, 0.15), (0, 0.15), (2, 0.7)], [1, 0, 1]),  # two labels of one class are one target of 0.3
        ([(2, 1.0)], [0, 0, 1]),
    ],
)
def test_a_target_above_the_threshold_becomes_one(terms: list[tuple[int, float]], target: list[float]) -> None:
    pairs = [(torch.full((4,), label), share) for label, share in terms]
    check(
        mixed(*pairs, threshold=0.2),
        F.binary_cross_entropy_with_logits(LOGITS, torch.tensor([target] * 4).float()).item(),
    )


def test_shares_of_any_form_make_one_target() -> None:
    expected = [[0.75, 0.25, 0], [0, 1, 0], [0.25, 0, 0.75], [0, 0.25, 0.75]]
    for share in (0.75, torch.tensor(0.75), torch.full((4,), 0.75)):
        check(soft_target([(LABELS, share), (PARTNERS, 1 - share)], LOGITS), expected)


def test_a_threshold_and_class_weights_do_not_go_together() -> None:
    with pytest.raises(UserError, match="which class weights set apart"):
        build("binary-cross-entropy", target_threshold=0.2, weights="inverse-frequency")
    for threshold in (-0.1, 1, float("nan")):
        with pytest.raises(UserError, match="target_threshold"):
            build("binary-cross-entropy", target_threshold=threshold)
