"""Mixes with a second stream of their own: which classes the two streams bring together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mix_cases import build, constant, step_at

from lt_bench.data.samplers import ClassBalanced, inverse_size_weights
from lt_bench.data.split import class_sizes
from lt_bench.data.types import Epoch, IntArray, generator
from lt_bench.mixing.balanced_mixup import balanced_share
from lt_bench.mixing.mixup import draw_share

BOTH = ["label-occurrence-balanced-mixup", "balanced-mixup"]
CIFAR10_LT = np.array([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])
LABELS = np.repeat(np.arange(10), CIFAR10_LT)
PRIOR = CIFAR10_LT / CIFAR10_LT.sum()
MAIN = np.zeros(400_000, dtype=np.int64)  # a main stream of which only the length matters


def partners(name: str, labels: IntArray = LABELS, main: IntArray = MAIN, epoch: int = 0, **settings: Any) -> IntArray:
    order = build(name, **settings).partner_order(main, labels, Epoch(epoch, 200, 0))
    assert order is not None
    return order


def balanced_pairs(epochs: int = 30) -> tuple[IntArray, IntArray]:
    """Classes of the pairs of label-occurrence-balanced mixup over some epochs of CIFAR-10-LT, factor 100."""
    sampler, mix = ClassBalanced(LABELS, 10), build("label-occurrence-balanced-mixup")
    own, other = [], []
    for index in range(epochs):
        epoch = Epoch(index, epochs, 0)
        order = sampler.order(epoch, epoch.rng("sampler"))
        partner = mix.partner_order(order, LABELS, epoch)
        assert partner is not None
        own.append(LABELS[order])
        other.append(LABELS[partner])
    return np.concatenate(own), np.concatenate(other)


# --- the class-balanced stream of both ---------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
def test_the_second_stream_is_class_balanced(name: str) -> None:
    order = partners(name)
    assert len(order) == len(MAIN)
    np.testing.assert_allclose(np.bincount(LABELS[order]) / len(order), np.full(10, 0.1), atol=0.003)
    tail = np.bincount(order, minlength=len(LABELS))[-50:]  # uniform inside a class
    np.testing.assert_allclose(tail / len(order), np.full(50, 0.002), atol=0.0004)


def test_probability_of_an_image() -> None:
    weights = inverse_size_weights(LABELS, 1.0)
    probability = weights / weights.sum()
    assert probability[0] == pytest.approx(1 / 50_000)
    assert probability[-1] == pytest.approx(1 / 500)


@pytest.mark.parametrize("name", BOTH)
def test_on_a_balanced_set_every_image_is_as_likely(name: str) -> None:
    order = partners(name, np.repeat(np.arange(4), 5))
    np.testing.assert_allclose(np.bincount(order) / len(order), np.full(20, 0.05), atol=0.002)


@pytest.mark.parametrize("name", BOTH)
def test_the_second_stream_ignores_the_first_and_is_new_each_epoch(name: str) -> None:
    forward = np.arange(len(LABELS))
    first = partners(name, main=forward)
    np.testing.assert_array_equal(first, partners(name, main=forward[::-1].copy()))
    assert not np.array_equal(first, partners(name, main=forward, epoch=1))


# --- label-occurrence-balanced mixup -----------------------------------------------------------------


def test_streams_are_independent() -> None:
    own, other = balanced_pairs()
    joint = np.bincount(10 * own + other, minlength=100) / len(own)
    np.testing.assert_allclose(joint, np.full(100, 0.01), atol=0.001)


@pytest.mark.parametrize("alpha", [0.2, 1])
def test_every_class_has_the_same_label_occurrence(alpha: float) -> None:
    own, other = balanced_pairs()
    rng = step_at().rng
    share = np.array([draw_share(alpha, rng) for _ in own])
    occurrence = np.bincount(own, share) + np.bincount(other, 1 - share)
    np.testing.assert_allclose(occurrence / len(own), np.full(10, 0.1), atol=0.002)


def contains(own: IntArray, other: IntArray, classes: range) -> float:
    return float((np.isin(own, classes) | np.isin(other, classes)).mean())


def test_no_class_is_suppressed() -> None:
    own, other = balanced_pairs()
    assert contains(own, other, range(3)) == pytest.approx(0.51, abs=0.004)
    assert contains(own, other, range(7, 10)) == pytest.approx(0.51, abs=0.004)
    assert (own == other).mean() == pytest.approx(0.1, abs=0.002)


def test_random_pairs_suppress_the_tail() -> None:
    shuffled = [generator(seed, "pairs").permutation(np.repeat(LABELS, 30)) for seed in (0, 1)]
    assert contains(*shuffled, range(3)) == pytest.approx(0.955638, abs=0.002)
    assert contains(*shuffled, range(7, 10)) == pytest.approx(0.043369, abs=0.002)
    assert (shuffled[0] == shuffled[1]).mean() == pytest.approx(0.2535, abs=0.003)
    sizes = np.array(class_sizes(100, 500, 100, "exponential"))
    many = sizes[sizes > 100].sum() / sizes.sum()
    assert (many, 1 - (1 - many) ** 2) == (pytest.approx(0.813497, abs=1e-6), pytest.approx(0.965217, abs=1e-6))


def test_before_its_first_epoch_it_is_mixup() -> None:
    mix, mixup = build("label-occurrence-balanced-mixup", start_epoch=5), build("mixup")
    asked = [mix.partner_order(np.arange(len(LABELS)), LABELS, Epoch(index, 200, 0)) is None for index in (0, 4, 5)]
    assert asked == [True, True, False]
    batch = constant(1, [0, 1, 2])
    mixed, plain = mix(batch, None, step_at(4)), mixup(batch, None, step_at(4))
    assert torch.equal(mixed.images, plain.images)
    for (labels, share), (same, equal) in zip(mixed.terms, plain.terms, strict=True):
        assert torch.equal(labels, same)
        assert share == equal


def test_default_settings_of_label_occurrence_balanced_mixup() -> None:
    config = build("label-occurrence-balanced-mixup").config
    assert config.model_dump() == {"alpha": 1.0, "start_epoch": 0}


# --- Balanced-MixUp ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "mean", "median", "above_half"),
    [
        (0.1, 0.090909, 0.000977, 0.066967),
        (0.2, 0.166667, 0.03125, 0.129449),
        (0.3, 0.230769, 0.099213, 0.187748),
        (1, 0.5, 0.5, 0.5),
    ],
)
def test_share_follows_the_asymmetric_beta_law(alpha: float, mean: float, median: float, above_half: float) -> None:
    rng = step_at().rng
    shares = np.array([balanced_share(alpha, rng) for _ in range(40_000)])
    assert shares.mean() == pytest.approx(mean, abs=0.006)
    assert np.mean(shares < median) == pytest.approx(0.5, abs=0.01)
    assert np.mean(shares > 0.5) == pytest.approx(above_half, abs=0.008)


@pytest.mark.parametrize(
    ("alpha", "head", "tail"),
    [
        (0.1, 0.375483, 0.012755),
        (0.2, 0.352526, 0.020025),
        (0.3, 0.333101, 0.026177),
        (1, (PRIOR[0] + 0.1) / 2, (PRIOR[9] + 0.1) / 2),
    ],
)
def test_expected_label_share(alpha: float, head: float, tail: float) -> None:
    mean = alpha / (1 + alpha)
    expected = (1 - mean) * PRIOR + mean / 10
    assert (expected[0], expected[9]) == pytest.approx((head, tail), abs=1e-6)
    main, rng = np.tile(np.arange(len(LABELS)), 30), step_at().rng  # epochs of the natural stream
    order = partners("balanced-mixup", main=main)
    share = np.array([balanced_share(alpha, rng) for _ in main])
    found = np.bincount(LABELS[main], 1 - share) + np.bincount(LABELS[order], share)
    np.testing.assert_allclose(found / len(main), expected, atol=0.003)


def test_the_share_is_that_of_the_balanced_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_bench.mixing.balanced_mixup.balanced_share", lambda *_: 0.125)
    mixed = build("balanced-mixup")(constant(0, [0, 0]), constant(1, [2, 1]), step_at())
    assert mixed.images.unique().tolist() == [0.125]
    assert [(labels.tolist(), share) for labels, share in mixed.terms] == [([0, 0], 0.875), ([2, 1], 0.125)]


@pytest.mark.parametrize(("alpha", "value"), [(0, 0.0), (1e-6, 0.0), (1e6, 1.0)])
def test_its_limits_are_the_two_streams(alpha: float, value: float) -> None:
    mixed = build("balanced-mixup", alpha=alpha)(constant(0, [0, 0]), constant(1, [2, 1]), step_at())
    torch.testing.assert_close(mixed.images, torch.full_like(mixed.images, value), atol=1e-4, rtol=0)


def test_default_settings_of_balanced_mixup() -> None:
    assert build("balanced-mixup").config.model_dump() == {"alpha": 0.2}


# --- minority-weighted partners of any mix -----------------------------------------------------------


@pytest.mark.parametrize(("exponent", "shares"), [(0.0, PRIOR), (1.0, np.full(10, 0.1))])
def test_partners_of_another_mix_come_from_rare_classes(exponent: float, shares: np.ndarray) -> None:
    order = partners("minority-partners", exponent=exponent, generator="mixup")
    found = np.bincount(LABELS[order], minlength=10) / len(order)
    np.testing.assert_allclose(found, shares, atol=0.004)


def test_in_front_of_cutmix_it_mixes_as_cutmix_does() -> None:
    settings = {"name": "cutmix", "beta": 0.7, "probability": 0.8}
    own, alone = build("minority-partners", generator=settings), build("cutmix", beta=0.7, probability=0.8)
    for seed in range(8):
        batch, partner = constant(0, [0, 1]), constant(1, [2, 2])
        mixed, expected = (mix(batch, partner, step_at(seed=seed)) for mix in (own, alone))
        assert torch.equal(mixed.images, expected.images)
        assert mixed.terms == expected.terms
