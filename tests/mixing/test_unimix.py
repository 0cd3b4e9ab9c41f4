"""UniMix and Bayias against their card: shares shifted round a circle, partners drawn by the device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mix_cases import STATS, batch_of, build, constant, step_at
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, ClassStats
from lt_bench.losses.logit_adjustment import BalancedSoftmax
from lt_bench.mixing.unimix import UniMix, shifted

CIFAR10_LT = ClassStats(torch.tensor([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]))


def unimix(class_stats: ClassStats = STATS, **settings: Any) -> UniMix:
    mix = build("unimix", class_stats, **settings)
    assert isinstance(mix, UniMix)
    return mix


def class_mass(weights: Tensor, labels: Tensor) -> Tensor:
    """Sums by class of weights [B]."""
    return torch.zeros(int(labels.max()) + 1, dtype=torch.float64).index_add_(0, labels, weights.double())


# --- shares ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_i", "n_j", "part"),
    [(5000, 50, 0.009901), (50, 5000, 0.990099), (7, 7, 0.5), (5000, 2997, 0.374766)],
)
def test_partner_part_by_hand(n_i: int, n_j: int, part: float) -> None:
    mix = unimix(ClassStats(torch.tensor([n_i, n_j])))
    there, back = mix.partner_part(torch.tensor([0, 1]), torch.tensor([1, 0])).tolist()
    assert there == pytest.approx(part, abs=1e-6)
    assert there + back == pytest.approx(1)


@pytest.mark.parametrize(
    ("b", "t", "share"),
    [(0.5, 0.009901, 0.509901), (0.995, 0.009901, 0.004901), (0.25, 0.990099, 0.240099), (0.5, 0.5, 1)],
)
def test_the_shift_wraps_above_one(b: float, t: float, share: float) -> None:
    assert shifted(torch.tensor(b), torch.tensor(t)).item() == pytest.approx(share, abs=1e-6)


def expected_share(alpha: float, t: float) -> float:
    b = torch.from_numpy(stats.beta.ppf((np.arange(20_000) + 0.5) / 20_000, alpha, alpha))
    return shifted(b, torch.tensor(t, dtype=torch.float64)).mean().item()


@pytest.mark.parametrize(
    ("t", "expected"), [(0.009901, 0.489349), (0.25, 0.471460), (0.5, 0.5), (0.75, 0.528540), (0.990099, 0.510651)]
)
def test_expected_share(t: float, expected: float) -> None:
    assert expected_share(0.8, t) == pytest.approx(expected, abs=1e-4)
    assert 0.5 + t - stats.beta.sf(1 - t, 0.8, 0.8) == pytest.approx(expected, abs=1e-6)


def test_no_pair_has_an_expected_share_far_from_a_half() -> None:
    t = np.linspace(0, 1, 2001)
    share = 0.5 + t - stats.beta.sf(1 - t, 0.8, 0.8)
    assert (share.min(), share.max()) == (pytest.approx(0.4668, abs=5e-5), pytest.approx(0.5332, abs=5e-5))
    assert (t[share.argmin()], t[share.argmax()]) == (pytest.approx(0.146, abs=0.001), pytest.approx(0.854, abs=0.001))


@pytest.mark.parametrize("t", [0.0, 0.01, 0.3, 1.0])
def test_a_uniform_share_stays_uniform(t: float) -> None:
    assert expected_share(1, t) == pytest.approx(0.5, abs=1e-4)


def test_every_pair_has_a_share_of_its_own() -> None:
    mix, step = unimix(), step_at()
    batch, partner = constant(1, [0] * 2000), constant(0, [2] * 2000)
    batch, partner = Batch(batch.images[..., :1, :1], batch.labels), Batch(partner.images[..., :1, :1], partner.labels)
    mixed = mix(batch, partner, step)
    (_, share), (_, rest) = mixed.terms
    assert isinstance(share, Tensor)
    torch.testing.assert_close(mixed.images[:, 0, 0, 0], share)  # pixels and labels alike
    torch.testing.assert_close(rest, 1 - share)
    assert len(share.unique()) > 1900
    assert share.mean().item() == pytest.approx(expected_share(0.8, 1 / 101), abs=0.03)


# --- partners ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tau", "mass"),
    [
        (-0.5, [0.185617, 0.195658, 0.618725]),
        (-1, [0.026549, 0.088496, 0.884956]),
        (-0.1, [0.513363, 0.215429, 0.271208]),
        (0, [0.6, 0.2, 0.2]),
        (-1e4, [0, 0, 1]),
    ],
)
def test_partners_of_a_batch(tau: float, mass: list[float]) -> None:
    mix, labels = unimix(tau=tau), torch.tensor([0, 0, 0, 1, 2])
    expected = torch.tensor(mass, dtype=torch.float64)
    torch.testing.assert_close(class_mass(mix.partner_law(labels), labels), expected, atol=1e-6, rtol=0)
    batch, rng = Batch(torch.arange(5.0).reshape(5, 1, 1, 1), labels), step_at().rng
    drawn = torch.cat([mix.draw_partners(batch, rng).images for _ in range(4000)]).flatten().long()
    found = torch.bincount(labels[drawn], minlength=3) / len(drawn)
    torch.testing.assert_close(found.double(), expected, atol=0.012, rtol=0)
    if tau == 0:
        assert (torch.bincount(drawn) / len(drawn)).tolist() == pytest.approx([0.2] * 5, abs=0.012)


def test_no_exponent_makes_a_batch_of_frequent_classes_vanish() -> None:
    law = unimix(CIFAR10_LT, tau=-1000).partner_law(torch.tensor([0, 0, 1]))
    assert law.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("tau", "head", "tail"), [(-0.5, 0.244738, 0.024474), (-1, 0.1, 0.1), (-0.1, 0.372864, 0.005909)]
)
def test_expected_partner_class_law(tau: float, head: float, tail: float) -> None:
    # The whole training set as one batch: a class is drawn in proportion to n ** (1 + tau).
    labels = torch.arange(10).repeat_interleave(CIFAR10_LT.counts)
    # In float64: in float32 the last digits of so long a sum depend on the processor.
    mass = class_mass(unimix(CIFAR10_LT, tau=tau).double().partner_law(labels), labels)
    powers = CIFAR10_LT.counts.double() ** (1 + tau)
    torch.testing.assert_close(mass, powers / powers.sum(), atol=1e-6, rtol=1e-5)
    assert (mass[0].item(), mass[9].item()) == pytest.approx((head, tail), abs=2e-6)


@given(st.integers(0, 10**6), st.integers(1, 9))
def test_partners_come_from_the_batch_with_their_labels(seed: int, size: int) -> None:
    batch = Batch(torch.arange(float(size)).reshape(size, 1, 1, 1), torch.arange(size) % 3)
    drawn = unimix().draw_partners(batch, step_at(seed=seed).rng)
    positions = drawn.images.flatten().long()
    assert len(positions) == size
    assert torch.equal(drawn.labels, batch.labels[positions])


def test_labels_of_a_mixture_are_those_of_its_pixels() -> None:
    batch = Batch(F.one_hot(torch.tensor([0, 1, 2, 0]), 3).float()[:, :, None, None], torch.tensor([0, 1, 2, 0]))
    for seed in range(8):
        mixed = unimix()(batch, None, step_at(seed=seed))
        soft = sum(torch.as_tensor(share)[:, None] * F.one_hot(labels, 3) for labels, share in mixed.terms)
        torch.testing.assert_close(mixed.images[:, :, 0, 0], soft)


# --- schedule and loss -------------------------------------------------------------------------------


@pytest.mark.parametrize(("stop", "mixing"), [(None, [0, 9, 10, 199]), (10, [0, 9]), (0, [])])
def test_the_last_mixing_epoch(stop: int | None, mixing: list[int]) -> None:
    mix, batch = unimix(stop_epoch=stop), batch_of()
    assert [index for index in (0, 9, 10, 199) if len(mix(batch, None, step_at(index)).terms) == 2] == mixing


def test_counts_stay_out_of_checkpoints() -> None:
    assert unimix().state_dict() == {}


def test_default_settings_are_those_of_the_released_code() -> None:
    assert unimix().config.model_dump() == {"alpha": 0.8, "tau": -0.5, "stop_epoch": None}


def test_bayias_for_a_uniform_test_prior_is_balanced_softmax() -> None:
    """CE(z + log prior + log C, y), whose constant log C changes nothing."""
    offset = BalancedSoftmax(CIFAR10_LT).log_prior + math.log(10)
    expected = [1.393843, 0.882017, 0.369967, -0.141416, -0.654100]
    expected += [-1.164926, -1.676613, -2.188876, -2.704510, -3.211327]
    torch.testing.assert_close(offset, torch.tensor(expected), atol=2e-6, rtol=0)
    logits, labels = torch.randn(10, 10, generator=torch.Generator().manual_seed(0)), torch.arange(10)
    found = BalancedSoftmax(CIFAR10_LT)(logits, labels)
    torch.testing.assert_close(found, F.cross_entropy(logits + offset, labels))


def test_bayias_at_zero_logits() -> None:
    zero, labels = torch.zeros(3, 3), torch.arange(3)
    found = BalancedSoftmax(STATS).per_sample(zero, labels)
    torch.testing.assert_close(found, torch.tensor([0.104360, 2.406945, 4.709530]), atol=1e-6, rtol=0)
    balanced = BalancedSoftmax(ClassStats(torch.tensor([9, 9, 9])))
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.2, 1.0, 0.3], [1.5, 0.1, 0.9]])
    torch.testing.assert_close(balanced(logits, labels), F.cross_entropy(logits, labels))
