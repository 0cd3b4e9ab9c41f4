"""BalPoE, SADE and RIDE against the values of their released code, and how they meet a mix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from method_cases import LOGITS, Y, batch_of, build, phase, step_at, tiny_network
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.data.types import ClassStats, Epoch
from lt_bench.methods.balpoe import BalPoE
from lt_bench.methods.experts import MultiExpert, cross_entropies, reversed_prior
from lt_bench.methods.ride import divergences, relative_temperature
from lt_bench.methods.sade import SADE

COUNTS = [500, 50, 5]
LABELS = np.repeat(np.arange(3), COUNTS)
Y_PERMUTED = torch.tensor([2, 2, 0, 1])
FIRST = Epoch(0, 200, 0)


def stats(counts: list[int]) -> ClassStats:
    return ClassStats(torch.tensor(counts))


def experts(name: str, **settings: Any) -> MultiExpert:
    method = build(name, labels=LABELS, **settings)
    assert isinstance(method, MultiExpert)
    return method


def loss(method: MultiExpert, logits: Tensor = LOGITS, labels: Tensor = Y, epoch: Epoch = FIRST) -> float:
    return float(method.criterion(logits, labels, 1.0, epoch))


def close(expected: float | list[float]) -> Any:
    return pytest.approx(expected, rel=2e-5)


def test_the_cross_entropies_of_the_three_experts() -> None:
    assert cross_entropies(LOGITS, Y).mean(1).tolist() == close([0.645522, 0.785545, 0.588502])


# --- BalPoE ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expert", "tau", "value"), [(0, 0, 0.645522), (1, 1, 2.721316), (2, 2, 5.018791)])
def test_an_expert_of_balpoe(expert: int, tau: float, value: float) -> None:
    assert loss(experts("balpoe", tau=[tau]), LOGITS[[expert]]) == close(value)


def test_balpoe_is_the_mean_over_experts() -> None:
    method = experts("balpoe")
    assert loss(method) == close(2.795210)
    assert loss(method, labels=Y_PERMUTED) == close(3.645210)
    assert loss(experts("balpoe", tau=[0, 1, 2])) == loss(method)


@pytest.mark.parametrize("share", [0.3, torch.full((4,), 0.3)], ids=["batch", "image"])
def test_balpoe_of_mixed_labels(share: float | Tensor) -> None:
    method = experts("balpoe")
    mixed = method.criterion(LOGITS, Y, share, FIRST) + method.criterion(LOGITS, Y_PERMUTED, 1 - share, FIRST)
    assert float(mixed) == close(3.390210)


@pytest.mark.parametrize(("count", "taus"), [(1, (1,)), (2, (0, 2)), (3, (0, 1, 2)), (5, (0, 0.5, 1, 1.5, 2))])
def test_the_strengths_average_one(count: int, taus: tuple[float, ...]) -> None:
    method = experts("balpoe")
    assert isinstance(method, BalPoE)
    assert method.taus(count) == taus
    assert sum(taus) / count == 1


def test_experts_without_adjustment_are_cross_entropy() -> None:
    by_hand = sum(F.cross_entropy(expert, Y) for expert in LOGITS) / 3
    assert loss(experts("balpoe", tau=[0, 0, 0])) == close(float(by_hand))


def test_experts_have_strengths() -> None:
    with pytest.raises(ValidationError):
        experts("balpoe", tau=[])


# --- SADE --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([500, 50, 5], [0.009009, 0.090090, 0.900901]),
        ([5, 500, 50], [0.900901, 0.009009, 0.090090]),
        ([7, 7, 7], [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_the_reversed_prior(counts: list[int], expected: list[float]) -> None:
    assert reversed_prior(stats(counts)).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("tau", "parts"), [(2, [0.645522, 2.721316, 7.885918]), (1, [0.645522, 2.721316, 5.018790])])
def test_the_experts_of_sade(tau: float, parts: list[float]) -> None:
    method = experts("sade", tau=tau)
    assert isinstance(method, SADE)
    losses = cross_entropies(LOGITS + method.shifts[:, None], Y)
    assert losses.mean(1).tolist() == close(parts)
    assert loss(method) == close(sum(parts))


def test_sade_is_the_sum_over_experts() -> None:
    assert loss(experts("sade")) == close(11.252756)


# --- RIDE --------------------------------------------------------------------------------------------


def test_the_divergences_from_the_mean() -> None:
    found = divergences(LOGITS, torch.ones(3)).mean(1)
    assert found.tolist() == pytest.approx([0.032021, 0.032586, 0.034209], abs=1e-6)


def test_the_mean_is_a_constant_of_the_divergence() -> None:
    logits = LOGITS.clone().requires_grad_()
    divergences(logits, torch.ones(3)).sum().backward()  # type: ignore[no-untyped-call]
    mean = F.softmax(LOGITS.mean(0), dim=1)
    torch.testing.assert_close(logits.grad, F.softmax(LOGITS, dim=2) - mean)


def test_ride_without_margins_is_cross_entropy_less_diversity() -> None:
    assert loss(experts("ride", max_margin=0.0)) == close(1.999806)


@pytest.mark.parametrize(("epoch", "value"), [(100, 31.985483), (160, 31.985483), (161, 43.860619)])
def test_ride_before_and_after_the_switch(epoch: int, value: float) -> None:
    """The released code counts epochs from 1."""
    assert loss(experts("ride", diversity_factor=-0.45), epoch=Epoch(epoch - 1, 200, 0)) == close(value)


@pytest.mark.parametrize(("rho", "expected"), [(0.05, [1, 0.88792, 0.876712]), (0.02, [1, 0.952953, 0.948249])])
def test_the_temperatures_of_the_classes(rho: float, expected: list[float]) -> None:
    assert relative_temperature(stats(COUNTS), rho).tolist() == pytest.approx(expected, abs=1e-6)
    assert experts("ride", temperature_rho=rho).late_temperature.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("total", "switch"), [(200, 160), (30, 24), (15, 12), (5, 4)])
def test_the_switch_follows_the_length_of_the_training(total: int, switch: int) -> None:
    method = experts("ride")
    before, after = (loss(method, epoch=Epoch(index, total, 0)) for index in (switch - 1, switch))
    assert before == loss(method)
    assert after != before


def test_experts_that_differ_cost_less() -> None:
    alike = LOGITS.mean(0).expand(3, -1, -1)
    assert divergences(alike, torch.ones(3)).abs().max() < 1e-6
    method, indifferent = experts("ride"), experts("ride", diversity_factor=0.0)
    assert loss(method) < loss(indifferent)
    assert loss(method, alike) == close(loss(indifferent, alike))


# --- the step ----------------------------------------------------------------------------------------

EVERY = ["balpoe", "sade", "ride"]


@pytest.mark.parametrize("name", EVERY)
def test_a_step_runs_every_part_of_the_network_once(name: str) -> None:
    method, network = build(name), tiny_network("experts").train()
    method.loss(network, {"main": batch_of()}, step_at())
    passes = [int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]  # type: ignore[arg-type]
    assert passes == [1, 1, 1, 1]


@pytest.mark.parametrize("index", [10, 180])
@pytest.mark.parametrize("name", EVERY)
def test_a_mixed_image_costs_the_shares_of_its_labels(name: str, index: int) -> None:
    method, network, batch = build(name, (phase(mix="mixup"),)), tiny_network("experts").eval(), batch_of(size=5)
    assert isinstance(method, MultiExpert)
    found = method.loss(network, {"main": batch}, step_at(index, seed=3))
    step = step_at(index, seed=3)
    mixed = method.phase(step.epoch)[1](batch, None, step)
    (first, lam), (second, _) = mixed.terms
    logits = network.all_logits(mixed.images)
    whole = [method.criterion(logits, labels, 1.0, step.epoch) for labels in (first, second)]
    torch.testing.assert_close(found, lam * whole[0] + (1 - lam) * whole[1])


@pytest.mark.parametrize("name", EVERY)
def test_prediction_is_the_mean_of_the_raw_logits(name: str) -> None:
    method, network = build(name), tiny_network("experts").eval()
    images = batch_of().images
    torch.testing.assert_close(method.scores(network, images), network.all_logits(images).mean(0))
