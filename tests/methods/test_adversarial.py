"""Adversarial training: the values of the cards, what the adversary may not touch, and what does not combine."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from method_cases import LABELS, batch_of, build, choice, phase, step_at, tiny_network
from torch import Tensor, nn

from lt_bench.adversary.ascent import Objective
from lt_bench.adversary.averaging import AveragedNetwork, decay_at
from lt_bench.adversary.objectives import cross_entropy, divergence
from lt_bench.data.types import Batch, ClassStats, generator
from lt_bench.errors import UserError
from lt_bench.leaderboard.track import ADVERSARIAL
from lt_bench.losses import BalancedSoftmax
from lt_bench.methods.pgd_at import PGDAT
from lt_bench.methods.reat import REAT, prediction_weights
from lt_bench.methods.robal import RoBal, class_margins
from lt_bench.methods.taet import harl
from lt_bench.methods.trades import TradesCutMix, cutmix_by_parts
from lt_bench.mixing.boxes import box_around
from lt_bench.models import Network
from lt_bench.models.heads import CosineClassifier
from lt_bench.protocol import shipped_protocol
from lt_bench.recipe import load_recipe
from lt_bench.registry import lookup, members

METHODS = ("pgd-at", "trades", "trades-cutmix-wa", "robal", "reat", "taet")
HEADS = {"robal": "cosine"}
CLEAN, PERTURBED = torch.tensor([[2.0, 0, 0]]), torch.tensor([[0.0, 1, 0]])
STILL = {"radius": 0.0}
"""An adversary that changes nothing."""


class Answers(nn.Module):
    """A network that knows two answers: one for black images, one for all others."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.where(images.flatten(1).any(1, keepdim=True), PERTURBED, CLEAN)


def late(name: str) -> Any:
    """A step behind the clean epochs of those that have some."""
    return step_at(index=100, total=200)


def pair(name: str, **settings: Any) -> tuple[Any, Network]:
    method, network = build(name, **settings), tiny_network(HEADS.get(name, "linear"))
    method.attach(network)
    return method.train(), network.train()


def loss_of(name: str, batch: Batch, phases: Any = (), **settings: Any) -> float:
    method = build(name, phases, **settings)
    found: Tensor = method.loss(tiny_network(HEADS.get(name, "linear")).train(), {"main": batch}, late(name))
    return found.item()


# --- the cards' values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "expected"), [("pgd-at", 1.551445), ("trades", 4.915735)])
def test_the_loss_by_hand(name: str, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PGDAT, "attacked", lambda self, network, images, objective, rng: images + 1)
    batch = Batch(torch.zeros(1, 3, 8, 8), torch.tensor([0]))
    found = build(name).loss(Answers(), {"main": batch}, step_at())  # type: ignore[arg-type]
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_the_gradient_of_trades_is_that_of_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PGDAT, "attacked", lambda self, network, images, objective, rng: images + 0.5)
    batch, network = batch_of(), tiny_network().train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    twin = deepcopy(network)
    build("trades", beta=2.0).loss(network, {"main": batch}, step_at()).backward()
    clean, perturbed = twin(batch.images), twin(batch.images + 0.5)
    p, log_p, log_q = clean.softmax(1), clean.log_softmax(1), perturbed.log_softmax(1)
    (nn.functional.cross_entropy(clean, batch.labels) + 2 * (p * (log_p - log_q)).sum(1).mean()).backward()
    for found, expected in zip(network.parameters(), twin.parameters(), strict=True):
        assert found.grad is not None and expected.grad is not None
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-6, rtol=1e-4)


def test_the_average_of_weights_begins_fast() -> None:
    steps = torch.tensor([0.0, 1, 10, 100])
    torch.testing.assert_close(
        decay_at(steps, 0.9999), torch.tensor([0.1, 0.181818, 0.55, 0.918182]), atol=1e-6, rtol=0
    )
    for decay, reached in ((0.995, 1790), (0.999, 8990)):
        assert decay_at(torch.tensor(float(reached)), decay).item() == pytest.approx(decay, abs=1e-7)
        assert decay_at(torch.tensor(float(reached - 1)), decay) < decay
        assert decay_at(torch.tensor(1e6), decay).item() == pytest.approx(decay, abs=1e-7)


