"""The standard method: shares of mixed labels, phases, and what lives on between them."""

from __future__ import annotations

import pytest
import torch
from method_cases import batch_of, build, choice, phase, step_at, tiny_network
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Epoch
from lt_bench.errors import UserError
from lt_bench.losses import Loss
from lt_bench.registry import Choice, Info, Phase


def test_no_mix_and_cross_entropy_is_cross_entropy() -> None:
    method, network, batch = build("standard"), tiny_network().eval(), batch_of()
    found = method.loss(network, {"main": batch}, step_at())
    torch.testing.assert_close(found, F.cross_entropy(network(batch.images), batch.labels))


@pytest.mark.parametrize("mix", ["mixup", "remix", "unimix"])  # one share for all, and one for each
def test_a_mixed_image_costs_the_shares_of_its_labels(mix: str) -> None:
    method, network, batch = build("standard", (phase(mix=mix),)), tiny_network().eval(), batch_of(size=5)
    found = method.loss(network, {"main": batch}, step_at(seed=3))
    mixed = method.phase(step_at().epoch)[1](batch, None, step_at(seed=3))
    (first, lam), (second, rest) = ((labels, torch.as_tensor(share).reshape(-1, 1)) for labels, share in mixed.terms)
    soft = lam * F.one_hot(first, 3) + rest * F.one_hot(second, 3)
    torch.testing.assert_close(found, F.cross_entropy(network(mixed.images), soft))
    assert 0 < float(lam.mean()) < 1


@pytest.mark.parametrize("mix", ["mixup", "cutmix", "cmo", "remix", "unimix"])
def test_a_mix_does_not_touch_prediction(mix: str) -> None:
    network, batch = tiny_network().eval(), batch_of()
    found = build("standard", (phase(mix=mix),)).scores(network, batch.images)
    assert torch.equal(found, build("standard").scores(network, batch.images))


def test_phases_change_at_their_epoch() -> None:
    plain, weighted = choice("loss", "cross-entropy"), choice("loss", "cross-entropy", weights="inverse-frequency")
    rest = choice("sampler", "instance"), choice("mix", "none")
    method = build("standard", (Phase(8, *rest, plain), Phase(10, *rest, weighted)))
    network, batch = tiny_network().eval(), batch_of(labels=[0, 1, 2])
    logits = network(batch.images)
    weights = torch.tensor([1 / 20, 1 / 6, 1 / 2])

    def loss_at(index: int) -> Tensor:
        return method.loss(network, {"main": batch}, step_at(index, 10))

    torch.testing.assert_close(loss_at(7), F.cross_entropy(logits, batch.labels))
    torch.testing.assert_close(loss_at(8), F.cross_entropy(logits, batch.labels, weights))
    torch.testing.assert_close(loss_at(9), loss_at(8))


def test_phases_change_the_sampler() -> None:
    method = build("standard", (phase(5), phase(10, sampler="class-balanced")))
    assert sorted(method.streams(Epoch(4, 10, 0))["main"]) == list(range(28))
    labels = [20, 26, 28]
    drawn = method.streams(Epoch(5, 10, 0))["main"]
    assert len(set(drawn)) < 28
    assert all((drawn < bound).any() for bound in labels)


def test_a_second_stream_runs_only_where_the_mix_asks_for_one() -> None:
    method = build("standard", (phase(10, mix="cmo"),))
    assert set(method.streams(Epoch(3, 10, 0))) == {"main"}
    assert set(method.streams(Epoch(4, 10, 0))) == {"main", "partner"}
    assert set(method.streams(Epoch(7, 10, 0))) == {"main"}


def test_label_occurrence_balanced_mixup_is_deferred_by_a_phase() -> None:
    mix = choice("mix", "label-occurrence-balanced-mixup", start_epoch=5)
    natural, balanced = choice("sampler", "instance"), choice("sampler", "class-balanced")
    loss = choice("loss", "cross-entropy")
    method = build("standard", (Phase(5, natural, mix, loss), Phase(10, balanced, mix, loss)))
    before, after = method.streams(Epoch(4, 10, 0)), method.streams(Epoch(5, 10, 0))
    assert set(before) == {"main"}
    assert sorted(before["main"]) == list(range(28))
    assert all(len(set(after[name])) < 28 for name in ("main", "partner"))
    assert after["main"].tolist() != after["partner"].tolist()


