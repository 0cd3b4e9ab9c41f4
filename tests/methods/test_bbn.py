"""BBN against the values of its card, and the shape of its training step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from method_cases import batch_of, build, step_at, tiny_network
from torch.nn import functional as F

from lt_bench.data.types import Batch, Epoch, IntArray
from lt_bench.methods.bbn import BBN, adaptor
from lt_bench.models.heads.bilateral import BilateralNetwork

CIFAR10_LT = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def network() -> BilateralNetwork:
    net = tiny_network("bilateral")
    assert isinstance(net, BilateralNetwork)
    return net


def batches(labels: list[int] | None = None) -> dict[str, Batch]:
    return {"uniform": batch_of(0, labels=labels), "reverse": batch_of(1, labels=labels)}


def class_probability(counts: list[int]) -> list[float]:
    """What the second stream hands to its draws."""
    method = build("bbn", labels=np.repeat(np.arange(len(counts)), counts))
    assert isinstance(method, BBN)
    asked: list[float] = []

    def listen(probability: np.ndarray, rng: np.random.Generator) -> IntArray:
        asked.extend(probability)
        return method.uniform.labels

    method.reverse.draw_by_class = listen  # type: ignore[method-assign]
    method.streams(Epoch(0, 200, 0))
    return asked


# --- oracles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "number", "alpha"),
    [
        *((200, 1, 1), (200, 2, 0.999975), (200, 51, 0.9375), (200, 100, 0.754975), (200, 101, 0.75)),
        *((200, 151, 0.4375), (200, 200, 0.009975), (180, 180, 0.198975), (90, 90, 0.2079)),
    ],
)
def test_the_adaptor(epochs: int, number: int, alpha: float) -> None:
    """`number` counts the epochs from 1, as the card does."""
    assert adaptor(Epoch(number - 1, epochs, 0)) == pytest.approx(alpha, abs=1e-9)


def test_the_reversed_stream_of_three_classes() -> None:
    assert class_probability([100, 50, 10]) == pytest.approx([0.076923, 0.153846, 0.769231], abs=1e-6)


def test_the_reversed_stream_of_cifar10_lt() -> None:
    expected = [0.004024, 0.006713, 0.011202, 0.018680, 0.031191, 0.051985, 0.086717, 0.144736, 0.242389, 0.402365]
    assert class_probability(CIFAR10_LT) == pytest.approx(expected, abs=1e-6)
    assert sum(5000 / n for n in CIFAR10_LT) == pytest.approx(248.530571, abs=1e-6)


def test_the_streams() -> None:
    labels = np.repeat(np.arange(10), CIFAR10_LT)
    streams = build("bbn", labels=labels).streams(Epoch(0, 200, 0))
    assert len(labels) == 12406
    assert (np.sort(streams["uniform"]) == np.arange(12406)).all()
    drawn = np.bincount(labels[streams["reverse"]], minlength=10) / 12406
    assert drawn[[0, 9]] == pytest.approx([0.004024, 0.402365], abs=0.015)


# --- the step ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 50, 150])
def test_a_step_is_the_card_s_formula(index: int) -> None:
    method, net, given = build("bbn"), network().eval(), batches()
    found = method.loss(net, given, step_at(index))

    alpha = 1 - (index / 200) ** 2
    f_c, f_r = net.branch_features(given["uniform"].images, 0), net.branch_features(given["reverse"].images, 1)
    w_c, w_r = net.classifier.weight[:, :8], net.classifier.weight[:, 8:]
    z = 2 * (alpha * f_c @ w_c.T + (1 - alpha) * f_r @ w_r.T) + net.classifier.bias
    y_c, y_r = given["uniform"].labels, given["reverse"].labels
    torch.testing.assert_close(found, alpha * F.cross_entropy(z, y_c) + (1 - alpha) * F.cross_entropy(z, y_r))


def test_a_step_runs_the_trunk_twice_and_each_branch_once() -> None:
    net = network().train()
    build("bbn").loss(net, batches(), step_at())
    passes = {name: int(value) for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
    assert {count for name, count in passes.items() if name.startswith("trunk")} == {2}
    assert {count for name, count in passes.items() if name.startswith("branches")} == {1}


def test_the_second_branch_learns_nothing_in_the_first_epoch() -> None:
    net = network().train()
    build("bbn").loss(net, batches([0, 1, 2, 0, 0, 1]), step_at(0)).backward()
    first, second = (torch.cat([p.grad.flatten() for p in branch.parameters()]) for branch in net.branches)
    assert first.any()
    assert not second.any()
    assert not net.classifier.weight.grad[:, 8:].any()


def test_prediction_ignores_the_adaptor() -> None:
    method, net, x = build("bbn"), network().eval(), batch_of().images
    plain = torch.cat([net.branch_features(x, 0), net.branch_features(x, 1)], 1)
    assert torch.equal(method.scores(net, x), net.classifier(plain))
