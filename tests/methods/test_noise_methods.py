"""The methods against label noise: the oracles of their papers and code, and what is sane where there is nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from method_cases import LABELS, batch_of, build, step_at, tiny_network
from torch.nn import functional as F

from lt_bench.data.types import Batch, Epoch
from lt_bench.errors import UserError
from lt_bench.losses.bootstrapping import Bootstrapping
from lt_bench.methods.beta_mixture import BetaMixture, moments
from lt_bench.methods.dynamic_bootstrapping import (
    DynamicBootstrapping,
    begins,
    corrects_from,
    divergence,
    guided_weight,
    normalised,
    temperature,
)
from lt_bench.methods.jocor import JoCoR, joint_losses
from lt_bench.models.heads.experts import Ensemble

X = np.array([0.05, 0.1, 0.15, 0.2, 0.75, 0.8, 0.85, 0.9])


def close(value: float) -> Any:
    """As many digits as the oracles have."""
    return pytest.approx(value, rel=1e-4, abs=1e-5)


def views_of(labels: Any = LABELS, seed: int = 0) -> Iterable[Batch]:
    return [batch_of(seed, labels=labels.tolist())]


# --- beta mixture -------------------------------------------------------------------------------------


def test_moments() -> None:
    x = np.array([0.1, 0.2, 0.3])
    assert moments(x, np.ones(3)) == close((4.6, 18.4))  # type: ignore[arg-type]
    assert moments(x, np.array([1, 2, 1])) == close((6.2, 24.8))  # type: ignore[arg-type]


def test_at_first_the_posterior_is_the_loss() -> None:
    assert BetaMixture().posterior(X) == pytest.approx(X)


def test_mixture_after_one_and_ten_iterations() -> None:
    once, ten = BetaMixture().fitted(X, 1), BetaMixture().fitted(X)
    assert once.a == pytest.approx((0.38541, 1.81916), abs=1e-5)
    assert once.b == pytest.approx((1.24966, 0.64091), abs=1e-5)
    assert once.pi == pytest.approx((0.525, 0.475))
    assert ten.a == pytest.approx((4.25, 37.29), abs=0.005)
    assert ten.b == pytest.approx((29.75, 7.91), abs=0.005)
    assert ten.pi == pytest.approx((0.5, 0.5), abs=1e-6)


def test_the_table_does_not_fall_in_the_tail() -> None:
    mixture = BetaMixture().fitted(X)
    assert mixture.posterior(np.array([0.5, 0.3, 0.999])) == pytest.approx([0.66311, 5.9e-11, 0.5343], rel=0.02)
    table = mixture.table()
    assert table[50] == pytest.approx(0.77399, abs=1e-4)
    assert table[99] == pytest.approx(1.0, abs=1e-6)
    assert (np.diff(table[table.argmax() :]) == 0).all()


def test_small_losses_are_trusted_where_wrong_labels_spread_wider() -> None:
    """The law of wrong labels is the higher one at both ends, and the posterior 1 at the smallest loss."""
    rng = np.random.default_rng(0)
    found = BetaMixture().fitted(np.concatenate([rng.normal(0.3, 0.1, 9000), rng.normal(0.5, 0.25, 5000)]))
    assert found.posterior(np.array([1e-6])) > 0.99
    table = found.table()
    assert (table[:40] < 0.5).all()
    assert table[-1] > 0.99


@pytest.mark.parametrize("x", [np.full(9, 0.001), np.array([1e-4, 1 - 1e-4] * 5), np.array([0.3]), np.full(5, 0.999)])
def test_a_component_that_collapses_stays_as_it_was(x: np.ndarray) -> None:
    found = BetaMixture().fitted(x)
    for value in (*found.a, *found.b):
        assert value > 0
    table = found.table()
    assert np.isfinite(table).all()
    assert ((table >= 0) & (table <= 1)).all()


def test_losses_that_are_all_alike_leave_every_label_trusted() -> None:
    method = build("dynamic-bootstrapping")
    assert isinstance(method, DynamicBootstrapping)
    method.look(Epoch(199, 200, 0), lambda images: torch.zeros(len(images), 3), lambda word: views_of())
    assert (method.losses == math.log(3)).all() or method.losses.std() < 1e-6
    assert (method.doubt(method.losses) < 0.01).all()


# --- dynamic bootstrapping ----------------------------------------------------------------------------


def test_regulariser() -> None:
    uniform = torch.full((3,), 1 / 3)
    assert divergence(uniform, torch.tensor([[0.7, 0.2, 0.1]]).log()).item() == close(0.324287)
    assert divergence(uniform, torch.zeros(4, 3)).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(("target", "expected"), [("hard", 0.539545), ("soft", 0.607463)])
def test_bootstrapped_loss_by_hand(target: str, expected: float) -> None:
    method = build("dynamic-bootstrapping", target=target)
    assert isinstance(method, DynamicBootstrapping)
    own = method.target(torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 3.0]]), Epoch(100, 200, 0))
    given = F.one_hot(torch.tensor([1, 0]), 3).float()
    targets = torch.lerp(given, own, torch.tensor([0.8, 0.1])[:, None])
    log_h = torch.tensor([2.0, 0.0, 0.0]).log_softmax(0)
    assert -(0.5 * (targets[0] @ log_h) + 0.5 * (targets[1] @ log_h)).item() == close(expected)


def test_guided_weight() -> None:
    p, q = torch.tensor([0.9, 0.5]), torch.tensor([0.1, 0.5])
    assert guided_weight(p, q).tolist() == pytest.approx([0.1, 0.5])
    assert (guided_weight(p, q) + guided_weight(q, p)).tolist() == pytest.approx([1, 1])


def test_mixup_is_near_a_half() -> None:
    assert np.random.default_rng(0).beta(32, 32, 200_000).std() == pytest.approx(0.06202, abs=2e-4)


def test_the_papers_schedule() -> None:
    hard, guided = DynamicBootstrapping.Config(), DynamicBootstrapping.Config(guided=True, target="soft-to-hard")
    assert (begins(hard, 300), corrects_from(hard, 300)) == (105, 105)  # 106 counted from 1
    assert (begins(guided, 300), corrects_from(guided, 300)) == (105, 110)
    found = [temperature(guided, Epoch(index, 300, 0)) for index in (110, 111, 198, 299)]
    assert found == pytest.approx([1, 1 - 0.999 / 88, 0.001, 0.001])


def test_without_doubt_it_is_mixup() -> None:
    method, network = build("dynamic-bootstrapping", regulariser=0.0, start=0.01), tiny_network().eval()
    assert isinstance(method, DynamicBootstrapping)
    method.table.zero_()
    network.train = lambda mode=True: network  # type: ignore[method-assign] # the same statistics in every pass
    batch, step, plain = batch_of(), step_at(), step_at()
    late = method.loss(network, {"main": batch}, step)
    early = build("dynamic-bootstrapping", start=0.9).loss(network, {"main": batch}, plain)
    assert late.item() == pytest.approx(early.item(), rel=1e-3)


def test_the_mixture_is_of_the_views_and_only_when_needed() -> None:
    method = build("dynamic-bootstrapping")
    assert isinstance(method, DynamicBootstrapping)
    logits = torch.randn(len(LABELS), 3, generator=torch.Generator().manual_seed(0))
    asked: list[str] = []

    def views(word: str) -> Iterable[Batch]:
        asked.append(word)
        return views_of()

    method.look(Epoch(68, 200, 0), lambda images: logits, views)
    assert not asked
    method.look(Epoch(69, 200, 0), lambda images: logits, views)  # from epoch 70 on it is asked
    assert asked == ["losses"]
    expected = F.cross_entropy(logits, torch.from_numpy(LABELS), reduction="none")
    assert torch.allclose(method.losses, expected)
    low, high = np.percentile(expected.double().numpy(), (5, 95))
    assert method.lowest.item() == pytest.approx(low + 1e-5, rel=1e-6)
    assert method.highest.item() == pytest.approx(high, rel=1e-6)
    found = method.suspects(tiny_network(), views_of)
    assert (found.flagged == (found.score > 0.5)).all()
    assert found.flagged[expected.argmax()]
    assert method.diagnostics(Epoch(68, 200, 0)) == {}
    kept = method.diagnostics(Epoch(69, 200, 0))
    assert kept["pi"].sum() == pytest.approx(1)
    assert kept["doubted"].tolist() == np.bincount(LABELS[found.flagged.numpy()], minlength=3).tolist()


def test_losses_are_normalised_into_the_open_interval() -> None:
    x = normalised(torch.tensor([0.0, 1.0, 2.0, 9.0]), torch.tensor(0.5), torch.tensor(2.5))
    assert x.tolist() == pytest.approx([0.001, 0.25, 0.75, 0.999], abs=1e-5)


# --- static bootstrapping -----------------------------------------------------------------------------


def test_bootstrapping_by_hand() -> None:
    logits, y = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([1])
    p = logits.softmax(1)[0]
    hard = -(0.8 * p[1].log() + 0.2 * p[0].log())
    soft = -(0.95 * p[1].log() + 0.05 * (p * p.log()).sum())
    assert Bootstrapping([1, 1, 1])(logits, y).item() == close(hard.item())
    assert Bootstrapping([1, 1, 1], target="soft")(logits, y).item() == close(soft.item())
    assert Bootstrapping([1, 1, 1], weight=0.0)(logits, y).item() == close(-p[1].log().item())


def test_the_prediction_is_a_constant() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)
    Bootstrapping([1, 1, 1], target="soft", weight=1.0)(logits, torch.tensor([1])).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6  # p - z, with z = p


# --- JoCoR --------------------------------------------------------------------------------------------


def test_joint_loss() -> None:
    logits, y = torch.tensor([[[2.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]]), torch.tensor([0])
    assert joint_losses(logits, y, 0.9).item() == close(1.636828)
    assert joint_losses(logits, y, 1.0).item() == close(0.779365 + 0.840334)


def test_the_share_that_is_left_out() -> None:
    method = build("jocor", forget_rate=0.2)
    assert isinstance(method, JoCoR)
    for total in (200, 30):
        shares = [method.forgotten(Epoch(index, total, 0)) for index in (0, 1, 9, 10, total - 1)]
        assert shares == pytest.approx([0, 0.0222222, 0.2, 0.2, 0.2], abs=1e-6)
    assert method.forgotten(Epoch(4, 5, 0)) == 0.2
    assert [int((1 - share) * 128) for share in (0, 0.2, 0.5)] == [128, 102, 64]


def test_it_learns_from_the_smallest_joint_losses() -> None:
    method = build("jocor", forget_rate=0.5)
    assert isinstance(method, JoCoR)
    logits = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    losses = joint_losses(logits, labels, 0.9)
    found = method.criterion(logits, labels, 1.0, Epoch(100, 200, 0))
    assert found.item() == pytest.approx(losses.sort().values[:3].mean().item())
    (gradient,) = torch.autograd.grad(found, logits)
    assert (gradient.abs().sum((0, 2)) > 0).tolist() == (losses <= losses.sort().values[2]).tolist()
    assert (gradient.abs().sum(2)[:, losses.argmin()] > 0).all()  # both networks, through both divergences


def test_jocor_needs_two_networks() -> None:
    with pytest.raises(UserError, match="needs two"):
        JoCoR.check(JoCoR.Config(), Ensemble.Config(num_networks=1), 10)
