"""BCL against the values of its card, and the shape of its training step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from method_cases import LABELS, batch_of, build, step_at, tiny_network
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.data.types import Batch, Epoch
from lt_bench.methods.bcl import balanced_contrastive, class_sizes
from lt_bench.models.heads.contrastive import PrototypeNetwork


def unit(vectors: list[list[float]]) -> Tensor:
    return F.normalize(torch.tensor(vectors), dim=1)


PROTOTYPES = unit([[1, 0.2], [-0.3, 1], [-1, -0.5]])
VIEWS = torch.cat([unit([[1, 0], [0.6, 0.8], [0.2, 1]]), unit([[0.8, 0.6], [0, 1], [-0.4, 0.9]])])
Y = torch.tensor([0, 1, 1, 0, 1, 1])
PER_ANCHOR = [0.369678, 2.097991, 0.233280, 0.596087, 0.206846, 1.002794]


def network() -> PrototypeNetwork:
    net = tiny_network("prototypes")
    assert isinstance(net, PrototypeNetwork)
    return net


def batches(labels: list[int] | None = None) -> dict[str, Batch]:
    return {name: batch_of(seed, labels=labels or [0, 1, 2, 0]) for seed, name in enumerate(("main", "view2", "view3"))}


# --- the balanced contrastive loss -------------------------------------------------------------------


def test_the_points_of_each_class() -> None:
    assert class_sizes(Y, 3).tolist() == [3, 5, 1]


def test_the_loss_of_the_card() -> None:
    losses = balanced_contrastive(VIEWS, Y, PROTOTYPES, 0.1)
    assert losses.tolist() == pytest.approx(PER_ANCHOR, abs=2e-6)
    assert float(losses.mean()) == pytest.approx(0.751113, abs=1e-6)


def test_the_loss_of_one_anchor_by_hand() -> None:
    """An anchor on its prototype, at right angles to another class's, T = 1: log(e / 1 + 1 / 1) - 1."""
    (loss,) = balanced_contrastive(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), torch.eye(2), 1.0).tolist()
    assert loss == pytest.approx(math.log(math.e + 1) - 1)


def test_a_class_weighs_in_the_denominator_as_one_point() -> None:
    """Points of another class at one place count once, however many there are."""
    prototypes = unit([[1, 0.2], [0, 1]])
    few, many = (torch.cat([VIEWS[:1], prototypes[1:].expand(n, -1)]) for n in (1, 7))
    losses = [balanced_contrastive(x, (torch.arange(len(x)) > 0).long(), prototypes, 0.1)[0] for x in (few, many)]
    torch.testing.assert_close(*losses)


def test_an_anchor_learns_as_a_point_of_others_too() -> None:
    views = VIEWS.clone().requires_grad_()
    (found,) = torch.autograd.grad(balanced_contrastive(views, Y, PROTOTYPES, 0.1).sum(), views)
    by_hand = torch.zeros_like(found)
    for place in np.ndindex(*views.shape):
        step = torch.zeros_like(found)
        step[place] = 1e-2  # the loss is in float32
        with torch.no_grad():
            later, before = (balanced_contrastive(VIEWS + s, Y, PROTOTYPES, 0.1) for s in (step, -step))
        by_hand[place] = float((later - before).sum()) / 2e-2
    torch.testing.assert_close(found, by_hand, atol=0.05, rtol=0.01)


def test_the_loss_is_computed_in_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        losses = balanced_contrastive(VIEWS, Y, PROTOTYPES, 0.1)
    assert losses.tolist() == pytest.approx(PER_ANCHOR, abs=2e-6)


# --- the step ----------------------------------------------------------------------------------------


def test_the_streams_are_three_views_of_the_same_images() -> None:
    streams = build("bcl").streams(Epoch(0, 200, 0))
    assert list(streams) == ["main", "view2", "view3"]
    assert all((np.sort(order) == np.arange(len(LABELS))).all() for order in streams.values())
    assert (streams["main"] == streams["view2"]).all()
    assert (streams["main"] == streams["view3"]).all()


@pytest.mark.parametrize("settings", [{}, {"contrastive_weight": 2.0, "temperature": 0.1}])
def test_a_step_is_the_card_s_formula(settings: dict[str, float]) -> None:
    net, given = network().eval(), batches()
    found = build("bcl", **settings).loss(net, given, step_at())

    first, second, third = (given[name] for name in ("main", "view2", "view3"))
    prior = torch.tensor([20, 6, 2]) / 28
    cross_entropy = F.cross_entropy(net(first.images) + prior.log(), first.labels)
    anchors = torch.cat([F.normalize(net.projection(net.features(view.images))) for view in (second, third)])
    prototypes = F.normalize(net.prototype_projection(net.classifier.weight))
    weight, temperature = settings.get("contrastive_weight", 0.35), settings.get("temperature", 0.07)
    contrast = balanced_contrastive(anchors, second.labels.repeat(2), prototypes, temperature).mean()
    torch.testing.assert_close(found, cross_entropy + weight * contrast)


def test_a_step_runs_every_part_of_the_network_once() -> None:
    net = network().train()
    build("bcl").loss(net, batches(), step_at())
    norms = [m for m in net.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert [int(m.num_batches_tracked) for m in norms] == [1, 1, 1, 1]  # type: ignore[arg-type]


def test_without_contrast_the_views_of_the_contrast_do_not_matter() -> None:
    method, net, given = build("bcl", contrastive_weight=0.0), network().eval(), batches()
    other = {**given, "view2": batch_of(8, labels=[0, 1, 2, 0]), "view3": batch_of(9, labels=[0, 1, 2, 0])}
    torch.testing.assert_close(method.loss(net, given, step_at()), method.loss(net, other, step_at()))


@pytest.mark.parametrize("labels", [[1], [1, 1, 1]])
def test_a_batch_may_be_short_and_lack_classes(labels: list[int]) -> None:
    net = network().train()
    loss = build("bcl").loss(net, batches(labels), step_at())
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_prediction_uses_the_raw_logits() -> None:
    net, images = network().eval(), batch_of().images
    assert torch.equal(build("bcl").scores(net, images), net(images))
