"""The influence-balanced loss against the values of its released code, and what its factor means."""

from __future__ import annotations

import torch
from loss_cases import FEATURES, LABELS, LOGITS, build, check, gradient, value
from torch.nn import functional as F

from lt_bench.losses.influence_balanced import InfluenceBalanced


def ib(**settings: object) -> InfluenceBalanced:
    loss = build("ib", **settings)
    assert isinstance(loss, InfluenceBalanced)
    return loss


def test_influence_balanced() -> None:
    loss = ib()
    check(FEATURES.abs().sum(dim=1), [3, 2, 1.5, 0.5])
    losses = loss.per_sample(LOGITS, LABELS)
    error = (F.softmax(LOGITS, dim=1) - F.one_hot(LABELS, 3)).abs().sum(dim=1)
    check(error, [0.428806, 0.972206, 1.388650, 0.774519])
    factors = loss.factors(losses, FEATURES)
    check(factors, [776.7485, 514.0302, 479.8522, 2575.5967])
    torch.testing.assert_close(factors, 1000 / (error * FEATURES.abs().sum(dim=1) + 1e-3))
    assert loss.class_weights is not None
    check(loss.class_weights, [0.027027, 0.270270, 2.702703])
    check(loss(LOGITS, LABELS, 1.0, FEATURES), 1261.0773)


def test_influence_balanced_gradient() -> None:
    loss = ib()
    rows = gradient(loss, LOGITS)
    check(rows[0], [-0.131085, 0.107172, 0.023913])
    check(rows[2], [86.40184, 21.306427, -107.70825])
    # With a constant factor it would be the gradient of cross entropy times w f / B.
    assert loss.class_weights is not None
    factors = loss.class_weights[LABELS] * loss.factors(loss.per_sample(LOGITS, LABELS), FEATURES)
    constant = factors[:, None] * gradient(build("cross-entropy"), LOGITS)
    check(constant[2], [180.58536, 44.5318, -225.11714])


def test_influence_balanced_draws_on_the_features() -> None:
    loss, leaf = ib(weights=None), FEATURES.clone().requires_grad_()
    loss(LOGITS, LABELS, 1.0, leaf).backward()
    # The factor f = 1000 / (g h + 0.001) falls by f^2 g / 1000 for every unit of h, and h is a sum of sizes.
    losses = loss.per_sample(LOGITS, LABELS)
    slope = -(loss.factors(losses, FEATURES) ** 2) * 2 * (1 - torch.exp(-losses)) / 1000
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, (slope * losses / 4)[:, None] * FEATURES.sign())


def test_an_image_counts_the_less_the_larger_its_gradient_in_the_classifier() -> None:
    loss = ib()
    classifier = torch.zeros(2, 3, requires_grad=True)
    for image in range(4):
        logits = LOGITS[[image]].detach() + FEATURES[[image]] @ classifier
        (own,) = torch.autograd.grad(F.cross_entropy(logits, LABELS[[image]]), classifier)
        factor = loss.factors(loss.per_sample(LOGITS, LABELS), FEATURES)[image]
        torch.testing.assert_close(factor, 1000 / (own.abs().sum() + 1e-3))


def test_weights_are_chosen_by_name_or_left_out() -> None:
    names = [None if loss.config.weights is None else loss.config.weights.name for loss in (ib(), ib(weights=None))]
    assert names == ["inverse-frequency", None]
    effective = ib(weights="effective-number").class_weights
    assert effective is not None
    check(effective, [0.027690, 0.270763, 2.701547])
    losses = ib().factors(ib().per_sample(LOGITS, LABELS), FEATURES) * ib().per_sample(LOGITS, LABELS)
    torch.testing.assert_close(value(ib(weights=None), LOGITS), losses.mean())