def test_the_average_has_its_own_parameters_and_the_networks_statistics() -> None:
    network = tiny_network().train()
    averaged, first = AveragedNetwork(network, 0.999), deepcopy(network.state_dict())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
        network(batch_of().images)
    averaged.update(network)
    own, theirs = averaged.network.state_dict(), network.state_dict()
    for name, tensor in own.items():
        parameter = name in dict(network.named_parameters())
        torch.testing.assert_close(tensor, first[name] + 0.9 if parameter else theirs[name])
    averaged.update(network)  # by 1 - 2 / 11
    name = next(iter(dict(network.named_parameters())))
    torch.testing.assert_close(averaged.network.state_dict()[name], first[name] + 1 - 0.1 * 2 / 11)


def test_boxes_are_the_cards() -> None:
    found = [
        (box.bottom - box.top, box.right - box.left, box.share_outside(32, 32))
        for centre, share in ((16, 0.5), (0, 0.5), (31, 0.5), (16, 0.6))
        for box in [box_around(centre, centre, 32, 32, share)]
    ]
    assert found == [(22, 22, 0.52734375), (11, 11, 0.8818359375), (12, 12, 0.859375), (20, 20, 0.609375)]


def test_parts_of_a_batch_have_one_box_and_one_order_of_partners() -> None:
    values = torch.arange(18.0).view(-1, 1, 1, 1)
    batch = Batch(values.expand(18, 3, 32, 32).contiguous(), torch.arange(18))
    mixed = cutmix_by_parts(batch, 1.0, 4, generator(0, "cutmix"))
    (own, share), (others, rest) = mixed.terms
    assert own is batch.labels and others is not None
    assert share + rest == 1
    assert others[16:].tolist() == [16, 17]  # left over
    rows = others[:16].view(4, 4)
    assert (rows % 4 == torch.arange(4)).all()  # partners are of the same part
    order = rows[:, 0] // 4
    assert (rows // 4 == order[:, None]).all()
    assert sorted(order.tolist()) == [0, 1, 2, 3] != order.tolist()
    elsewhere = others != batch.labels
    pasted = mixed.images[elsewhere] != values[elsewhere]
    assert (pasted == pasted[0, 0]).all()  # one box
    assert pasted.float().mean().item() == pytest.approx(rest)
    method = build("trades-cutmix-wa", labels=np.arange(18))
    assert isinstance(method, TradesCutMix)
    target = method.target(step_at(), tiny_network(), mixed)
    torch.testing.assert_close(target.sum(1), torch.ones(18))
    torch.testing.assert_close(target[elsewhere, batch.labels[elsewhere]], torch.full((int(elsewhere.sum()),), share))


def test_balanced_softmax_by_hand() -> None:
    loss, logits = BalancedSoftmax([100, 10, 1]), torch.tensor([[2.0, 1, 0]])
    found = [loss(logits, torch.tensor([label])).item() for label in range(3)]
    assert found == pytest.approx([0.0374320, 3.3400171, 6.6426025], abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "margins", "expected"),
    [
        ({"margin": 0.1, "prior_tau": 1.2}, [0.1, 0.1, 0.1], [0.0085126, 6.7642608, 13.5293427]),
        (
            {"margin": 0.1, "prior_tau": 1.5, "margin_tau": 0.3},
            [0.2381551, 0.1690776, 0.1],
            [0.0169040, 8.1449442, 14.9093294],
        ),
    ],
)
def test_robal_by_hand(settings: dict[str, float], margins: list[float], expected: list[float]) -> None:
    labels = np.repeat(np.arange(3), [100, 10, 1])
    method, cosines = build("robal", labels=labels, **settings), torch.tensor([[0.8, 0.5, 0.1]])
    assert isinstance(method, RoBal)
    assert class_margins(ClassStats.of(labels, 3), method.config).tolist() == pytest.approx(margins, abs=1e-6)
    found = [method.outer_loss(cosines, torch.tensor([label])).item() for label in range(3)]
    assert found == pytest.approx(expected, abs=2e-6)


