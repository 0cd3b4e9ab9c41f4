"""The losses against the values of their papers' own code.

Values were computed with the official implementations on the inputs of `loss_cases`.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from loss_cases import COSINES, LABELS, LOGITS, STATS, build, check, gradient
from torch.nn import functional as F

from lt_bench.data.types import ClassStats
from lt_bench.errors import UserError
from lt_bench.losses import ClassWeights


def test_cross_entropy() -> None:
    loss = build("cross-entropy")
    check(loss.per_sample(LOGITS, LABELS), [0.241311, 0.665732, 1.185233, 0.489814])
    check(loss(LOGITS, LABELS), 0.645522)
    check(gradient(loss, LOGITS)[0], [-0.053601, 0.043823, 0.009778])
    check(gradient(loss, LOGITS)[2], [0.139244, 0.034337, -0.173581])


@pytest.mark.parametrize(("gamma", "value"), [(0, 0.645522), (0.5, 0.467078), (1, 0.346993), (2, 0.203311)])
def test_softmax_focal(gamma: float, value: float) -> None:
    check(build("focal", gamma=gamma)(LOGITS, LABELS), value)


def test_softmax_focal_gradient() -> None:
    check(gradient(build("focal", gamma=2), LOGITS)[2], [0.137182, 0.033829, -0.171010])


def test_class_balanced_binary_cross_entropy_of_the_softmax() -> None:
    check(build("class-balanced", form="binary-softmax")(LOGITS, LABELS), 0.721558)


def test_binary_cross_entropy_of_the_softmax_where_a_probability_rounds_to_one() -> None:
    """-log p is 100 for the true class, -log(1 - p) is 100 - log 2 for the first, and 0 for the third."""
    logits = torch.tensor([[100.0, 0.0, 0.0]], requires_grad=True)
    loss = build("class-balanced", form="binary-softmax", beta=0.0)(logits, torch.tensor([1]))
    check(loss, (100 + 100 - 0.693147) / 3)
    loss.backward()
    assert logits.grad is not None
    check(logits.grad, [[2 / 3, -1 / 2, -1 / 6]])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("form", ["softmax", "sigmoid", "focal", "binary-softmax"])
def test_class_balanced_under_autocast_on_cuda(form: str) -> None:
    loss = build("class-balanced", form=form)
    with torch.autocast("cuda", torch.bfloat16):
        found = loss.cuda()(LOGITS.cuda(), LABELS.cuda())
    torch.testing.assert_close(found.cpu(), build("class-balanced", form=form)(LOGITS, LABELS))


@pytest.mark.parametrize(("inside", "value"), [(True, 1.018098), (False, 0.706175)])
def test_softmax_focal_with_weights(inside: bool, value: float) -> None:
    check(build("focal", weights="effective-number", weight_inside_p=inside)(LOGITS, LABELS), value)


def test_weight_inside_p_changes_nothing_without_weights() -> None:
    check(build("focal", weight_inside_p=True)(LOGITS, LABELS), 0.346993)


@pytest.mark.parametrize(("gamma", "value"), [(0, 1.954340), (2, 0.681902)])
def test_sigmoid_focal(gamma: float, value: float) -> None:
    check(build("sigmoid-focal", gamma=gamma)(LOGITS, LABELS), value)


@pytest.mark.parametrize(
    ("beta", "weights"),
    [
        (0, [1.0, 1.0, 1.0]),
        (0.9, [0.674593, 0.678088, 1.647318]),
        (0.99, [0.126130, 0.317223, 2.556647]),
        (0.999, [0.034111, 0.275169, 2.690720]),
        (0.9999, [0.027690, 0.270763, 2.701547]),
    ],
)
def test_effective_number_weights(beta: float, weights: list[float]) -> None:
    found = build("class-balanced", beta=beta).class_weights
    assert found is not None
    check(found, weights)
    check(found.sum(), 3.0)


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({"beta": 0.9999}, 0.826469),
        ({"form": "focal", "beta": 0.9999, "gamma": 1}, 1.874753),
        ({"form": "focal", "beta": 0.999, "gamma": 0.5}, 2.382169),
    ],
)
def test_class_balanced(settings: dict[str, Any], value: float) -> None:
    check(build("class-balanced", **settings)(LOGITS, LABELS), value)


def test_class_balanced_cross_entropy_is_a_weighted_mean() -> None:
    loss = build("class-balanced")
    assert loss.class_weights is not None
    check((loss.class_weights[LABELS] * loss.per_sample(LOGITS, LABELS)).mean(), 1.178039)  # the sum over B
    check(loss(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS, weight=loss.class_weights).item())


def mean_by_hand(name: str, weights: list[float], divisor: float, **settings: Any) -> float:
    losses = build(name, **settings).per_sample(LOGITS, LABELS).tolist()
    return sum(weights[y] * loss for y, loss in zip(LABELS.tolist(), losses, strict=True)) / divisor


@pytest.mark.parametrize("name", ["cross-entropy", "focal", "sigmoid-focal", "balanced-softmax", "vs"])
def test_both_means_of_weighted_losses(name: str) -> None:
    """With the card's weights for beta 0.99; over the sum of those of the labels 0, 1, 2, 2, or over their number."""
    w = [0.126130, 0.317223, 2.556647]
    weights = {"name": "effective-number", "beta": 0.99}
    weighted = mean_by_hand(name, w, 0.126130 + 0.317223 + 2 * 2.556647)
    plain = mean_by_hand(name, w, 4)
    check(build(name, weights=weights, mean="weighted")(LOGITS, LABELS), weighted)
    check(build(name, weights=weights, mean="plain")(LOGITS, LABELS), plain)
    usual = plain if "focal" in name else weighted
    check(build(name, weights=weights)(LOGITS, LABELS), usual)
    check(build(name, mean="plain")(LOGITS, LABELS), build(name, mean="weighted")(LOGITS, LABELS).item())


