"""Softmax equalisation by hand: which classes leave a denominator, and which never do."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import COSINES, LABELS, LOGITS, build, check
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import generator
from lt_bench.losses import Loss


def left_out(loss: Loss, labels: list[Tensor], logits: Tensor = LOGITS) -> list[list[bool]]:
    found: list[list[bool]] = loss.disturbed(logits, labels, generator(0, "test")).isinf().tolist()
    return found


def test_a_rare_class_is_left_out_unless_it_is_the_label() -> None:
    loss = build("seql", gamma=1, lam=0.1)  # the priors are 0.9, 0.09 and 0.009
    assert left_out(loss, [LABELS])[:3] == [[False, True, True], [False, False, True], [False, True, False]]
    assert left_out(build("seql", gamma=1, lam=0.05), [LABELS])[0] == [False, False, True]
    assert not any(map(any, left_out(build("seql", gamma=1), [LABELS])))  # 0.005: no class is that rare


def test_what_is_left_out_is_missing_in_the_denominator() -> None:
    loss = build("seql", gamma=1, lam=0.05)
    logits = torch.tensor([[math.log(3), 0.0, math.log(5)]])
    for label, probability in [(0, 3 / 4), (1, 1 / 4), (2, 5 / 9)]:
        labels = torch.tensor([label])
        found = loss(loss.disturbed(logits, [labels], generator(0, "test")), labels)
        check(found, -math.log(probability))


def test_neither_label_of_a_mixed_image_is_left_out() -> None:
    loss, partner = build("seql", gamma=1, lam=0.1), torch.tensor([1, 2, 0, 1])
    assert left_out(loss, [LABELS, partner]) == [[False, False, True], [False] * 3, [False, True, False], [False] * 3]
    logits = loss.disturbed(LOGITS, [LABELS, partner], generator(0, "test"))
    mixed = loss(logits, LABELS, 0.25) + loss(logits, partner, 0.75)
    assert mixed.isfinite()
    check(loss(logits[[1]], partner[[1]]), F.cross_entropy(LOGITS[[1]], partner[[1]]).item())


def test_every_image_and_class_is_drawn_by_itself() -> None:
    loss, common = build("seql", lam=0.1), torch.zeros(20_000, dtype=torch.long)
    drawn = loss.disturbed(torch.zeros(20_000, 3), [common], generator(0, "test")).isinf().float()
    assert drawn.mean(dim=0).tolist() == [0, pytest.approx(0.9, abs=0.01), pytest.approx(0.9, abs=0.01)]
    assert (drawn[:, 1] * drawn[:, 2]).mean().item() == pytest.approx(0.81, abs=0.01)


def test_gamma_zero_is_cross_entropy() -> None:
    loss = build("seql", gamma=0, lam=1)
    assert torch.equal(loss.disturbed(COSINES, [LABELS], generator(0, "test")), COSINES)
    torch.testing.assert_close(loss(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS))
    assert loss.scores(LOGITS) is LOGITS