def test_the_cosines_of_robal_by_hand() -> None:
    classifier = CosineClassifier(2, 2, gamma=1 / 32)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[1.0, 0], [0.5, 0.5]]))
    found = classifier(torch.tensor([[3.0, 4]]))
    torch.testing.assert_close(found, torch.tensor([[0.5818182, 0.9480512]]), atol=1e-6, rtol=0)
    for tau, expected in ((0.1, [5.8201623, 9.8736954]), (1.5, [5.8478861, 15.3782513])):
        labels = np.repeat(np.arange(2), [5000, 100])
        scores = build("robal", labels=labels, posterior_tau=tau).scores(lambda _: found, torch.zeros(1))  # type: ignore[arg-type]
        assert scores.tolist()[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([100, 10, 2], [0.0566061, 0.5509785, 2.3924154]),
        ([90, 20, 2], [0.0632100, 0.4283456, 2.5084444]),
        ([112, 0, 0], [2.2e-7, 1.5, 1.5]),
    ],
)
def test_the_weights_of_reat_by_hand(predicted: list[int], expected: list[float]) -> None:
    found = prediction_weights(torch.tensor([100, 10, 2]), torch.tensor(predicted))
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert found.sum().item() == pytest.approx(3)


def test_harl_by_hand() -> None:
    logits = torch.tensor([[2.0, 1, 0], [0, 2, 1], [1, 0, 0], [0, 0, 0]])
    labels = torch.tensor([0, 1, 0, 1])
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    assert losses.mean().item() == pytest.approx(0.6163172, abs=1e-6)
    each = [harl(losses, labels, 3, *weights).item() for weights in ((0.1, 0, 0), (0, 0.1, 0), (0, 0, 0.1))]
    assert each == pytest.approx([0.0410878, 0.0096885, 0.0524631], abs=1e-6)
    assert harl(losses, labels, 3, 0.1, 0.1, 0.1).item() == pytest.approx(0.1032394, abs=1e-6)
    flat = torch.full((10,), 10.0).log()
    assert harl(flat, torch.arange(10), 10, 0.1, 0.1, 0.1).item() == pytest.approx(0.2402585, abs=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert harl(losses, labels, 3, 0.1, 0.1, 0.1).item() == pytest.approx(0.1032394, abs=1e-6)
    # Fewer classes, a larger loss.
    assert harl(flat[:4], torch.arange(4), 10, 0.1, 0.1, 0.1).item() == pytest.approx(0.2443490, abs=1e-6)


def test_rates_are_the_cards() -> None:
    def rates(name: str, *epochs: int) -> list[float]:
        protocol = shipped_protocol(name)
        assert protocol is not None
        return [protocol.lr(epoch) for epoch in epochs]

    # AT-BSL's code counts epochs from 1, and is one sooner.
    assert rates("robust-lt-100ep", 73, 74, 75, 89, 90) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    expected = [0.1, 0.01, 0.001, 1e-4, 1e-7, 1e-18]
    assert rates("robal-80ep-as-released", 59, 60, 61, 62, 65, 75) == pytest.approx(expected)
    assert rates("robal-80ep", 59, 60, 74, 75) == pytest.approx([0.1, 0.01, 0.01, 0.001])
    # 98 steps an epoch of 50,000 images: 10 epochs of warm-up, and two thirds of 39,062 steps behind them.
    assert rates("robust-400ep", 9, 10, 276, 277) == pytest.approx([0.09, 0.1, 0.1, 0.01])
    assert int(50_000 * 400 / 512) == 39_062
    assert 276 < 10 + 39_062 * 2 / 3 / (50_000 / 512) < 277


def test_what_an_override_leaves_out_of_an_adversary_is_the_methods_own() -> None:
    for name in METHODS:
        head = f"model.head={HEADS.get(name, 'linear')}"
        recipe = load_recipe("digits-lt/ce", [f"method={{name: {name}, attack: {{radius: 4}}}}", head])
        own = lookup("method", name).Config().attack
        assert recipe.method_choice().config.attack == own.model_copy(update={"radius": 4.0})


# --- what the methods have in common -------------------------------------------------------------------


def test_with_classes_of_one_size_the_long_tailed_losses_are_plain() -> None:
    labels = np.repeat(np.arange(3), 8)

    def loss(name: str, phases: Any = (), head: str = "linear", **settings: Any) -> float:
        method = build(name, phases, labels, **settings)
        found: Tensor = method.loss(tiny_network(head).train(), {"main": batch_of()}, step_at())
        return found.item()

    balanced = (phase(loss="balanced-softmax"),)
    assert loss("pgd-at", balanced) == pytest.approx(loss("pgd-at"), abs=1e-6)
    assert loss("reat") == loss("pgd-at")
    weights = build("reat", labels=labels).weights
    assert isinstance(weights, Tensor)
    torch.testing.assert_close(weights, torch.ones(3))
    attack = {"attack": {"radius": 8, "step": 2, "steps": 10, "start": "uniform"}}
    flat = loss("robal", head="cosine", scale=1, margin=0, prior_tau=0, margin_tau=0, beta=0, **attack)
    assert flat == pytest.approx(loss("pgd-at", head="cosine"), abs=1e-6)


@pytest.mark.parametrize("name", ["pgd-at", "trades"])
def test_an_adversary_of_radius_0_leaves_the_loss_of_the_recipe(name: str) -> None:
    batch, phases = batch_of(), (phase(loss="balanced-softmax"),)
    network = tiny_network().train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    found = build(name, phases, attack=STILL).loss(deepcopy(network), {"main": batch}, step_at())
    expected = BalancedSoftmax(ClassStats.of(LABELS, 3))(network(batch.images), batch.labels)
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)