@pytest.mark.parametrize(("mean", "value"), [("weighted", 0.826469), ("plain", 1.178039)])
def test_both_means_of_class_balanced_cross_entropy(mean: str, value: float) -> None:
    check(build("class-balanced", mean=mean)(LOGITS, LABELS), value)


def test_a_weight_inside_p_has_no_weighted_mean() -> None:
    with pytest.raises(UserError, match="goes with the plain mean"):
        build("focal", weight_inside_p=True, mean="weighted")


@pytest.mark.parametrize(("tau", "further"), [(1, 2.1694e-9), (2, 4.7063e-6), (3, 0.0101581)])
def test_logit_adjustment_is_the_formula_of_the_paper(tau: int, further: float) -> None:
    """The released code's 1e-12 beside prior^tau would raise the rarest class of CIFAR-100-LT by `further`."""
    counts = torch.tensor([int(500 * 100 ** (-k / 99)) for k in range(100)])
    shift = build("logit-adjustment", ClassStats(counts), tau=tau).get_buffer("shift")
    prior = 5 / 10847
    torch.testing.assert_close(float(shift[-1]), tau * math.log(prior), rtol=1e-6, atol=0)
    assert math.log1p(1e-12 / prior**tau) == pytest.approx(further, rel=1e-4)


def test_class_balanced_sigmoid_is_its_focal_form_at_gamma_zero() -> None:
    sigmoid = build("class-balanced", form="sigmoid")(LOGITS, LABELS)
    torch.testing.assert_close(sigmoid, build("class-balanced", form="focal", gamma=0)(LOGITS, LABELS))
    equal = build("class-balanced", form="sigmoid", beta=0)(LOGITS, LABELS)
    check(equal, 1.954340)  # equal weights: plain binary cross entropy


def test_class_balanced_refuses_a_second_set_of_weights() -> None:
    with pytest.raises(UserError, match="leave `weights` out"):
        build("class-balanced", weights="inverse-frequency")
    build("class-balanced", weights=None)  # as a resolved recipe writes it


def test_ldam() -> None:
    loss = build("ldam")
    check(loss.get_buffer("margins"), [0.158114, 0.281171, 0.5])
    torch.testing.assert_close(
        loss.per_sample(COSINES, LABELS), torch.tensor([1.19e-7, 2.519195, 21.0, 3.048587]), rtol=2e-5, atol=1e-7
    )
    check(loss(COSINES, LABELS), 6.641946)
    check(gradient(loss, COSINES)[2], [7.499997, 2e-6, -7.5])
    check(build("ldam", weights="effective-number")(COSINES, LABELS), 11.514507)


def test_ldam_predicts_with_scaled_cosines() -> None:
    loss = build("ldam", scale=20)
    assert loss.takes_cosines
    check(loss.scores(COSINES), (20 * COSINES).tolist())


def test_balanced_softmax() -> None:
    loss = build("balanced-softmax")
    check(loss.per_sample(LOGITS, LABELS), [0.022555, 1.712526, 5.234872, 3.168073])
    check(loss(LOGITS, LABELS), 2.534506)
    check(gradient(loss, LOGITS)[0], [-0.005576, 0.005454, 0.000122])
    check(gradient(loss, LOGITS)[2], [0.242684, 0.005985, -0.248668])
    assert loss.scores(LOGITS) is LOGITS  # the prior is not added at test time


