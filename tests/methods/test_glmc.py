"""GLMC against the values of its card, and the shape of its training step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_cases import batch_of, build, step_at, tiny_network
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, ClassStats, Epoch
from lt_bench.methods.glmc import (
    box_around,
    cumulative_weight,
    distance,
    mix_views,
    power_weights,
    soft_cross_entropy,
    soft_labels,
)
from lt_bench.models.heads.twin_classifier import TwinClassifierNetwork


def network() -> TwinClassifierNetwork:
    net = tiny_network("twin-classifier")
    assert isinstance(net, TwinClassifierNetwork)
    return net


def batches(side: int = 8) -> dict[str, Batch]:
    """Two views each of a natural and of a re-sampled batch of six images: other pixels, the same labels."""
    labels = {"natural": torch.tensor([0, 1, 2, 0, 0, 1]), "resampled": torch.tensor([2, 2, 0, 1, 2, 1])}
    names = [f"{stream}-{view}" for view in (1, 2) for stream in labels]
    rng = torch.Generator().manual_seed(0)
    return {name: Batch(torch.randn(6, 3, side, side, generator=rng), labels[name[:-2]]) for name in names}


# --- oracles -----------------------------------------------------------------------------------------


def test_the_class_weights_of_cifar100_lt() -> None:
    counts = torch.tensor([int(500 * 100 ** (-k / 99)) for k in range(100)])
    weights = power_weights(ClassStats(counts), 1.2)
    assert weights[[0, 1, 99]].tolist() == pytest.approx([0.020441, 0.021629, 5.134453], abs=1e-6)
    assert float(weights.sum()) == pytest.approx(100, rel=1e-6)


def test_class_weights_by_hand() -> None:
    stats = ClassStats(torch.tensor([100, 10, 1]))
    assert power_weights(stats, 1).tolist() == pytest.approx([3 / 111, 30 / 111, 300 / 111])
    assert power_weights(stats, 0).tolist() == [1, 1, 1]
    assert power_weights(stats, 1e9).tolist() == [0, 0, 3]


@pytest.mark.parametrize(("epoch", "a"), [(0, 1), (50, 0.9375), (100, 0.75), (199, 0.009975)])
def test_the_weight_of_the_plain_labels(epoch: int, a: float) -> None:
    assert cumulative_weight(Epoch(epoch, 200, 0)) == pytest.approx(a)


# --- the views ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "column", "lam", "box"),
    [
        (16, 16, 0.75, (8, 24, 8, 24)),  # half of either side
        (2, 31, 0.75, (0, 10, 23, 32)),  # rows -6..10 and columns 23..39, clipped
        (16, 16, 0.9, (11, 21, 11, 21)),  # 32 sqrt(0.1) = 10.12, rounded up to 11, of which the last pixel is lost
        (0, 0, 0.0, (0, 16, 0, 16)),  # all of the image, and a quarter is left
        (5, 5, 1.0, (5, 5, 5, 5)),  # nothing
    ],
)
def test_boxes(row: int, column: int, lam: float, box: tuple[int, ...]) -> None:
    assert box_around(row, column, 32, 32, lam) == box


@given(st.integers(0, 31), st.integers(0, 15), st.floats(0, 1))
def test_a_box_holds_its_centre_and_is_as_large_as_it_may_be(row: int, column: int, lam: float) -> None:
    box = box_around(row, column, 32, 16, lam)
    rows, columns = math.ceil(32 * math.sqrt(1 - lam)), math.ceil(16 * math.sqrt(1 - lam))
    assert 0 <= box.top <= row <= box.bottom <= 32
    assert 0 <= box.left <= column <= box.right <= 16
    assert box.bottom - box.top <= rows
    assert box.right - box.left <= columns
    if box.top > 0 and box.bottom < 32:
        assert (row - box.top, box.bottom - row) == (rows // 2, rows // 2)


def test_one_view_blends_and_the_other_pastes() -> None:
    drawn = batches(32)
    mixup, cutmix = mix_views(drawn, 0.75, np.random.default_rng(0))
    torch.testing.assert_close(mixup, 0.75 * drawn["natural-1"].images + 0.25 * drawn["resampled-1"].images)
    rng = np.random.default_rng(0)
    top, bottom, left, right = box_around(int(rng.integers(32)), int(rng.integers(32)), 32, 32, 0.75)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    assert torch.equal(cutmix[..., inside], drawn["resampled-2"].images[..., inside])
    assert torch.equal(cutmix[..., ~inside], drawn["natural-2"].images[..., ~inside])


def test_labels_are_mixed_by_lambda_alone() -> None:
    target = soft_labels(torch.tensor([0, 1]), torch.tensor([2, 1]), 0.75, 3)
    torch.testing.assert_close(target, torch.tensor([[0.75, 0, 0.25], [0, 1, 0]]))


# --- the loss ----------------------------------------------------------------------------------------


def test_weighted_labels_by_hand() -> None:
    """Under a uniform prediction every unit of label costs log 3."""
    target, weights = torch.tensor([[0.75, 0, 0.25], [0, 1, 0]]), torch.tensor([0.4, 1, 1.6])
    logits = torch.zeros(2, 3)
    assert float(soft_cross_entropy(logits, target)) == pytest.approx(math.log(3))
    mass = (0.75 * 0.4 + 0.25 * 1.6 + 1) / 2  # 0.85: the mean over two images
    assert float(soft_cross_entropy(logits, weights * target)) == pytest.approx(mass * math.log(3))


def test_the_distance_by_hand() -> None:
    p, z = torch.tensor([[3.0, 0], [0, 2], [1, 1]]), torch.tensor([[5.0, 0], [0, -1], [4, 0]])
    assert float(distance(p, z)) == pytest.approx(-(1 - 1 + math.sqrt(0.5)) / 3)


def test_the_distance_has_no_gradient_through_z() -> None:
    p, z = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    distance(p, z).backward()
    assert p.grad is not None
    assert p.grad.any()
    assert z.grad is None


def test_aligned_views_are_worth_twice_kappa() -> None:
    net, drawn = network().eval(), batches()
    with torch.no_grad():
        net.predictor.weight.zero_()  # p and z are one vector, whatever the image
        net.projector.weight.zero_()
        net.predictor.bias.copy_(net.projector.bias)
    without, whole = (build("glmc", kappa=kappa).loss(net, drawn, step_at()) for kappa in (0.0, 5.0))
    assert (whole - without).item() == pytest.approx(-10, abs=1e-4)


@pytest.mark.parametrize("index", [0, 50, 150])
def test_a_step_is_the_card_s_formula(index: int) -> None:
    method, net, drawn = build("glmc", label_weighting=1.0, kappa=2.0), network().eval(), batches()
    found = method.loss(net, drawn, step_at(index, seed=4))

    rng = step_at(index, seed=4).rng
    lam = float(rng.beta(1, 1))
    x_mix, x_cut = mix_views(drawn, lam, rng)
    y, y_r = (F.one_hot(drawn[name].labels, 3).float() for name in ("natural-1", "resampled-1"))
    soft = lam * y + (1 - lam) * y_r
    w = torch.tensor([1 / 20, 1 / 6, 1 / 2])  # of 20, 6 and 2 images
    w = 3 * w / w.sum()

    def outputs(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        z = net.projector(net.branches[0].features(net.trunk(x)))
        return net.branch_logits(x, 0).log_softmax(1), net.branch_logits(x, 1).log_softmax(1), z, net.predictor(z)

    (log_1, log_w1, z1, p1), (log_2, log_w2, z2, p2) = outputs(x_mix), outputs(x_cut)
    plain = -(soft * (log_1 + log_2)).sum() / 6
    weighted = -(w * soft * (log_w1 + log_w2)).sum() / 6
    d = -(F.normalize(p1) * F.normalize(z2)).sum() / 6 - (F.normalize(p2) * F.normalize(z1)).sum() / 6
    a = 1 - (index / 200) ** 2
    torch.testing.assert_close(found, a * plain + (1 - a) * weighted + 2 * d)


# --- the step ----------------------------------------------------------------------------------------


def test_a_step_runs_the_network_once_for_each_view() -> None:
    net = network().train()
    build("glmc").loss(net, batches(), step_at())
    assert {int(v) for name, v in net.state_dict().items() if name.endswith("num_batches_tracked")} == {2}


def test_every_layer_learns() -> None:
    net = network().train()
    build("glmc").loss(net, batches(), step_at(100)).backward()
    assert all(p.grad is not None and p.grad.any() for p in (*net.branches.parameters(), *net.projector.parameters()))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert net.predictor.weight.grad.any()


def test_the_second_classifier_learns_nothing_in_the_first_epoch() -> None:
    net = network().train()
    build("glmc").loss(net, batches(), step_at(0)).backward()
    first, second = (torch.cat([p.grad.flatten() for p in branch.parameters()]) for branch in net.branches)
    assert first.any()
    assert not second.any()


def test_prediction_is_the_second_classifier() -> None:
    method, net, x = build("glmc"), network().eval(), batch_of().images
    assert torch.equal(method.scores(net, x), net.branch_logits(x, 1))


@pytest.mark.parametrize(("q", "shares"), [(0.0, [1000 / 1110, 100 / 1110, 10 / 1110]), (1.0, [1 / 3, 1 / 3, 1 / 3])])
def test_the_streams(q: float, shares: list[float]) -> None:
    labels = np.repeat(np.arange(3), [1000, 100, 10])
    streams = build("glmc", labels=labels, q=q).streams(Epoch(0, 10, 0))
    assert set(streams) == {"natural-1", "natural-2", "resampled-1", "resampled-2"}
    assert (streams["natural-1"] == streams["natural-2"]).all()
    assert (streams["resampled-1"] == streams["resampled-2"]).all()
    assert sorted(streams["natural-1"]) == list(range(1110))
    drawn = streams["resampled-1"]
    assert len(set(drawn)) < 1110  # with replacement
    assert np.bincount(labels[drawn], minlength=3) / 1110 == pytest.approx(shares, abs=0.06)
