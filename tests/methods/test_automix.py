"""AutoMix and SAMix: who learns from what, the momentum network that is evaluated, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from method_cases import batch_of, build, choice, phase, step_at, tiny_network
from run_cases import (
    assert_same_result,
    at_epoch,
    once,
    only,
    options,
    record,
    refused,
    tiny,
    train,
    until_done,
    weights,
)
from torch import Tensor, nn

from lt_bench.data.types import Epoch, Step
from lt_bench.errors import UserError
from lt_bench.methods import Method
from lt_bench.mixing import Mixed
from lt_bench.mixing.automix import AutoMix
from lt_bench.mixing.mix_block import Pairing, adjusted
from lt_bench.mixing.momentum_mix import momentum_at, progress, with_classifier
from lt_bench.mixing.samix import SAMix
from lt_bench.models import Network, build_network
from lt_bench.registry import Phase
from lt_bench.tensor_files import read_tensors
from lt_bench.training.evaluate import evaluate_weights
from lt_bench.training.tryout import try_out
from lt_bench.training.weights import read_weights

NAMES = ["automix", "samix"]
ORDER = torch.tensor([1, 2, 3, 4, 5, 0])
HALF = Pairing(ORDER, 0.5)


def made(name: str = "automix", loss: str = "cross-entropy", head: str = "linear", **settings: Any) -> Any:
    """A method with the mix, the mix, and its network, in training."""
    parts = phase(loss=loss)
    method = build("standard", (Phase(200, parts.sampler, choice("mix", name, **settings), parts.loss),))
    network = tiny_network(head)
    method.attach(network)
    mix = next(part for part in method.modules() if isinstance(part, AutoMix))
    return method.train(), mix, network.train()


def loss_of(method: Method, network: Network, seed: int = 0) -> Tensor:
    return method.loss(network, {"main": batch_of(seed)}, step_at())


def learned(module: nn.Module) -> list[bool]:
    """Whether each parameter has a gradient other than 0."""
    return [parameter.grad is not None and bool(parameter.grad.any()) for parameter in module.parameters()]


# --- gradients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_all_learn_but_the_momentum_network(name: str) -> None:
    method, mix, network = made(name)
    loss_of(method, network).backward()
    assert all(learned(network))
    assert all(learned(mix.head_mix))
    assert any(learned(mix.block))
    for frozen in (mix.momentum_network, mix.momentum_head_mix):
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in frozen.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_block_learns_through_the_momentum_network_and_by_its_mean_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without these two terms it has no gradient: the masks that the network sees are constants."""
    method, mix, network = made(name, mask_weight=0.0)
    real = Pairing.mixed
    # The masks in the images are taken for constants.
    monkeypatch.setattr(
        Pairing, "mixed", lambda self, images, masks: real(self, images, torch.as_tensor(masks).detach())
    )
    loss_of(method, network).backward()
    assert not any(learned(mix.block))
    assert all(learned(network))


@pytest.mark.parametrize("name", NAMES)
def test_the_masks_that_the_network_sees_are_constants(name: str) -> None:
    _, mix, _ = made(name)
    images = batch_of().images
    pairings, step = (Pairing(ORDER, 0.4), Pairing(ORDER.flip(0), 0.3)), step_at()
    shown = mix.given_masks(mix.features(images), pairings, images.shape[-2:], step)
    assert shown.shape == (len(images), 1, *images.shape[-2:])
    assert not shown.requires_grad


def test_the_network_does_not_learn_by_what_the_block_learns_by() -> None:
    _, mix, network = made()
    features = mix.features(batch_of().images)
    assert not features.requires_grad
    mix.mask_loss(mix.block(features, HALF._replace(share=0.1), torch.Size((8, 8))), 0.1).backward()
    assert any(learned(mix.block))
    assert not any(learned(network))