@pytest.mark.parametrize(
    ("tau", "value"), [(0, 0.645522), (0.5, 1.373382), (1, 2.534506), (1.5, 3.883449), (2, 5.294389)]
)
def test_logit_adjustment(tau: float, value: float) -> None:
    loss = build("logit-adjustment", tau=tau)
    check(loss(LOGITS, LABELS), value)
    assert loss.scores(LOGITS) is LOGITS


@pytest.mark.parametrize(("tau", "predicted"), [(0, [0, 1, 0, 2]), (0.5, [0, 2, 2, 2]), (1, [2, 2, 2, 2])])
def test_post_hoc_logit_adjustment(tau: float, predicted: list[int]) -> None:
    loss = build("logit-adjustment", tau=tau, post_hoc=True)
    check(loss(LOGITS, LABELS), 0.645522)  # trained as plain cross entropy
    assert loss.scores(LOGITS).argmax(dim=1).tolist() == predicted


def test_post_hoc_scores() -> None:
    rows = [[2.104360, 2.906945, 3.709530], [0.304360, 3.406945, 5.009531]]
    rows += [[1.604360, 2.506945, 5.609530], [-0.395640, 2.806945, 5.909531]]
    check(build("logit-adjustment", post_hoc=True).scores(LOGITS), rows)


@pytest.mark.parametrize(
    ("gamma", "temperatures", "value"),
    [
        (0.1, [1, 1.258925, 1.584893], 0.765878),
        (0.2, [1, 1.584893, 2.511886], 0.853983),
        (0.3, [1, 1.995262, 3.981072], 0.915816),
    ],
)
def test_cdt(gamma: float, temperatures: list[float], value: float) -> None:
    loss = build("cdt", gamma=gamma)
    check(loss.get_buffer("temperatures"), temperatures)
    check(loss(LOGITS, LABELS), value)
    assert loss.scores(LOGITS) is LOGITS  # undivided at test time


@pytest.mark.parametrize(
    ("gamma", "tau", "value"), [(0.2, 1.2, 3.451902), (0.3, 1, 3.016217), (0, 1, 2.534507), (0, 0, 0.645522)]
)
def test_vector_scaling(gamma: float, tau: float, value: float) -> None:
    loss = build("vs", gamma=gamma, tau=tau)
    check(loss(LOGITS, LABELS), value)
    assert loss.scores(LOGITS) is LOGITS


def test_vector_scaling_joins_cdt_and_logit_adjustment() -> None:
    for one, other in [
        (build("vs", gamma=0.2, tau=0), build("cdt", gamma=0.2)),
        (build("vs", gamma=0, tau=1.5), build("logit-adjustment", tau=1.5)),
    ]:
        torch.testing.assert_close(one.per_sample(LOGITS, LABELS), other.per_sample(LOGITS, LABELS))


def test_cdt_asks_a_larger_logit_of_a_rare_class() -> None:
    loss = build("cdt", ClassStats(torch.tensor([400, 100])), gamma=0.5)  # temperatures 1 and 2
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    head, tail = loss.per_sample(logits, torch.tensor([0, 1]))
    torch.testing.assert_close(head, tail)  # twice the logit for the same loss


def test_inverse_frequency_weights() -> None:
    found = ClassWeights(name="inverse-frequency").tensor(STATS)
    check(found, [0.027027, 0.270270, 2.702703])


@pytest.mark.parametrize(
    ("rho", "weights"),
    [
        (0, [1.0, 1.0, 1.0]),
        (1, [0.027027, 0.27027, 2.702703]),
        (1.2, [0.011192, 0.177389, 2.811419]),
        (1.5, [0.002905, 0.091871, 2.905224]),
    ],
)
def test_generalised_reweighting(rho: float, weights: list[float]) -> None:
    check(ClassWeights(name="inverse-frequency", exponent=rho).tensor(STATS), weights)


def test_cost_sensitive_cross_entropy() -> None:
    loss = build("cross-entropy", weights={"name": "inverse-frequency", "exponent": 0.5})
    unnormalised = (STATS.counts.min() / STATS.counts) ** 0.5  # 0.1, 0.32, 1
    torch.testing.assert_close(loss(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS, weight=unnormalised))


def test_the_exponent_of_weights_is_written_only_where_it_is_not_one() -> None:
    weights = {"name": "inverse-frequency", "beta": 0.9999}
    assert ClassWeights.read({**weights, "exponent": 1.0}).model_dump() == weights
    assert ClassWeights.read({**weights, "exponent": 0.5}).model_dump() == {**weights, "exponent": 0.5}
