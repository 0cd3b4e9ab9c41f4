"""Projected gradient ascent: where it may go, where it has to end, and what it leaves as it was."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lt_bench.adversary import Attack
from lt_bench.adversary.ascent import Ball, perturb, steepest
from lt_bench.adversary.objectives import cross_entropy, divergence, divergence_from, margin
from lt_bench.data.augment import AS_PIXELS, Normalisation
from lt_bench.data.types import generator
from lt_bench.models import build_network
from lt_bench.models.backbones.cifar_resnet import ResNet8
from lt_bench.models.heads.linear import Linear
from lt_bench.models.modes import evaluating, looking, still_statistics
from lt_bench.models.norm import fuse
from lt_bench.native import NoCompilerError

CIFAR = Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
ADAM = {"ascent": "adam", "step": 25.5, "later_steps": ((5, 2.55),), "statistics": "batch"}
"""That of Rebuffi et al.: 0.1, then 0.01 from the sixth step on."""


def pixels(seed: int = 0, size: int = 4, side: int = 8) -> Tensor:
    """Some of them black or white."""
    drawn = torch.rand(size, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return (1.5 * drawn - 0.25).clamp(0, 1)


def normalised(images: Tensor, by: Normalisation) -> Tensor:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in by)
    return (images - mean) / std


def unnormalised(images: Tensor, by: Normalisation) -> Tensor:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in by)
    return images * std + mean


def curved(images: Tensor) -> Tensor:
    """An objective whose gradient is another everywhere."""
    return (images.sin() * torch.arange(1, images[0].numel() + 1).view_as(images[0])).flatten(1).sum(1)


def attacked(images: Tensor, by: Normalisation = CIFAR, seed: int = 0, **said: Any) -> Tensor:
    return perturb(curved, images, by, Attack(**said), generator(seed, "attack"))


@settings(max_examples=40, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    radius=st.floats(0, 300),
    step=st.floats(0.01, 300),
    steps=st.integers(0, 4),
    ascent=st.sampled_from(["steepest", "adam"]),
    start=st.sampled_from(["uniform", "normal", "one-sided", "image"]),
    by=st.sampled_from([CIFAR, AS_PIXELS]),
    seed=st.integers(0, 5),
)
def test_nothing_leaves_the_ball_or_the_box(by: Normalisation, seed: int, **said: Any) -> None:
    images = pixels(seed)
    found = unnormalised(attacked(normalised(images, by), by, seed, **said), by)
    assert -1e-6 <= found.min() <= found.max() <= 1 + 1e-6
    change, radius = (found - images).flatten(1), said["radius"] / 255
    size = change.abs().amax(1) if said["norm"] == "linf" else change.norm(dim=1)
    assert size.max() <= radius + 1e-5


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("ascent", ["steepest", "adam"])
def test_a_radius_of_0_gives_the_images_back_bit_for_bit(norm: str, ascent: str) -> None:
    images = normalised(pixels(), CIFAR)
    assert torch.equal(attacked(images, norm=norm, radius=0, ascent=ascent), images)


def test_a_pixel_outside_the_box_only_comes_nearer() -> None:
    images = pixels() + torch.tensor([0.5, -0.5, 0.0]).view(-1, 1, 1)
    found = attacked(images, AS_PIXELS, radius=255.0, step=100.0)
    assert ((found - images)[images > 1] <= 0).all()
    assert ((found - images)[images < 0] >= 0).all()


@pytest.mark.parametrize("start", ["uniform", "normal", "one-sided"])
def test_the_start_is_the_seeds_and_as_far_as_it_says(start: str) -> None:
    images = torch.full((8, 3, 8, 8), 0.5)
    one, again, other = (attacked(images, AS_PIXELS, seed, start=start, steps=0) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    change = 255 * (one - images)
    low, high = {"uniform": (-8, 8), "normal": (-1.3, 1.3), "one-sided": (0, 8)}[start]
    assert low <= change.min() < 0.7 * low + 0.3 * high
    assert 0.3 * low + 0.7 * high < change.max() <= high
    if start == "normal":
        assert change.std() == pytest.approx(0.255, rel=0.05)


def test_torchs_own_randomness_is_left_alone() -> None:
    state = torch.get_rng_state()
    attacked(normalised(pixels(), CIFAR))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_worst_margin_of_a_linear_model_is_reached_in_one_step() -> None:
    # Card: w = (1, -2, 0.5), eps 8/255 and no box: the score falls by eps * |w|_1 = 0.109804.
    weight = torch.tensor([1.0, -2.0, 0.5])
    images = torch.full((1, 3, 1, 1), 0.5)

    def score(given: Tensor) -> Tensor:
        return given.flatten(1) @ weight

    attack = Attack(step=8, steps=1, start="image")
    found = perturb(lambda given: -score(given), images, AS_PIXELS, attack, generator(0, "attack"))
    assert (score(images) - score(found)).item() == pytest.approx(0.109804, abs=1e-6)
    # Under l2 by eps * |w|_2, where w acts on pixels by way of a normalisation.
    attack, given = Attack(norm="l2", radius=64, step=64, steps=1, start="image"), normalised(images, CIFAR)
    found = perturb(lambda given: -score(given), given, CIFAR, attack, generator(0, "attack"))
    drop, slope = score(given) - score(found), (weight / torch.tensor(CIFAR.std)).norm()
    assert drop.item() == pytest.approx(64 / 255 * slope.item(), rel=1e-5)


def test_after_a_step_of_adam_every_pixel_is_at_the_edge() -> None:
    images = torch.full((4, 3, 8, 8), 0.5)
    found = attacked(images, AS_PIXELS, **(ADAM | {"steps": 1}))
    torch.testing.assert_close((found - images).abs(), torch.full_like(images, 8 / 255))


def test_steps_are_as_long_as_said() -> None:
    attack = Attack(**ADAM)
    assert [round(attack.step_at(index), 9) for index in (0, 4, 5, 9)] == [0.1, 0.1, 0.01, 0.01]
    long = Attack(step=25.5, later_steps=((20, 2.55), (30, 0.0255)), steps=40)
    assert [round(long.step_at(index), 9) for index in (19, 20, 29, 30, 39)] == [0.1, 0.01, 0.01, 0.0001, 0.0001]


def test_the_steepest_change_has_length_1() -> None:
    gradient = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert set(steepest(gradient, Attack()).unique().tolist()) == {-1.0, 1.0}
    lengths = steepest(gradient, Attack(norm="l2")).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(5))


def test_a_change_is_projected_to_the_nearest_inside() -> None:
    images = torch.tensor([[0.1], [0.5], [0.9]]).view(1, 3, 1, 1)
    ball = Ball.around(images, AS_PIXELS, Attack(radius=51.0))  # 0.2
    change = torch.tensor([-0.3, 0.1, 0.3]).view(1, 3, 1, 1)
    torch.testing.assert_close(ball.projected(change).flatten(), torch.tensor([-0.1, 0.1, 0.1]))
    ball = Ball.around(images, AS_PIXELS, Attack(norm="l2", radius=127.5))  # 0.5
    change = torch.tensor([0.0, 0.6, 0.8]).view(1, 3, 1, 1)
    torch.testing.assert_close(ball.projected(change).flatten(), torch.tensor([0.0, 0.3, 0.1]))


# --- objectives ----------------------------------------------------------------------------------------


def test_objectives_by_hand() -> None:
    logits, labels = torch.tensor([[2.0, 0, 0], [0, 1, 0], [3, 1, 2]]), torch.tensor([0, 0, 1])
    ce = torch.tensor([0.239545, 1.551445])
    torch.testing.assert_close(cross_entropy(logits, labels)[:2], ce, atol=1e-6, rtol=0)
    torch.testing.assert_close(margin(logits, labels), torch.tensor([-2.0, 1, 2]))
    target = logits[:1].softmax(1)
    assert divergence(logits[1:2], target).item() == pytest.approx(0.779365, abs=1e-6)
    assert divergence(logits[:1], target).item() == pytest.approx(0, abs=1e-7)
    torch.testing.assert_close(divergence_from(logits[:1], logits), divergence(logits, target))
    hard = nn.functional.one_hot(labels, 3).float()
    torch.testing.assert_close(divergence(logits, hard), cross_entropy(logits, labels))


def test_a_probability_that_is_no_more_than_0_has_a_gradient() -> None:
    reference = torch.tensor([[300.0, 0, 0], [2, 0, 1]], requires_grad=True)
    logits = torch.tensor([[0.0, 200, 0], [0, 1, 0]], requires_grad=True)
    divergence_from(reference, logits).sum().backward()
    log_p, log_q = reference.detach().double().log_softmax(1), logits.detach().double().log_softmax(1)
    p, gap = log_p.exp(), log_p - log_q
    by_hand = p * (gap - (p * gap).sum(1, keepdim=True))
    assert reference.grad is not None
    assert logits.grad is not None
    torch.testing.assert_close(reference.grad.double(), by_hand, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits.grad.double(), log_q.exp() - p, atol=1e-5, rtol=1e-5)


# --- what is attacked ----------------------------------------------------------------------------------


@pytest.mark.parametrize("statistics", ["running", "batch"])
@pytest.mark.parametrize("kernels", [False, True])
def test_a_network_does_not_notice(statistics: Any, kernels: bool) -> None:
    network = build_network(ResNet8, Linear(), 10, 0).to(memory_format=torch.channels_last)
    if kernels:
        try:
            fuse(network)
        except NoCompilerError as error:
            pytest.skip(f"the kernels cannot be compiled here: {error}")
    images = normalised(pixels(size=8, side=32), CIFAR)
    network(images)  # statistics that are not the fresh ones
    network.branches[0].eval()  # nor all of one mode
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    labels = torch.arange(8)
    with looking(network, statistics):
        found = perturb(
            lambda given: cross_entropy(network(given), labels), images, CIFAR, Attack(steps=2), generator(0, "attack")
        )
    assert not torch.equal(found, images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(layer.momentum == 0.1 for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))


def test_batch_statistics_are_those_of_training_and_running_ones_those_of_evaluation() -> None:
    network = build_network(ResNet8, Linear(), 10, 0)
    images = normalised(pixels(size=8, side=32), CIFAR)
    with torch.no_grad():
        with looking(network, "batch"):
            by_batch = network(images)
        with looking(network, "running"):
            by_running = network(images)
        assert torch.equal(by_batch, network(images))
    assert not torch.equal(by_batch, by_running)
    fresh = build_network(ResNet8, Linear(), 10, 0).eval()
    with torch.no_grad():
        assert torch.equal(by_running, fresh(images))


def test_a_graph_that_saw_still_statistics_runs_backwards_after_others_moved() -> None:
    layer = nn.BatchNorm2d(3)
    images = pixels()
    with still_statistics(layer):
        seen = layer(images)
    layer(2 * images)
    seen.sum().backward()
    assert layer.weight.grad is not None


def test_the_mode_comes_back_after_an_error() -> None:
    layer = nn.BatchNorm2d(3)
    for context in (evaluating(layer), still_statistics(layer)):
        with pytest.raises(RuntimeError), context:
            layer(torch.zeros(2, 4, 1, 1))  # four channels
        assert layer.training
        assert layer.momentum == 0.1


def test_more_steps_of_a_small_length_find_no_smaller_objective() -> None:
    """On a linear objective, whose worst point every longer ascent comes nearer."""
    images = torch.full((4, 3, 4, 4), 0.5)
    weights = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))

    def objective(given: Tensor) -> Tensor:
        return (given * weights).flatten(1).sum(1)

    values = [
        objective(perturb(objective, images, AS_PIXELS, Attack(step=1, steps=steps), generator(0, "attack")))
        for steps in (0, 1, 4, 16)
    ]
    assert all((later >= earlier).all() for earlier, later in pairwise(values))
    torch.testing.assert_close(values[-1], objective(images) + 8 / 255 * weights.abs().sum())