# --- the loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "to_teach"), [("automix", 0.3), ("automix", 0.08), ("automix", 0.95), ("samix", 0.3)])
def test_a_step_is_the_card_s_sum(name: str, to_teach: float, monkeypatch: pytest.MonkeyPatch) -> None:
    method, mix, network = made(name)
    network.eval()
    method.eval()  # so that a forward leaves no trace
    for parameter in mix.block.parameters():
        nn.init.normal_(parameter)
    for parameter in (*mix.head_mix.parameters(), *mix.momentum_head_mix.parameters()):
        nn.init.normal_(parameter)
    other = Pairing(ORDER.flip(0), to_teach)
    learning = HALF._replace(share=0.9)
    monkeypatch.setattr(type(mix), "pairings", lambda *_: (learning, other))
    batch = batch_of()
    features, size = mix.momentum_network.trunk(batch.images), torch.Size((8, 8))
    masks, shown = mix.block(features, learning, size), mix.block(features, other, size)
    if not 0.08 < to_teach < 0.92:
        shown = 1 - to_teach
    images = batch.images
    ce = nn.functional.cross_entropy

    def mixed_ce(net: Network, head: nn.Module, pairing: Pairing, mask: Any) -> Tensor:
        x = images * (1 - mask) + images[pairing.order] * mask
        logits = head(net.branches[0].features(net.trunk(x)))
        first, second = ce(logits, batch.labels), ce(logits, batch.labels[pairing.order])
        return pairing.share * first + (1 - pairing.share) * second

    missed = max(abs(1 - float(masks.detach().mean()) - 0.9) - 0.1, 0) - 2 * float(masks.detach().var(correction=0)) * (
        name == "samix"
    )
    expected = (
        ce(network(images), batch.labels)
        + mixed_ce(network, mix.head_mix, other, shown)
        + mixed_ce(mix.momentum_network, mix.momentum_head_mix, learning, masks)
        + 0.1 * missed
    )
    torch.testing.assert_close(method.loss(network, {"main": batch}, step_at()), expected)


def test_shares_and_partners_are_drawn_twice() -> None:
    mix = AutoMix([20, 6, 2])
    step, batch = step_at(), batch_of(size=64)
    (first, share), (second, other) = mix.pairings(batch, step)
    assert share != other
    assert not torch.equal(first, second)
    for order in (first, second):
        assert sorted(order.tolist()) == list(range(64))
    shares = np.array([pairing.share for _ in range(2000) for pairing in mix.pairings(batch, step)])
    assert shares.var() == pytest.approx(0.05, abs=0.003)  # of Beta(2, 2)
    assert abs(np.corrcoef(shares[::2], shares[1::2])[0, 1]) < 0.08


@pytest.mark.parametrize("which", ["own", "other"])
def test_samix_adjusts_the_masks_that_the_network_sees(which: str) -> None:
    _, mix, _ = made("samix", adjust=1.0, adjust_with=which)
    plain, drawn = SAMix([20, 6, 2]), (Pairing(ORDER, 0.7), Pairing(ORDER.flip(0), 0.4))
    plain.block = mix.block.eval()
    features, size = mix.features(batch_of().images), torch.Size((8, 8))
    found, before = (one.given_masks(features, drawn, size, step_at()) for one in (mix, plain))
    share = {"own": 0.4, "other": 0.7}[which]
    torch.testing.assert_close(found, adjusted(before, share))
    torch.testing.assert_close(found.mean((1, 2, 3)), torch.full((6,), 1 - share))


def test_samix_adjusts_as_often_as_it_says() -> None:
    _, mix, _ = made("samix", adjust=0.25)
    mix.block.eval()
    features, step = mix.features(batch_of().images), step_at()
    found = [mix.given_masks(features, (HALF, HALF._replace(share=0.3)), torch.Size((8, 8)), step) for _ in range(400)]
    moved = np.mean([abs(float(masks.detach().mean()) - 0.7) < 1e-5 for masks in found])
    assert moved == pytest.approx(0.25, abs=0.07)


