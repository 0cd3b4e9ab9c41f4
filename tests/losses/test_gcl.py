"""GCL against the values of its released code, and what its noise means."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loss_cases import COSINES, LABELS, STATS, build, check
from torch.nn import functional as F

from lt_bench.data.types import ClassStats, generator
from lt_bench.losses.gcl import GCL

NOISE = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.5, -0.4], [1.0, -1.0, 0.25], [-0.3, 0.6, 0.9]])
SECOND_STAGE = {"margin": 0.1, "scale": 20, "gamma": 1}


def gcl(stats: ClassStats = STATS, **settings: Any) -> GCL:
    loss = build("gcl", stats, **settings)
    assert isinstance(loss, GCL)
    return loss


@pytest.mark.parametrize(("settings", "value"), [({}, 2.474713), (SECOND_STAGE, 2.362946)])
def test_gcl(settings: dict[str, Any], value: float) -> None:
    loss = gcl(**settings)
    check(loss.delta, [0, 0.5, 1])
    check(loss(loss.clouded(COSINES, NOISE), LABELS), value)


def test_noise_lowers_every_logit_by_the_rarity_of_its_class() -> None:
    lowered = COSINES - gcl(noise=2).clouded(COSINES, NOISE)
    check(lowered[0], [0, 0.2, 0.6])  # 2 |e| times 0, 0.5 and 1
    check(lowered[2], [0, 1.0, 0.5])  # the size of the noise counts, not its sign


def test_noise_is_normal_of_a_third_and_cut_off_at_one() -> None:
    loss, zeros = gcl(noise=1), torch.zeros(100_000, 3)
    noise = -loss.disturbed(zeros, [], generator(0, "test"))
    assert not noise[:, 0].any()
    sizes = noise[:, 2]
    assert sizes.min() >= 0
    assert sizes.max() == 1  # 3 standard deviations: reached by 0.27 % of the draws
    assert (sizes == 1).float().mean().item() == pytest.approx(0.0027, abs=0.001)
    assert (sizes < 1 / 3).float().mean().item() == pytest.approx(0.6827, abs=0.005)
    torch.testing.assert_close(noise[:, 1].max(), torch.tensor(0.5))


def test_noise_is_new_in_every_step() -> None:
    loss, rng = gcl(), generator(0, "test")
    first, second = (loss.disturbed(COSINES, [LABELS], rng) for _ in range(2))
    assert (first[:, 1:] != second[:, 1:]).all()


def test_classes_of_one_size_have_no_noise() -> None:
    loss = gcl(ClassStats(torch.tensor([9, 9, 9])))
    disturbed = loss.disturbed(COSINES, [LABELS], generator(0, "test"))
    assert torch.equal(disturbed, COSINES)
    torch.testing.assert_close(loss(disturbed, LABELS), F.cross_entropy(30 * COSINES, LABELS))


def test_the_discount_has_no_gradient() -> None:
    leaf = (COSINES / 30).requires_grad_()  # with the scale: plain softmax probabilities between 0.2 and 0.6
    losses = gcl(gamma=2).per_sample(leaf, LABELS)
    plain = F.cross_entropy(30 * leaf, LABELS, reduction="none")
    discount = (1 - torch.exp(-plain.detach())) ** 2
    (found,) = torch.autograd.grad(losses.sum(), leaf)
    (expected,) = torch.autograd.grad((discount * plain).sum(), leaf)
    torch.testing.assert_close(found, expected)


def test_predicts_with_scaled_cosines() -> None:
    loss = gcl(scale=20, margin=0.1)
    assert loss.takes_cosines
    check(loss.scores(COSINES), (20 * COSINES).tolist())
