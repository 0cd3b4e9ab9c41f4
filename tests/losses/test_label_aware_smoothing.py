"""Label-aware smoothing against the values of its released code, and what its factor means."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loss_cases import LABELS, LOGITS, build, check, gradient
from torch.nn import functional as F

from lt_bench.data.split import class_sizes
from lt_bench.data.types import ClassStats


@pytest.mark.parametrize(
    ("form", "epsilon", "value"),
    [
        ("concave", [0.4, 0.142694, 0.1], 0.835859),
        ("linear", [0.4, 0.127273, 0.1], 0.833932),
        ("convex", [0.4, 0.103054, 0.1], 0.830904),
    ],
)
def test_label_aware_smoothing(form: str, epsilon: list[float], value: float) -> None:
    loss = build("label-aware-smoothing", form=form, epsilon_head=0.4, epsilon_tail=0.1)
    check(loss.get_buffer("epsilon"), epsilon)
    check(loss(LOGITS, LABELS), value)


@pytest.mark.parametrize(
    ("settings", "epsilon"),
    [
        ({}, [0.3, 0.192836, 0]),
        ({"form": "linear"}, [0.3, 0.133333, 0]),
        ({"form": "convex"}, [0.3, 0.070187, 0]),
        ({"epsilon_head": 0.4, "epsilon_tail": 0.1}, [0.4, 0.292836, 0.1]),
        ({"form": "exponential"}, [0.3, 0.133333, 0]),  # r^1 is linear
        ({"form": "exponential", "power": 2}, [0.3, 0.3 * 16 / 81, 0]),  # r = 40 / 90
    ],
)
def test_smoothing_between_head_and_tail(settings: dict[str, Any], epsilon: list[float]) -> None:
    loss = build("label-aware-smoothing", ClassStats(torch.tensor([100, 50, 10])), **settings)
    check(loss.get_buffer("epsilon"), epsilon)


def test_smoothing_of_the_cifar_splits() -> None:
    cifar10 = build("label-aware-smoothing", ClassStats(torch.tensor(class_sizes(10, 5000, 100, "exponential"))))
    expected = [0.3, 0.241412, 0.157844, 0.096049, 0.056308, 0.032021, 0.017317, 0.008472, 0.003142, 0]
    check(cifar10.get_buffer("epsilon"), expected)
    cifar100 = ClassStats(torch.tensor(class_sizes(100, 500, 100, "exponential")))
    epsilon = build("label-aware-smoothing", cifar100, epsilon_head=0.4, epsilon_tail=0.1).get_buffer("epsilon")
    check(epsilon[[0, 1, 50, 99]], [0.4, 0.399201, 0.140809, 0.1])


def test_smoothing_spreads_its_mass_over_all_classes() -> None:
    equal = ClassStats(torch.tensor([9, 9, 9]))  # classes of one size: all get the factor of the rarest
    loss = build("label-aware-smoothing", equal, epsilon_head=1.0, epsilon_tail=0.3)
    logits, labels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0])
    check(loss(logits, labels), 0.707606)  # the paper's form, over the other classes, gives 0.857606
    torch.testing.assert_close(loss(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS, label_smoothing=0.3))


@pytest.mark.parametrize(("classes", "gap"), [(10, 3.191847), (100, 5.456745)])
def test_smoothing_is_content_with_a_finite_gap(classes: int, gap: float) -> None:
    equal = ClassStats(torch.full((classes,), 9))
    loss = build("label-aware-smoothing", equal, epsilon_tail=0.3)
    logits = gap * F.one_hot(torch.tensor([0]), classes).float()
    check(gradient(loss, logits, torch.tensor([0])), [[0.0] * classes], atol=1e-6)
