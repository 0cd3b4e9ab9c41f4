"""DBN-Mix against the values of its released code, and the shape of its training step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_cases import batch_of, build, step_at, tiny_network
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, ClassStats, Epoch, generator
from lt_bench.methods.dbn_mix import class_temperature, draw_lambda, mix_soft, softmax_bce

CIFAR10_LT = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def stats(counts: list[int]) -> ClassStats:
    return ClassStats(torch.tensor(counts))


def temperatures(counts: list[int], epsilon: float, eta: float) -> list[float]:
    return class_temperature(stats(counts), epsilon, eta).tolist()


# --- oracles -----------------------------------------------------------------------------------------


def test_temperatures_of_cifar10_lt() -> None:
    expected = [1, 1.169958, 1.358058, 1.557970, 1.759965, 1.949044, 2.112993, 2.243452, 2.339838, 2.405142]
    assert temperatures(CIFAR10_LT, 0.6, 3) == pytest.approx(expected, abs=2e-6)


def test_temperatures_of_cifar100_lt() -> None:
    found = temperatures([int(500 * 100 ** (-k / 99)) for k in range(100)], 0.6, 7)
    assert [found[k] for k in (0, 10, 50, 99)] == pytest.approx([1, 1.068120, 1.385596, 1.796527], abs=2e-6)


@pytest.mark.parametrize(
    ("epsilon", "eta", "expected"),
    [(0.6, 7, [1, 1.209800, 1.267755]), (0.6, 3, [1, 1.559546, 1.739464]), (1, 1, [1, 10, 100]), (0, 7, [1, 1, 1])],
)
def test_temperatures_of_three_classes(epsilon: float, eta: float, expected: list[float]) -> None:
    assert temperatures([100, 10, 1], epsilon, eta) == pytest.approx(expected, abs=2e-6)


def test_equal_classes_have_no_temperature() -> None:
    assert temperatures([7, 7, 7, 7], 0.6, 3) == [1, 1, 1, 1]


@pytest.mark.parametrize(("epsilon", "value"), [(0.6, 1.428357), (0.0, 1.532628)])
def test_the_loss(epsilon: float, value: float) -> None:
    logits, target = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0.75, 0.0, 0.25]])
    scaled = logits / class_temperature(stats([100, 10, 1]), epsilon, 3)
    assert float(softmax_bce(scaled, target)) == pytest.approx(value, abs=2e-6)
    if epsilon:
        assert scaled.tolist()[0] == pytest.approx([2, 0.641212, 0], abs=2e-6)
        assert scaled.softmax(1).tolist()[0] == pytest.approx([0.718232, 0.184566, 0.097202], abs=2e-6)


def test_the_loss_of_a_uniform_prediction() -> None:
    target = F.one_hot(torch.tensor([3, 7]), 10).float()
    assert float(softmax_bce(torch.zeros(2, 10), target)) == pytest.approx(3.2508, abs=5e-5)


def test_bilateral_mixup_of_two_pixels() -> None:
    uniform = Batch(torch.full((1, 3, 2, 2), 3.0), torch.tensor([0]))
    rebalanced = Batch(torch.full((1, 3, 2, 2), 7.0), torch.tensor([2]))
    lam = 0.8
    conventional, rebalancing = mix_soft(uniform, rebalanced, lam, 3), mix_soft(rebalanced, uniform, lam, 3)
    torch.testing.assert_close(conventional[0], torch.full((1, 3, 2, 2), 3.8))
    torch.testing.assert_close(rebalancing[0], torch.full((1, 3, 2, 2), 6.2))
    torch.testing.assert_close(conventional[1], torch.tensor([[0.8, 0.0, 0.2]]))
    torch.testing.assert_close(rebalancing[1], torch.tensor([[0.2, 0.0, 0.8]]))


@given(st.integers(0, 10**6), st.floats(0.5, 1))
def test_what_the_two_mixtures_keep(seed: int, lam: float) -> None:
    a, b = batch_of(seed), batch_of(seed + 1)
    (x1, y1), (x2, y2) = mix_soft(a, b, lam, 3), mix_soft(b, a, lam, 3)
    torch.testing.assert_close(x1 + x2, a.images + b.images)
    torch.testing.assert_close(y1 + y2, (F.one_hot(a.labels, 3) + F.one_hot(b.labels, 3)).float())
    torch.testing.assert_close(y1.sum(1), torch.ones(len(y1)))


@given(st.floats(0, 5), st.integers(0, 10**6))
def test_lambda_leans_to_its_branch(beta: float, seed: int) -> None:
    assert 0.5 <= draw_lambda(beta, np.random.default_rng(seed)) <= 1


class Draws(np.random.Generator):
    """A generator whose Beta law has one value."""

    def __init__(self, value: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.value = value

    def beta(self, a: Any, b: Any, size: Any = None) -> Any:
        return self.value


@pytest.mark.parametrize(("drawn", "lam"), [(0.2, 0.8), (0.8, 0.8), (0.5, 0.5)])
def test_the_larger_side_of_a_draw_is_lambda(drawn: float, lam: float) -> None:
    assert draw_lambda(1.0, Draws(drawn)) == lam


def test_the_law_of_lambda() -> None:
    rng = generator(0, "lambda")
    drawn = np.array([draw_lambda(1.0, rng) for _ in range(20_000)])
    assert drawn.mean() == pytest.approx(0.75, abs=4 * drawn.std() / math.sqrt(len(drawn)))
    assert draw_lambda(0.0, rng) == 1


def test_the_label_mass_of_the_branches() -> None:
    """With E[lambda] = 3/4 the head class of CIFAR-10-LT weighs .327 on one branch and .176 on the other."""
    labels = np.repeat(np.arange(10), CIFAR10_LT)
    method = build("dbn-mix", labels=labels)
    epochs = [method.streams(Epoch(index, 200, 0)) for index in range(5)]
    share = {name: np.bincount(labels[np.concatenate([e[name] for e in epochs])]) for name in epochs[0]}
    uniform, rebalanced = (share[name] / share[name].sum() for name in ("uniform", "rebalanced"))
    conventional, rebalancing = 0.75 * uniform + 0.25 * rebalanced, 0.25 * uniform + 0.75 * rebalanced
    assert conventional[[0, 9]] == pytest.approx([0.327273, 0.028023], abs=0.002)
    assert rebalancing[[0, 9]] == pytest.approx([0.175758, 0.076008], abs=0.004)


# --- numbers that break the released code ------------------------------------------------------------


def test_a_certain_prediction_is_finite() -> None:
    logits = torch.tensor([[200.0, 0.0, -200.0], [0.0, 0.0, 300.0]], requires_grad=True)
    loss = softmax_bce(logits, torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0]]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_a_probability_that_rounds_to_one_still_has_its_gradient() -> None:
    """log p is 0, -100, -100 and log(1 - p) log 2 - 100, 0, 0, with the gradients (-1, 1/2, 1/2) and (-1, 1, 0)."""
    logits = torch.tensor([[100.0, 0.0, 0.0]], requires_grad=True)
    loss = softmax_bce(logits, torch.tensor([[0.6, 0.4, 0.0]]))
    assert loss.item() == pytest.approx(0.4 * (100 - math.log(2)) + 0.4 * 100)
    loss.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.8, -0.6, -0.2]]))


def test_a_certain_and_right_prediction_costs_nothing() -> None:
    assert float(softmax_bce(torch.tensor([[200.0, 0.0]]), torch.tensor([[1.0, 0.0]]))) == 0


@given(st.integers(0, 10**6))
def test_the_loss_is_binary_cross_entropy_of_the_softmax(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    logits, target = torch.randn(4, 5, generator=rng), torch.rand(4, 5, generator=rng).softmax(1)
    reference = F.binary_cross_entropy(logits.double().softmax(1), target.double(), reduction="none").sum(1).mean()
    torch.testing.assert_close(softmax_bce(logits, target), reference.float())


# --- the step ----------------------------------------------------------------------------------------


def test_a_step_runs_the_trunk_twice_and_each_branch_once() -> None:
    method, network = build("dbn-mix"), tiny_network("dual-branch").train()
    method.loss(network, {"uniform": batch_of(0), "rebalanced": batch_of(1)}, step_at())
    passes = {name: int(value) for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    assert {count for name, count in passes.items() if name.startswith("trunk")} == {2}
    assert {count for name, count in passes.items() if name.startswith("branches")} == {1}


def test_a_step_is_the_card_s_formula() -> None:
    method, network = build("dbn-mix", temperature_eta=3.0), tiny_network("dual-branch").eval()
    uniform, rebalanced = batch_of(0), batch_of(1)
    found = method.loss(network, {"uniform": uniform, "rebalanced": rebalanced}, step_at(seed=4))

    rng = step_at(seed=4).rng
    order = torch.from_numpy(rng.permutation(len(uniform.labels)))
    lam = draw_lambda(1.0, rng)
    y_c, y_r = F.one_hot(uniform.labels[order], 3).float(), F.one_hot(rebalanced.labels, 3).float()
    x_c, x_r = uniform.images[order], rebalanced.images

    def branch(index: int, images: Tensor, target: Tensor) -> Tensor:
        return softmax_bce(network.branch_logits(images, index) / method.temperature, target)

    first = branch(0, lam * x_c + (1 - lam) * x_r, lam * y_c + (1 - lam) * y_r)
    second = branch(1, (1 - lam) * x_c + lam * x_r, (1 - lam) * y_c + lam * y_r)
    torch.testing.assert_close(found, (first + second) / 2)


def test_prediction_ignores_the_temperatures() -> None:
    method, network = build("dbn-mix"), tiny_network("dual-branch").eval()
    x = batch_of().images
    torch.testing.assert_close(
        method.scores(network, x), (network.branch_logits(x, 0) + network.branch_logits(x, 1)) / 2
    )


@pytest.mark.parametrize(
    ("sampler", "shares"), [("class-balanced", [1 / 3, 1 / 3, 1 / 3]), ("reverse", [1 / 111, 10 / 111, 100 / 111])]
)
def test_the_second_stream(sampler: str, shares: list[float]) -> None:
    labels = np.repeat(np.arange(3), [1000, 100, 10])
    method = build("dbn-mix", labels=labels, rebalanced_sampler=sampler)
    streams = method.streams(Epoch(0, 10, 0))
    assert sorted(streams["uniform"]) == list(range(1110))
    drawn = np.bincount(labels[streams["rebalanced"]], minlength=3) / 1110
    assert drawn == pytest.approx(shares, abs=0.06)