def test_equal_parts_of_two_phases_are_one() -> None:
    """Or the class means of a mix would begin anew when only the loss changes."""
    first = phase(5, mix="class-distance-mix-ours")
    method = build("standard", (first, Phase(10, first.sampler, first.mix, choice("loss", "balanced-softmax"))))
    mixes = [method.phase(Epoch(index, 10, 0))[1] for index in (4, 5)]
    losses = [method.phase(Epoch(index, 10, 0))[2] for index in (4, 5)]
    assert mixes[0] is mixes[1]
    assert losses[0] is not losses[1]
    assert len(list(method.parts)) == 3


def test_diagnostics_are_those_of_the_mix_of_the_phase() -> None:
    method = build("standard", (phase(5, mix="class-distance-mix-ours"), phase(10)))
    network, clean = tiny_network().eval(), [batch_of(labels=[0, 1, 2])]
    kept = []
    for index in range(10):
        epoch = Epoch(index, 10, 0)
        method.streams(epoch)
        method.end_epoch(epoch, network, lambda: clean)
        kept.append(set(method.diagnostics(epoch)))
    assert kept == [set()] * 4 + [{"distance", "probability", "accuracy", "partner_share"}] + [set()] * 5


class Tabled(Loss):
    """A plug-in's loss whose settings hold a mapping, and so have no hash."""

    name = "tabled"
    info = Info("cross entropy with a table")

    class Config(Loss.Config):
        table: dict[str, int] = Field(default={"a": 1})

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none")


def test_settings_may_hold_a_mapping() -> None:
    first, tabled = phase(5), Choice(Tabled, Tabled.Config())
    method = build("standard", tuple(Phase(until, first.sampler, first.mix, tabled) for until in (5, 10)))
    assert method.phase(Epoch(0, 10, 0))[2] is method.phase(Epoch(9, 10, 0))[2]


def test_scores_are_those_of_the_last_loss() -> None:
    method, network = build("standard", (phase(loss="ldam"),)), tiny_network("cosine").eval()
    images = batch_of().images
    torch.testing.assert_close(method.scores(network, images), 30 * network(images))


@pytest.mark.parametrize(("loss", "head"), [("gcl", "cosine"), ("seql", "linear")])
def test_all_labels_of_a_mixed_image_see_the_same_disturbed_logits(loss: str, head: str) -> None:
    method, network, batch = build("standard", (phase(mix="mixup", loss=loss),)), tiny_network(head).eval(), batch_of()
    found = method.loss(network, {"main": batch}, step_at())
    _, mix, criterion = method.phase(step_at().epoch)
    step = step_at()
    mixed = mix(batch, None, step)  # the disturbance is drawn next, once
    logits = criterion.disturbed(network(mixed.images), [labels for labels, _ in mixed.terms], step.rng)
    terms = [criterion(logits, labels, share) for labels, share in mixed.terms]
    assert len(terms) == 2
    torch.testing.assert_close(found, sum(terms))


def test_a_loss_on_features_is_given_those_of_the_same_images() -> None:
    method, network, batch = build("standard", (phase(mix="mixup", loss="ib"),)), tiny_network().eval(), batch_of()
    found = method.loss(network, {"main": batch}, step_at())
    _, mix, criterion = method.phase(step_at().epoch)
    mixed = mix(batch, None, step_at())
    features = network.branches[0].features(network.trunk(mixed.images))  # type: ignore[operator]
    terms = [criterion(network(mixed.images), labels, share, features) for labels, share in mixed.terms]
    torch.testing.assert_close(found, sum(terms))


@pytest.mark.parametrize("head", ["dual-branch", "bilateral", "experts"])
def test_a_loss_on_features_refuses_a_head_of_several_branches(head: str) -> None:
    method = build("standard", (phase(loss="ib"),))
    with pytest.raises(UserError, match="needs a head of one branch"):
        method.loss(tiny_network(head), {"main": batch_of()}, step_at())