def test_the_masks_weight_may_fall_to_nothing() -> None:
    def weights_at(**settings: Any) -> list[float]:
        mix = AutoMix([20, 6, 2], **settings)
        return [mix.mask_weight(Step(Epoch(index, 200, 0), 0, 4, np.random.default_rng(0))) for index in (0, 50, 100)]

    assert weights_at() == [0.1] * 3
    assert weights_at(mask_schedule="cosine") == pytest.approx([0.1, 0.0853553, 0.05])


@pytest.mark.parametrize("loss", ["cross-entropy", "balanced-softmax", "ib"])
@pytest.mark.parametrize("name", NAMES)
def test_any_loss_can_be_trained_with(name: str, loss: str) -> None:
    method, _, network = made(name, loss)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_of(method, network)
    found.backward()
    assert found.dtype == torch.float32
    assert found.isfinite()
    assert all(learned(network))


def test_a_loss_of_cosines_can_be_trained_with() -> None:
    method, mix, network = made(loss="ldam", head="cosine")
    loss_of(method, network).backward()
    assert all(learned(mix.head_mix))


# --- the momentum network ----------------------------------------------------------------------------


def test_it_follows_after_each_step_by_the_momentum_of_that_step() -> None:
    method, mix, network = made(momentum=0.75, momentum_end=0.5)
    before = [p.clone() for p in (*mix.momentum_network.parameters(), *mix.momentum_head_mix.parameters())]
    with torch.no_grad():
        for parameter in (*network.parameters(), *mix.head_mix.parameters()):
            parameter.add_(4.0)
    first, late = step_at(10), step_at(150)
    assert (progress(first), progress(late)) == (0.05, 0.75)
    for step, expected in ((first, 1.0), (late, 1 + 3 * (1 - momentum_at(0.75, 0.75, 0.5)))):
        method.after_step(network, step)
        now = (*mix.momentum_network.parameters(), *mix.momentum_head_mix.parameters())
        for old, new in zip(before, now, strict=True):
            torch.testing.assert_close(new - old, torch.full_like(old, expected), atol=1e-5, rtol=0)


def test_it_keeps_batch_statistics_of_its_own() -> None:
    method, mix, network = made()
    start = {name: b.clone() for name, b in network.named_buffers() if name.endswith("running_mean")}
    loss_of(method, network)
    method.after_step(network, step_at())
    own, trained = dict(mix.momentum_network.named_buffers()), dict(network.named_buffers())
    for name, first in start.items():
        assert not torch.equal(own[name], first)
        assert not torch.equal(own[name], trained[name])
    # Clean and mixed images, in every stage.
    assert {int(b) for name, b in own.items() if name.endswith("num_batches_tracked")} == {2}


def test_a_classifier_is_exchanged_for_another() -> None:
    _, mix, network = made()
    images = batch_of().images
    nn.init.normal_(mix.head_mix.weight)
    other = with_classifier(network.eval(), mix.head_mix)
    _, logits = other.features_and_logits(images)
    torch.testing.assert_close(logits, mix.head_mix(network.features_and_logits(images)[0]))
    torch.testing.assert_close(logits, other(images))
    assert not torch.equal(logits, network(images))


def test_before_it_is_attached_it_mixes_as_mixup_does() -> None:
    mixed = AutoMix([20, 6, 2])(batch_of(), None, step_at())
    assert isinstance(mixed, Mixed)
    assert len(mixed.terms) == 2


# --- runs --------------------------------------------------------------------------------------------

run = pytest.mark.usefixtures("working_folder", "tiny_backbone")


