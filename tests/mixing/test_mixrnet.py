"""The mixups of mixRnet, and mixup or CutMix by a coin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mix_cases import STATS, batch_of, build, constant, step_at
from torch.nn import functional as F

from lt_bench.data.types import Batch, Epoch
from lt_bench.losses import mixed_loss
from lt_bench.mixing.mixrnet import MixRNet
from lt_bench.registry import lookup

LABELS = np.repeat(np.arange(3), [1000, 100, 10])


def shares(mode: str, size: int = 20_000) -> np.ndarray:
    mix = build("mixrnet", mode=mode)
    assert isinstance(mix, MixRNet)
    return mix.draw_shares(size, step_at().rng)


def test_an_image_in_five_is_mixed_by_the_beta_law() -> None:
    drawn = shares("fifth")
    mixed = drawn[drawn < 1]
    assert len(mixed) / len(drawn) == pytest.approx(0.2, abs=0.01)
    assert mixed.mean() == pytest.approx(0.5, abs=0.02)
    assert mixed.var() == pytest.approx(0.178571, abs=0.005)
    assert ((mixed > 0.1) & (mixed < 0.9)).mean() == pytest.approx(0.3266, abs=0.02)


def test_in_the_form_of_the_paper_all_are() -> None:
    drawn = shares("batch")
    assert (drawn < 1).mean() > 0.99  # float64 rounds some of them to 1
    assert np.maximum(drawn, 1 - drawn).mean() == pytest.approx(0.8988, abs=0.005)


def test_who_is_mixed_does_not_depend_on_the_class() -> None:
    mix, batch = build("mixrnet"), Batch(torch.zeros(1110, 3, 1, 1), torch.from_numpy(LABELS))
    mixed = np.zeros(3)
    for seed in range(60):
        share = torch.as_tensor(mix(batch, batch, step_at(seed=seed)).terms[0][1])
        mixed += np.bincount(LABELS[(share < 1).numpy()], minlength=3)
    assert mixed / (60 * np.bincount(LABELS)) == pytest.approx([0.2] * 3, abs=0.05)


def test_partners_come_from_the_whole_training_set_whatever_the_stream() -> None:
    mix, order = build("mixrnet"), np.full(50_000, 7)
    drawn = mix.partner_order(order, LABELS, Epoch(3, 10, 0))
    assert drawn is not None
    assert drawn.shape == order.shape
    assert np.bincount(LABELS[drawn]) / len(drawn) == pytest.approx(np.bincount(LABELS) / 1110, abs=0.01)
    assert drawn.min() == 0
    assert drawn.max() == 1109
    assert not np.array_equal(drawn, mix.partner_order(order, LABELS, Epoch(4, 10, 0)))
    assert build("mixrnet", mode="batch").partner_order(order, LABELS, Epoch(3, 10, 0)) is None


@pytest.mark.parametrize("mode", ["fifth", "batch"])
def test_every_pair_has_a_share_of_its_own(mode: str) -> None:
    batch, partner = constant(1, [0] * 64), constant(0, [1] * 64)
    mixed = build("mixrnet", mode=mode)(batch, partner, step_at())
    (own, share), (other, rest) = mixed.terms
    assert isinstance(share, torch.Tensor)
    assert (own.tolist(), other.tolist()) == ([0] * 64, [1] * 64)
    torch.testing.assert_close(mixed.images.mean((1, 2, 3)), share)  # the images are one and zero
    torch.testing.assert_close(share + rest, torch.ones(64))
    assert len(share.unique()) > 5
    untouched = share == 1
    assert torch.equal(mixed.images[untouched], batch.images[untouched])
    assert 30 < int(untouched.sum()) < 64 if mode == "fifth" else int(untouched.sum()) < 8


def test_the_loss_is_cross_entropy_of_the_mixed_labels() -> None:
    batch, partner = batch_of(size=64), batch_of(1, size=64)
    mixed = build("mixrnet", mode="batch")(batch, partner, step_at())
    soft = sum(torch.as_tensor(share)[:, None] * F.one_hot(labels, 3) for labels, share in mixed.terms)
    logits = torch.randn(64, 3)
    found = mixed_loss(lookup("loss", "cross-entropy")(STATS), logits, mixed, step_at())
    torch.testing.assert_close(found, F.cross_entropy(logits, torch.as_tensor(soft)))


@pytest.mark.parametrize("probability", [0.5, 0.0, 1.0])
def test_every_batch_is_mixed_one_way_or_the_other(probability: float) -> None:
    mix, step = build("mixup-or-cutmix", probability=probability, mixup_alpha=1), step_at()
    background, foreground = constant(0, [0, 1]), constant(1, [2, 2])
    cut = []
    for _ in range(400):
        mixed = mix(background, foreground, step)
        (first, share), (second, rest) = mixed.terms
        assert (first.tolist(), second.tolist()) == ([0, 1], [2, 2])
        assert float(mixed.images.mean()) == pytest.approx(rest, abs=1e-5)
        assert share + rest == pytest.approx(1)
        cut.append(set(mixed.images.unique().tolist()) <= {0.0, 1.0} and 0 < share < 1)
    # Some boxes are empty or the whole image.
    assert np.mean(cut) == pytest.approx(probability, abs=0.1)


def test_each_way_has_a_law_of_its_own() -> None:
    background, foreground = constant(0, [0]), constant(1, [1])
    found = {}
    for way, probability in (("mixup", 0.0), ("cutmix", 1.0)):
        mix, step = build("mixup-or-cutmix", probability=probability), step_at()
        drawn = [float(mix(background, foreground, step).terms[0][1]) for _ in range(4000)]
        found[way] = float(np.mean(drawn)), float(np.var(drawn))
    assert found["mixup"] == pytest.approx((0.5, 1 / (4 * 1.2)), abs=0.02)  # Beta(0.1, 0.1)
    assert found["cutmix"][0] == pytest.approx(0.7011, abs=0.02)  # Beta(1, 1), clipped
    off = build("mixup-or-cutmix", mixup_alpha=0, cutmix_alpha=0)
    assert torch.equal(off(background, foreground, step_at()).images, background.images)
