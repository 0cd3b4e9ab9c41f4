"""Remix against its card: the label shares of pairs, and how little label mass they move."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mix_cases import STATS, batch_of, build, constant, step_at
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, ClassStats
from lt_bench.mixing.remix import Remix
from lt_bench.recipe import load_recipe

CIFAR10_LT = torch.tensor([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])


def remix(counts: Tensor | list[int], **settings: Any) -> Remix:
    mix = build("remix", ClassStats(torch.as_tensor(counts)), **settings)
    assert isinstance(mix, Remix)
    return mix


def label_share(n_i: int, n_j: int, share: float, **settings: Any) -> float:
    return remix([n_i, n_j], **settings).label_share(torch.tensor([0]), torch.tensor([1]), share).item()


@pytest.mark.parametrize(
    ("n_i", "n_j", "share", "expected"),
    [
        (100, 10, 0.3, 0),
        (100, 10, 0.7, 0.7),
        (10, 100, 0.7, 1),
        (10, 100, 0.3, 0.3),
        (30, 10, 0.4, 0),  # a ratio of exactly kappa counts
        (29, 10, 0.4, 0.4),
        (10, 30, 0.6, 1),
        (100, 10, 0.5, 0.5),  # a share of exactly tau does not
    ],
)
def test_label_share_by_hand(n_i: int, n_j: int, share: float, expected: float) -> None:
    assert label_share(n_i, n_j, share) == pytest.approx(expected)


@pytest.mark.parametrize("settings", [{"tau": 0}, {"kappa": 1e30}])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_it_is_mixup_at_the_ends_of_its_settings(settings: dict[str, Any], share: float) -> None:
    for pair in ((100, 10), (10, 100)):
        assert label_share(*pair, share, **settings) == pytest.approx(share)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_between_equal_classes_it_is_mixup(share: float) -> None:
    assert label_share(50, 50, share) == pytest.approx(share)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 1024))
def test_a_pair_is_treated_alike_from_both_sides(n_i: int, n_j: int, part: int) -> None:
    share = part / 1024  # so that 1 - share is exact, as at the edges of the rule it has to be
    assert label_share(n_i, n_j, share) + label_share(n_j, n_i, 1 - share) == pytest.approx(1)


@pytest.mark.parametrize(("n_i", "n_j", "expected"), [(10, 100, 0.625), (100, 10, 0.375), (10, 20, 0.5)])
def test_expected_share_of_a_pair(n_i: int, n_j: int, expected: float) -> None:
    # A rare own class: the integral of l over 0..0.5, which is 0.125, and of 1 over 0.5..1.
    grid = [(k + 0.5) / 1000 for k in range(1000)]
    assert sum(label_share(n_i, n_j, share) for share in grid) / 1000 == pytest.approx(expected)


def test_it_barely_moves_label_mass() -> None:
    mix, prior = remix(CIFAR10_LT), ClassStats(CIFAR10_LT).prior.double()
    own, other = torch.arange(10).repeat_interleave(10), torch.arange(10).repeat(10)
    shares = torch.stack([mix.label_share(own, other, (k + 0.5) / 1000) for k in range(1000)])
    pairs = prior[:, None] * prior  # two independent draws
    kept = pairs * shares.double().mean(dim=0).reshape(10, 10)
    expected = [0.381809, 0.234099, 0.142169, 0.094678, 0.060084, 0.037267, 0.022778, 0.013804, 0.008295, 0.005016]
    mass = kept.sum(dim=1) + (pairs - kept).sum(dim=0)
    torch.testing.assert_close(mass, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)
    assert prior[0].item() == pytest.approx(0.403031, abs=1e-6)  # that of mixup
    assert prior[9].item() == pytest.approx(0.004030, abs=1e-6)


def test_pixels_keep_the_share_that_the_label_gives_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_bench.mixing.remix.draw_share", lambda *_: 0.3)
    mixed = build("remix")(constant(1, [0, 2, 0, 1]), constant(0, [2, 0, 0, 2]), step_at())
    assert mixed.images.unique().tolist() == [pytest.approx(0.3)]  # one share of the pixels for the batch
    (own, share), (other, rest) = mixed.terms
    assert (own.tolist(), other.tolist()) == ([0, 2, 0, 1], [2, 0, 0, 2])
    torch.testing.assert_close(share, torch.tensor([0, 0.3, 0.3, 0]))
    torch.testing.assert_close(rest, torch.tensor([1, 0.7, 0.7, 1]))


def test_every_pair_keeps_its_own_share_in_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the mean share times the mean loss, as in one public implementation."""
    monkeypatch.setattr("lt_bench.mixing.remix.draw_share", lambda *_: 0.3)
    batch = Batch(torch.zeros(2, 3, 1, 1), torch.tensor([0, 2]))
    (own, share), (other, rest) = build("remix")(batch, Batch(batch.images, torch.tensor([2, 0])), step_at()).terms
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    first, second = (F.cross_entropy(logits, labels, reduction="none") for labels in (own, other))
    # The first image is all class 2, at 2.407606; the second .3 of class 2, at .407606, and .7 of class 0.
    by_hand = (2.407606 + 0.3 * 0.407606 + 0.7 * 2.407606) / 2
    assert (share * first + rest * second).mean().item() == pytest.approx(by_hand, abs=1e-6)


def test_a_beta_law_with_zero_parameter_does_not_mix() -> None:
    batch = batch_of()
    mixed = build("remix", alpha=0)(batch, batch_of(1), step_at())
    assert torch.equal(mixed.images, batch.images)
    assert torch.equal(torch.as_tensor(mixed.terms[0][1]), torch.ones(4))


def test_counts_are_those_of_the_training_set_and_stay_out_of_checkpoints() -> None:
    mix = build("remix")
    assert mix.get_buffer("counts").tolist() == STATS.counts.tolist()
    assert mix.state_dict() == {}


def test_default_settings_are_those_of_the_paper() -> None:
    assert build("remix").config.model_dump() == {"alpha": 1.0, "kappa": 3.0, "tau": 0.5}


@pytest.mark.parametrize("name", ["remix-drw", "mixup-drw"])
@pytest.mark.parametrize("dataset", ["digits-lt", "cifar10-lt", "cifar100-lt"])
def test_deferred_weights_act_as_in_the_reference(dataset: str, name: str) -> None:
    """Of every image l w[a] ce(a) + (1 - l) w[b] ce(b), and the plain mean of these, as in imbalanced-DL."""
    chosen = load_recipe(f"{dataset}/{name}").phase_choices()[-1]
    counts = [90, 9, 1]
    stats = ClassStats(torch.tensor(counts))
    loss, mix = (part.component(stats, part.config) for part in (chosen.loss, chosen.mix))
    batch, logits = batch_of(size=6), torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    terms = mix(batch, None, step_at()).terms
    found = sum(loss(logits, labels, share) for labels, share in terms)

    effective = [(1 - 0.9999**n) / (1 - 0.9999) for n in counts]
    w = [3 / e / sum(1 / f for f in effective) for e in effective]
    expected = 0.0
    for labels, share in terms:
        for image, y in enumerate(labels.tolist()):
            exponentials = [math.exp(z) for z in logits[image].tolist()]
            ce = -math.log(exponentials[y] / sum(exponentials))
            expected += torch.as_tensor(share).expand(6)[image].item() * w[y] * ce / 6
    assert float(found) == pytest.approx(expected, rel=1e-5)