@run
@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_run_goes_on_bitwise(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny(name, "mix.momentum=0.7", *["mix.adjust=0.5"] * (name == "samix"))
    train(recipe, tmp_path / "whole")
    at_epoch(monkeypatch, before=once(3), after=once(1, 4))
    assert until_done(recipe, tmp_path / "cut") == 3
    assert_same_result(tmp_path / "cut", tmp_path / "whole")


@run
def test_the_momentum_network_is_evaluated_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[Any] = []
    real = AutoMix.after_step

    def after_step(self: AutoMix, network: Network, step: Step) -> None:
        real(self, network, step)
        states.append((self, network))

    monkeypatch.setattr(AutoMix, "after_step", after_step)
    train(tiny("automix", "mix.momentum=0.7"), tmp_path)
    assert len(states) == 20
    mix, network = states[-1]
    saved = weights(tmp_path)
    assert all(torch.equal(value, saved[name]) for name, value in mix.momentum_network.state_dict().items())
    assert not torch.equal(network.classifiers[0].weight, saved["branches.0.classifier.weight"])
    path = only(tmp_path, "weights.safetensors")
    assert all(torch.equal(value, mix.kept[name]) for name, value in diagnosed(tmp_path).items())
    found = evaluate_weights(path, options(tmp_path)).summary
    assert tuple(found["correct"]) == record(tmp_path).selections["last"].correct


def diagnosed(folder: Path) -> Mapping[str, Tensor]:
    """The pairs of the last step, which alone is kept."""
    tensors, about = read_tensors(only(folder / "runs", "epoch-*.safetensors"))
    assert about["epoch"] == "5"
    assert tensors["masks"].shape == (8, 1, 32, 32)
    assert (tensors["images"] != tensors["partners"]).any()
    assert 0 < float(tensors["share"]) < 1
    return tensors


@run
def test_accumulated_steps_are_followed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr(AutoMix, "after_step", lambda self, network, step: steps.append(step.index))
    train(
        tiny("automix", "protocol.accumulate=2", "protocol.epochs=2", "protocol.schedule={warmup_epochs: 0}"), tmp_path
    )
    assert steps == [1, 3, 1, 3]


@run
def test_a_second_stage_starts_from_it(tmp_path: Path) -> None:
    recipe = tiny("crt", "mix.name=automix", "mix.momentum=0.7", "second_stage.mix.name=none")
    train(recipe, tmp_path)
    first, second = (read_weights(path).tensors["trunk.0.weight"] for path in tmp_path.rglob("weights.safetensors"))
    assert torch.equal(first, second)
    assert len(try_out(recipe, 0, options(tmp_path / "tried"))) == 2


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_several_branches_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"^mix: {name} needs a head of one branch, such as linear or cosine$"):
        made(name, head="dual-branch")


def test_a_backbone_that_is_not_cut_is_refused() -> None:
    mix, network = AutoMix([20, 6, 2]), tiny_network()
    network.trunk = nn.Sequential()
    with pytest.raises(UserError, match=r"^mix: masks need a last stage of convolutions"):
        mix.attach(network)
    with pytest.raises(UserError, match=r"^mix: masks need a last stage of convolutions"):
        mix.attach(build_network("vit-tiny", "linear", 3))


@run
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.head=dual-branch"], "mix: automix needs a head of one branch, such as linear or cosine, found dual-b"),
        (["protocol.ema.decay=0.9"], "protocol.ema: automix evaluates an average of its own, set by mix.momentum"),
        (
            ["phases=[{until: 50%, mix: none}, {until: 100%}]"],
            "mix: automix evaluates a network of its own, so it has to be the mi",
        ),
    ],
)
def test_recipes_that_make_no_sense(overrides: list[str], said: str, lt_bench: Callable[..., Any]) -> None:
    refused(lt_bench("validate", "digits-lt/automix", *overrides), said)


@pytest.mark.parametrize(
    "fields",
    [{"alpha": 0}, {"lambda_margin": 0.5}, {"momentum": 1}, {"momentum_end": 1.1}, {"mask_schedule": "linear"}],
)
def test_settings_out_of_range(fields: dict[str, Any]) -> None:
    for component in (AutoMix, SAMix):
        with pytest.raises(UserError):
            component([20, 6, 2], **fields)


@pytest.mark.parametrize("fields", [{"k": -1}, {"adjust": 2}, {"value_dropout": 1}, {"lambda_concat": True}])
def test_samix_settings_out_of_range(fields: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        SAMix([20, 6, 2], **fields)
