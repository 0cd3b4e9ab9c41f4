"""ResLT against the values of its card, and how it meets a mix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from method_cases import LOGITS, Y, batch_of, build, phase, step_at, tiny_network
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.data.types import ClassStats, Epoch
from lt_bench.methods.reslt import ResLT, behind

LABELS = np.repeat(np.arange(3), [500, 50, 5])
FIRST = Epoch(0, 200, 0)
TERMS = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3), (2, 2), (2, 3)]
"""Branch and image: four images for z_H, the three of classes 1 and 2 for z_M, the two of class 2 for z_T."""


def reslt(**settings: Any) -> ResLT:
    method = build("reslt", labels=LABELS, **settings)
    assert isinstance(method, ResLT)
    return method


def loss(labels: Tensor = Y, logits: Tensor = LOGITS, **settings: Any) -> float:
    return float(reslt(**settings).criterion(logits, labels, 1.0, FIRST))


# --- oracles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("beta", "value"), [(1.0, 0.687600), (0.0, 0.294693), (0.995, 0.685635)])
def test_the_branches_by_themselves_their_sum_and_both(beta: float, value: float) -> None:
    """Of three classes the medium ones begin at 1 and the rare ones at 2."""
    assert loss(beta=beta) == pytest.approx(value, rel=2e-5)


@pytest.mark.parametrize("factor", [100, 50, 10])
def test_the_boundaries_of_cifar100_lt(factor: int) -> None:
    labels = np.repeat(np.arange(100), [int(500 * factor ** (-c / 99)) for c in range(100)])
    method = build("reslt", labels=labels)
    assert isinstance(method, ResLT)
    classes = torch.arange(100)
    expected = torch.stack([classes >= 0, classes >= 35, classes >= 70]).float()
    assert torch.equal(method.trained, expected)


# --- the idea ----------------------------------------------------------------------------------------


def test_classes_are_ranked_by_size_and_then_by_index() -> None:
    stats = ClassStats(torch.tensor([5, 40, 7, 40, 300, 7, 90, 7, 1, 600]))
    assert behind(0.35, stats).nonzero().flatten().tolist() == [0, 2, 3, 5, 7, 8]  # before them 9, 4, 6, 1
    assert behind(0.7, stats).nonzero().flatten().tolist() == [0, 7, 8]
    assert behind(0.0, stats).all()
    assert not behind(1.0, stats).any()


def test_every_term_counts_the_same() -> None:
    losses = [float(F.cross_entropy(LOGITS[h, None, i], Y[i, None])) for h, i in TERMS]
    assert loss(beta=1.0) == pytest.approx(sum(losses) / 9, rel=1e-6)


def test_a_batch_of_frequent_classes_is_cross_entropy_of_the_first_branch() -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    assert loss(labels, beta=1.0) == pytest.approx(float(F.cross_entropy(LOGITS[0], labels)), rel=1e-6)


def test_a_branch_learns_from_its_classes_only() -> None:
    logits = LOGITS.clone().requires_grad_()
    reslt(beta=1.0).criterion(logits, Y, 1.0, FIRST).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.any(2).tolist() == [[True] * 4, [False, True, True, True], [False, False, True, True]]


# --- the step ----------------------------------------------------------------------------------------


def test_a_step_runs_every_part_of_the_network_once() -> None:
    network = tiny_network("residual-fusion").train()
    build("reslt").loss(network, {"main": batch_of()}, step_at())
    passes = [int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]  # type: ignore[arg-type]
    assert passes == [1, 1, 1, 1, 1]  # two of the backbone


@pytest.mark.parametrize("mix", ["mixup", "cutmix", "remix"])
def test_a_mixed_image_costs_the_shares_of_its_labels(mix: str) -> None:
    method, network = build("reslt", (phase(mix=mix),)), tiny_network("residual-fusion").eval()
    assert isinstance(method, ResLT)
    batch = batch_of(size=5)
    found = method.loss(network, {"main": batch}, step_at(seed=3))
    step = step_at(seed=3)
    mixed = method.phase(step.epoch)[1](batch, None, step)
    logits = network.all_logits(mixed.images)
    by_hand = torch.zeros(())
    for labels, share in mixed.terms:
        shares = torch.as_tensor(share).expand(5)
        terms = [(branch, image) for branch in range(3) for image in range(5) if method.trained[branch, labels[image]]]
        for branch, image in terms:
            term = F.cross_entropy(logits[branch, image], labels[image])
            by_hand = by_hand + 0.995 * shares[image] * term / len(terms)
        fused = F.cross_entropy(logits.sum(0), labels, reduction="none")
        by_hand = by_hand + 0.005 * (shares * fused).mean()
    torch.testing.assert_close(found, by_hand)


def test_prediction_is_the_sum_of_the_raw_logits() -> None:
    network, images = tiny_network("residual-fusion").eval(), batch_of().images
    torch.testing.assert_close(build("reslt").scores(network, images), network.all_logits(images).sum(0))