def test_along_signs_the_weights_of_reat_change_nothing_and_by_adam_nearly_nothing() -> None:
    method, network = pair("reat")
    assert isinstance(method, REAT)
    batch, found = batch_of(), []
    for weights in ([1.0, 1, 1], [0.01, 1.0, 1.99]):
        method.weights = torch.tensor(weights)
        objective = method.objective(step_at(), network, batch)
        found.append(method.attacked(network, batch.images, objective, generator(0, "attack")))
    assert torch.equal(*found)


def test_reat_counts_what_was_predicted_on_perturbed_images() -> None:
    method, network = pair("reat")
    assert isinstance(method, REAT)
    before = method.weights.clone()
    torch.testing.assert_close(before, prediction_weights(torch.tensor([20, 6, 2]), torch.tensor([20, 6, 2])))
    for _ in range(2):
        method.loss(network, {"main": batch_of(size=6)}, step_at())
    predictions = method.predictions.clone()
    assert predictions.sum() == 12
    method.end_epoch(step_at().epoch, lambda images: images, lambda: iter(()))
    torch.testing.assert_close(method.weights, prediction_weights(torch.tensor([20, 6, 2]), predictions))
    assert not method.predictions.any()


@pytest.mark.parametrize("name", METHODS)
def test_the_adversary_leaves_network_and_global_randomness_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that moves the running statistics are the forward passes of the loss, as many as each method says."""
    method, network = pair(name)
    attack, noticed = type(method).attacked, []

    def watched(self: Any, net: Network, *rest: Any) -> Tensor:
        before, state = deepcopy(net.state_dict()), torch.get_rng_state()
        found = attack(self, net, *rest)
        noticed.extend(not torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
        assert method.config.attack.statistics == "batch" or torch.equal(torch.get_rng_state(), state)
        assert net.training
        return found

    monkeypatch.setattr(type(method), "attacked", watched)
    method.loss(network, {"main": batch_of()}, late(name))
    assert noticed and not any(noticed)
    moved = int(network.trunk[1].num_batches_tracked)  # type: ignore[index]
    assert moved == {"trades": 2, "robal": 2, "taet": 2}.get(name, 1)


@pytest.mark.parametrize("name", METHODS)
def test_the_same_step_has_the_same_adversary_and_another_seed_another(name: str) -> None:
    losses = []
    for seed in (0, 0, 1):
        method, network = pair(name)
        step = step_at(index=100, seed=seed)
        torch.manual_seed(0)  # of the dropout
        losses.append(method.loss(network, {"main": batch_of()}, step).item())
    assert losses[0] == losses[1] != losses[2]


def test_a_stronger_adversary_has_a_larger_loss() -> None:
    losses = [loss_of("pgd-at", batch_of(), attack={"radius": radius, "step": 2}) for radius in (0, 4, 16)]
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]


def test_taet_is_plain_cross_entropy_first() -> None:
    method, network = pair("taet")
    batch = batch_of()
    first, last = step_at(index=79, total=200), step_at(index=80, total=200)
    torch.manual_seed(0)
    expected = nn.functional.cross_entropy(deepcopy(network)(batch.images), batch.labels)
    torch.manual_seed(0)
    assert torch.equal(method.loss(deepcopy(network), {"main": batch}, first), expected)
    assert method.loss(network, {"main": batch}, last) != expected


def test_a_batch_shorter_than_its_parts_is_mixed() -> None:
    method, network = pair("trades-cutmix-wa")
    for size in (1, 2, 3, 5):
        if size > 1:  # one image has no batch statistics
            assert method.loss(network, {"main": batch_of(size=size)}, step_at()).isfinite()
        mixed = cutmix_by_parts(batch_of(size=size), 1.0, 4, generator(0, "cutmix"))
        assert len(mixed.images) == size


def test_adversarial_methods_say_so_and_the_board_knows_them() -> None:
    assert {name for name, method in members("method").items() if method.adversarial} == ADVERSARIAL == set(METHODS)  # type: ignore[attr-defined]


# --- what is refused, and what runs --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["method=pgd-at", "mix=mixup"], "mix: the method pgd-at brings its own mix"),
        (["method=robal", "loss=balanced-softmax", "model.head=cosine"], "loss: the method robal brings its own loss"),
        (["method=robal"], "model.head: the method robal needs cosine"),
        (["method=taet", "method.clean_share=1"], "taet would train on perturbed images in none of the epochs"),
        (["method=trades-cutmix-wa", "protocol.ema={decay: 0.9}"], "protocol.ema: the method trades-cutmix-wa"),
        (["method=pgd-at", "method.attack.radius=-1"], "method.attack.radius"),
        (["method=pgd-at", "method.attack.start=middle"], "method.attack.start"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_recipe("digits-lt/ce", overrides)


@pytest.mark.parametrize(
    ("loss", "settings", "head"), [("logit-adjustment", {"post_hoc": True}, "linear"), ("ldam", {}, "cosine")]
)
@pytest.mark.parametrize("name", ["pgd-at", "trades", "reat"])
def test_the_adversary_attacks_the_prediction_of_test_time(
    name: str, loss: str, settings: dict[str, Any], head: str
) -> None:
    """Also where a loss trains other logits than those, or the classifier gives cosines."""
    chosen = replace(phase(), loss=choice("loss", loss, **settings))
    method, network, batch, other = build(name, (chosen,)), tiny_network(head).eval(), batch_of(), batch_of(1).images
    assert isinstance(method, PGDAT)
    attacked: list[Objective] = []

    def attack(network: Network, images: Tensor, objective: Objective, rng: np.random.Generator) -> Tensor:
        attacked.append(objective)
        return images

    method.attacked = attack  # type: ignore[method-assign]
    method.loss(network, {"main": batch}, step_at())
    clean, seen = (method.scores(network, images) for images in (batch.images, other))
    expected = divergence(seen, clean.softmax(1)) if name == "trades" else cross_entropy(seen, batch.labels)
    weights = method.weights[batch.labels] if isinstance(method, REAT) else 1.0
    torch.testing.assert_close(attacked[0](other), weights * expected)
    assert not torch.allclose(clean, network(batch.images))


@pytest.mark.parametrize(
    ("method", "loss"), list(product(["pgd-at", "trades", "trades-cutmix-wa"], ["balanced-softmax", "focal", "lade"]))
)
def test_any_long_tailed_loss_can_be_trained_against_an_adversary(method: str, loss: str) -> None:
    found, network = build(method, (phase(loss=loss),)), tiny_network().train()
    found.attach(network)
    value = found.loss(network, {"main": batch_of()}, step_at())
    value.backward()
    assert value.isfinite()
