"""LADE against the values of its released code, by hand, and on mixed labels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from loss_cases import LABELS, LOGITS, STATS, build, check

from lt_bench.data.types import ClassStats
from lt_bench.losses.lade import LADE, own_mean


def lade(stats: ClassStats = STATS, **settings: Any) -> LADE:
    loss = build("lade", stats, **settings)
    assert isinstance(loss, LADE)
    return loss


@pytest.mark.parametrize(("lam", "value"), [(0.01, -1.476800), (0.1, -1.429550), (0.5, -1.219547)])
def test_lade_regulariser(lam: float, value: float) -> None:
    check(lade(lam=lam).regulariser(LOGITS, LABELS), value)


def test_lade() -> None:
    s, f = lade(lam=0.1).log_mean(LOGITS), own_mean(LOGITS, LABELS, torch.ones(4))
    check(s, [0.236753, 1.862792, 4.239187])
    check(f, [2.0, 1.0, 1.05])
    check(f - s - 0.1 * s**2, [1.757642, -1.209792, -4.986258])
    check(lade(lam=0.1).regulariser(LOGITS, torch.tensor([0, 1, 1, 0])), -0.253424)  # class 2 is absent
    check(lade(lam=0.1, alpha=0.1)(LOGITS, LABELS), 2.391551)
    check(lade(alpha=0)(LOGITS, LABELS), 2.534506)  # balanced softmax
    assert lade().scores(LOGITS) is LOGITS


def test_lade_regulariser_by_hand() -> None:
    # Equal classes, and exp(z) of the two images 1 and 3, then 1 and 1: their means over C prior = 1 are 2 and 1.
    loss = lade(ClassStats(torch.tensor([7, 7])), lam=2)
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    check(loss.log_mean(logits), [math.log(2), 0.0])
    f, s = math.log(3) / 2, math.log(2)  # both images are of class 0; class 1 adds 0
    check(loss.regulariser(logits, torch.tensor([0, 0])), -0.5 * (f - s - 2 * s**2))


def test_lade_counts_a_mixed_batch_once() -> None:
    loss, partner, share = lade(lam=0.5), torch.tensor([2, 0, 1, 2]), torch.tensor([0.9, 0.5, 0.2, 1.0])
    mixed = loss.regulariser(LOGITS, LABELS, share) + loss.regulariser(LOGITS, partner, 1 - share)
    s = loss.log_mean(LOGITS)
    f = torch.tensor([0.9 * 2.0 + (1 - 0.5) * 0.2, 0.5 * 1.0 + (1 - 0.2) * 0.1, 0.0])  # one image in each term
    f[2] = (0.2 * 0.9 + 1.0 * 1.2) / 2 + ((1 - 0.9) * -1.0 + (1 - 1.0) * 1.2) / 2  # two images in each term
    torch.testing.assert_close(mixed, -(STATS.prior * (f - s - 0.5 * s**2)).sum())
