"""AdAutoMix: masks for n images, and a generator that learns against the classifier in every second step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from method_cases import batch_of, build, choice, phase, tiny_network
from run_cases import assert_same_result, at_epoch, once, tiny, train, until_done
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.data.types import Epoch, Step
from lt_bench.mixing.adautomix import AdaptiveMask, AdAutoMix, Blend
from lt_bench.registry import Phase

ORDERS = (torch.tensor([1, 2, 3, 4, 5, 0]), torch.tensor([2, 0, 1, 5, 3, 4]), torch.tensor([0, 1, 2, 3, 4, 5]))
SHARES = (0.5, 0.3, 0.2)


def made(**settings: Any) -> Any:
    """A method with the mix, the mix, and its network, in training."""
    parts = phase()
    method = build("standard", (Phase(200, parts.sampler, choice("mix", "adautomix", **settings), parts.loss),))
    network = tiny_network()
    method.attach(network)
    mix = next(part for part in method.modules() if isinstance(part, AdAutoMix))
    return method.train(), mix, network.train()


def step_at(index: int = 0) -> Step:
    torch.manual_seed(0)
    epoch = Epoch(10, 200, 0)
    return Step(epoch, index, 5, epoch.rng("method"))


def learned(module: nn.Module) -> list[bool]:
    return [parameter.grad is not None and bool(parameter.grad.any()) for parameter in module.parameters()]


# --- masks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "large", "count"), [(256, False, 66_049), (1024, True, 1_052_674)])
def test_the_generator_has_the_published_size(channels: int, large: bool, count: int) -> None:
    block = AdaptiveMask(channels, concat=large, normalised=large)
    assert sum(parameter.numel() for parameter in block.parameters()) == count


def test_masks_of_a_generator_without_weights_are_alike() -> None:
    block = AdaptiveMask(4)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    masks = block(torch.randn(6, 4, 2, 2), Blend(ORDERS, SHARES), (8, 8))
    torch.testing.assert_close(masks, torch.full((6, 3, 8, 8), 1 / 3))


@pytest.mark.parametrize("count", [2, 3])
def test_masks_sum_to_one_and_know_no_order(count: int) -> None:
    block, features = AdaptiveMask(4), torch.randn(6, 4, 2, 2)
    blend = Blend(ORDERS[:count], SHARES[:count])
    masks = block(features, blend, (8, 8))
    torch.testing.assert_close(masks.sum(1), torch.ones(6, 8, 8))
    turned = block(features, Blend(blend.orders[::-1], blend.shares[::-1]), (8, 8))
    torch.testing.assert_close(turned, masks.flip(1))


def test_the_masks_of_the_card() -> None:
    """hw = 2, d = 1: features are (q, k, v) of each place, and the convolutions pick them out."""
    block = AdaptiveMask(3)
    for index, layer in enumerate((block.query, block.key, block.value)):
        conv = layer if isinstance(layer, nn.Conv2d) else layer[0]
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
        with torch.no_grad():
            conv.weight[0, index] = 1.0
    features = torch.tensor([[[1.0, 0.0], [1.0, 2.0], [1.0, -1.0]], [[0.0, 1.0], [2.0, 0.0], [0.0, 2.0]]])[:, :, None]
    blend = Blend((torch.tensor([0, 1]), torch.tensor([1, 0])), (0.5, 0.5))
    masks = block(features, blend, (1, 2))
    torch.testing.assert_close(masks[0, 0, 0], torch.tensor([0.4406792, 0.1881437]), atol=1e-6, rtol=0)


# --- what is drawn -----------------------------------------------------------------------------------


def test_three_images_have_the_shares_of_one_draw_on_both_sides() -> None:
    mix, step, batch = AdAutoMix([20, 6, 2]), step_at(), batch_of(size=32)
    first, second = mix.blends(batch, step)
    assert first.shares == second.shares
    assert sum(first.shares) == pytest.approx(1)
    orders = [order.tolist() for order in (*first.orders, *second.orders)]
    assert all(sorted(order) == list(range(32)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    assert list(range(32)) not in orders
    shares = np.array([mix.blends(batch_of(size=2), step)[0].shares for _ in range(4000)])
    assert shares.max(1).mean() == pytest.approx(0.5233, abs=0.006)
    assert (shares[:, 0] <= 0.03).mean() == pytest.approx(0.031, abs=0.009)


def test_two_images_have_shares_of_their_own_on_each_side() -> None:
    mix, step, batch = AdAutoMix([20, 6, 2], samples=2), step_at(), batch_of(size=32)
    first, second = mix.blends(batch, step)
    assert first.shares != second.shares
    for blend in (first, second):
        assert blend.shares[1] == pytest.approx(1 - blend.shares[0])
        assert blend.orders[0].tolist() == list(range(32))
        assert blend.orders[1].tolist() != list(range(32))
    shares = np.array([one.shares[0] for _ in range(2000) for one in mix.blends(batch_of(size=2), step)])
    assert ((shares <= 0.03) | (shares >= 0.97)).mean() == pytest.approx(0.06, abs=0.012)


@pytest.mark.parametrize(("share", "learnt"), [(0.03, False), (0.0301, True), (0.96, True), (0.975, False)])
def test_near_the_ends_the_network_sees_constant_masks(share: float, learnt: bool) -> None:
    _, mix, _ = made(samples=2)
    features = mix.features(batch_of().images)
    assert (mix.given_masks(features, Blend(ORDERS[:2], (share, 1 - share)), (8, 8)) is not None) == learnt


# --- the loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "index", "guard"), [(3, 0, "apart"), (3, 1, "apart"), (2, 0, "apart"), (3, 0, "alike")]
)
def test_a_step_is_the_card_s_sum(samples: int, index: int, guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, mix, network = made(samples=samples, guard=guard, beta=0.3, plain=0.25)
    method.eval()
    network.eval()  # so that a forward leaves no trace
    for layer in (mix.block, mix.head_mix, mix.momentum_head_mix):
        for parameter in layer.parameters():
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    shares = SHARES if samples == 3 else (0.7, 0.3)
    learning, teaching = Blend(ORDERS[:samples], shares), Blend(ORDERS[::-1][:samples], shares)
    monkeypatch.setattr(AdAutoMix, "blends", lambda *_: (learning, teaching))
    batch = batch_of()
    features, images, ce = mix.momentum_network.trunk(batch.images), batch.images, F.cross_entropy

    def logits(net: Any, head: Any, x: Tensor) -> Tensor:
        found: Tensor = head(net.branches[0].features(net.trunk(x)))
        return found

    def by(blend: Blend, masks: Any) -> Tensor:
        return sum((masks[:, i : i + 1] * images[order] for i, order in enumerate(blend.orders)), torch.zeros(()))

    def mixed_ce(found: Tensor, blend: Blend) -> Tensor:
        terms = zip(blend.orders, blend.shares, strict=True)
        return sum((share * ce(found, batch.labels[order]) for order, share in terms), torch.zeros(()))

    k, q = (mix.momentum_network, mix.momentum_head_mix), (network, mix.head_mix)
    learnt = logits(*k, by(learning, mix.block(features, learning, (8, 8))))
    likeness = sum(
        share * F.cosine_similarity(learnt, logits(*k, images[order])).mean()
        for order, share in zip(learning.orders, shares, strict=True)
    )
    sign = {"apart": 1, "alike": -1}[guard]
    by_generator = mixed_ce(learnt, learning)
    if index == 0:
        by_generator = -0.3 * by_generator + sign * 0.7 * likeness
    expected = by_generator + mixed_ce(logits(*q, by(teaching, mix.block(features, teaching, (8, 8)))), teaching)
    clean = ce(network(images), batch.labels)
    constant = torch.tensor(shares).view(1, -1, 1, 1).expand(6, -1, 8, 8)
    plain = mixed_ce(logits(*q, by(teaching, constant)), teaching) if samples == 3 else torch.zeros(())
    expected = expected + (0.75 * clean + 0.25 * plain if samples == 3 else clean)
    torch.testing.assert_close(method.loss(network, {"main": batch}, step_at(index)), expected)


@pytest.mark.parametrize(("beta", "index", "expected"), [(0.3, 0, -0.18), (0.1, 0, 0.34), (0.3, 1, 2.0)])
def test_the_generator_s_loss_of_the_card(beta: float, index: int, expected: float) -> None:
    """Cross entropy 2 and a likeness of 0.6, in an even and an odd step."""
    mix = AdAutoMix([20, 6, 2], beta=beta)

    class Answers:
        """Logits of the mixture at a cosine of 0.6 to those of each clean image."""

        def answer(self, images: Tensor) -> Any:
            other = images.requires_grad
            logits = torch.tensor([[0.6, 0.8, 0.0]] if other else [[1.0, 0.0, 0.0]]).expand(6, 3)
            return type("Answer", (), {"prediction": logits})

        def loss(self, answer: Any, terms: Any) -> Tensor:
            return torch.tensor(2.0)

    masks = torch.full((6, 3, 8, 8), 1 / 3, requires_grad=True)
    found = mix.generator_loss(Answers(), batch_of(), Blend(ORDERS, SHARES), masks, step_at(index))  # type: ignore[arg-type]
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_all_learn_but_the_momentum_network() -> None:
    method, mix, network = made()
    method.loss(network, {"main": batch_of()}, step_at()).backward()
    assert all(learned(network))
    assert all(learned(mix.head_mix))
    assert any(learned(mix.block))
    for frozen in (mix.momentum_network, mix.momentum_head_mix):
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in frozen.parameters())


@pytest.mark.parametrize(("samples", "forwards"), [(3, 5), (2, 4)])
def test_the_momentum_network_sees_a_step_s_images_so_often(samples: int, forwards: int) -> None:
    method, mix, network = made(samples=samples)
    method.loss(network, {"main": batch_of()}, step_at())
    counts = {int(b) for name, b in mix.momentum_network.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {forwards}


@pytest.mark.usefixtures("working_folder", "tiny_backbone")
def test_an_interrupted_run_goes_on_bitwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even and odd steps too: they count from the start of the training."""
    recipe = tiny("adautomix", "mix.momentum=0.7")
    train(recipe, tmp_path / "whole")
    at_epoch(monkeypatch, before=once(3), after=once(1, 4))
    assert until_done(recipe, tmp_path / "cut") == 3
    assert_same_result(tmp_path / "cut", tmp_path / "whole")
