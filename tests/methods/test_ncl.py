"""NCL against the values of its card, and the shape of its training step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from method_cases import LOGITS, Y, batch_of, build, step_at, tiny_network
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.data.types import Batch, Epoch, IntArray
from lt_bench.methods.experts import cross_entropies
from lt_bench.methods.ncl import NCL, hard_mask, mutual_divergences

LABELS = np.repeat(np.arange(3), [500, 50, 5])
BALANCED = LOGITS + torch.tensor([500.0, 50.0, 5.0]).log()
MASK = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])


def ncl(labels: IntArray = LABELS, **settings: Any) -> NCL:
    method = build("ncl", labels=labels, **settings)
    assert isinstance(method, NCL)
    return method


def batches() -> dict[str, Batch]:
    """The same labels, other images for each network."""
    return {f"view-{k}": Batch(batch_of(k).images, batch_of(0).labels) for k in range(3)}


def close(expected: float | list[float]) -> Any:
    return pytest.approx(expected, rel=2e-5)


# --- oracles -----------------------------------------------------------------------------------------


def test_the_balanced_cross_entropies() -> None:
    assert torch.equal(ncl().log_counts, torch.tensor([500.0, 50.0, 5.0]).log())
    losses = cross_entropies(BALANCED, Y).mean(1)
    assert losses.tolist() == close([2.534506, 2.721316, 2.258550])
    assert float(losses.sum()) == close(7.514372)


def test_the_hard_classes() -> None:
    assert torch.equal(hard_mask(LOGITS[0], Y, 2), MASK)


def test_the_masked_cross_entropies_multiply_by_zero() -> None:
    assert float(cross_entropies(BALANCED * MASK, Y).mean(1).sum()) == close(4.692732)
    excluded = BALANCED.masked_fill(MASK == 0, -torch.inf)
    assert float(cross_entropies(excluded, Y).mean(1).sum()) == close(4.675264)  # what it is not


@pytest.mark.parametrize(("logits", "value"), [(BALANCED, 0.055438), (BALANCED * MASK, 0.045827)], ids=["all", "hard"])
def test_the_mutual_divergence(logits: Tensor, value: float) -> None:
    assert 0.6 * float(mutual_divergences(logits).mean()) == pytest.approx(value, abs=1e-6)


def test_the_whole_loss() -> None:
    assert float(ncl(hard_classes=2).nested_loss(LOGITS, Y)) == close(12.308370)
    assert float(ncl(divergence_factor=0.0).nested_loss(LOGITS, Y)) == close(7.514372 + 4.692732)


# --- the idea ----------------------------------------------------------------------------------------


def test_the_mask_has_the_true_class_and_the_hardest_others() -> None:
    logits = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]]).repeat(2, 1)
    mask = hard_mask(logits, torch.tensor([4, 1]), 3)
    assert mask.tolist() == [[1, 1, 0, 0, 1], [1, 1, 1, 0, 0]]


@pytest.mark.parametrize(("classes", "hard"), [(3, 2), (5, 2), (10, 3), (100, 30), (1000, 300)])
def test_three_in_ten_classes_are_hard(classes: int, hard: int) -> None:
    assert ncl(np.arange(classes)).hard_classes == hard
    assert ncl(np.arange(classes), hard_classes=3).hard_classes == 3


def test_the_divergence_of_two_networks_is_the_symmetric_one() -> None:
    p, q = F.softmax(LOGITS[0], 1), F.softmax(LOGITS[1], 1)
    symmetric = ((p - q) * (p.log() - q.log())).sum(1)
    torch.testing.assert_close(mutual_divergences(LOGITS[:2]), symmetric)
    assert mutual_divergences(LOGITS[[0, 0, 0]]).abs().max() < 1e-6


def test_the_divergence_has_gradients_on_both_sides() -> None:
    logits = LOGITS[:2].clone().requires_grad_()
    mutual_divergences(logits).sum().backward()  # type: ignore[no-untyped-call]
    p, q = F.softmax(LOGITS[0], 1), F.softmax(LOGITS[1], 1)
    ratio = p.log() - q.log()
    by_hand = (p - q) + p * (ratio - (p * ratio).sum(1, keepdim=True))
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0], by_hand)


# --- the step ----------------------------------------------------------------------------------------


def test_the_networks_see_the_same_images_in_the_same_order() -> None:
    first, second, third = ncl().streams(Epoch(0, 200, 0)).values()
    assert (first == second).all()
    assert (first == third).all()
    assert (np.sort(first) == np.arange(len(LABELS))).all()


def test_each_network_runs_once_on_its_own_view() -> None:
    method, network, given = ncl(), tiny_network("ensemble").eval(), batches()
    found = method.loss(network, given, step_at())
    each = [network.branch_logits(given[f"view-{k}"].images, k) for k in range(3)]
    torch.testing.assert_close(found, method.nested_loss(torch.stack(each), given["view-0"].labels))

    method.loss(network.train(), given, step_at())
    passes = [int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]  # type: ignore[arg-type]
    assert passes == [1] * 6


def test_prediction_is_the_mean_of_the_raw_logits() -> None:
    network, images = tiny_network("ensemble").eval(), batch_of().images
    torch.testing.assert_close(ncl().scores(network, images), network.all_logits(images).mean(0))
