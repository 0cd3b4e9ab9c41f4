"""Optimizers: what they learn with which weight decay, the step that each takes, and over which images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from run_cases import STRANGER, TINY, assert_same_result, at_epoch, once, options, record, tiny, train, until_done
from torch import nn

from lt_bench.data.opening import open_split
from lt_bench.data.types import Epoch
from lt_bench.models import build_network
from lt_bench.models.heads.linear import Linear
from lt_bench.protocol import Protocol
from lt_bench.recipe import load_recipe
from lt_bench.registry import lookup
from lt_bench.training.loop import Job, repeated, shares_of_batches, train_epoch
from lt_bench.training.optimizers import build_optimizer, norms_and_biases
from lt_bench.training.run import build_job, initial_state
from lt_bench.training.tryout import try_out

runs = pytest.mark.usefixtures("working_folder", "tiny_backbone")

ADAMW = "protocol.optimizer={name: adamw, lr: 1e-2, weight_decay: 0.05, decay_norms_and_biases: false}"
LAMB = "protocol.optimizer={name: lamb, lr: 2e-2, weight_decay: 0.02}"


def job(module: nn.Module, **protocol: Any) -> Any:
    """As much of a job as an optimizer looks at; every parameter has its `lr_factor`, else 1, on the rate."""
    rates = {parameter: getattr(parameter, "lr_factor", 1.0) for parameter in module.parameters()}
    module.rates = lambda: rates  # type: ignore[assignment]
    settings = Protocol.read({"name": "p", "epochs": 3, **protocol})
    return SimpleNamespace(network=module, method=nn.Module(), protocol=settings)


# --- weight decay ------------------------------------------------------------------------------------


class Transformer(nn.Module):
    """One block behind an embedding of positions, which it spares weight decay as timm's networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, 4, 8))
        self.scale = nn.Parameter(torch.ones(()))
        self.block = nn.TransformerEncoderLayer(8, 2, 16)

    def no_weight_decay(self) -> set[str]:
        return {"positions", "token"}


def names(module: nn.Module, group: dict[str, Any]) -> set[str]:
    of = {parameter: name for name, parameter in module.named_parameters()}
    return {of[parameter] for parameter in group["params"]}


def test_what_weight_decay_may_spare_of_a_convolutional_network() -> None:
    network = build_network(lookup("backbone", "resnet8"), Linear(), 10, 0)
    found = job(network, optimizer={"decay_norms_and_biases": False, "weight_decay": 0.5})
    decayed, spared = build_optimizer(found).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0.0)
    assert len(decayed["params"]) == 7 + 1  # convolutions and the linear layer
    assert len(spared["params"]) == 2 * 7 + 1  # weights and biases of the norms, the linear layer's bias
    (all_of_them,) = build_optimizer(job(network)).param_groups
    assert all_of_them["params"] == list(network.parameters())


def test_what_weight_decay_may_spare_of_a_transformer() -> None:
    module = nn.Sequential(Transformer())  # not the whole network, as where it is a trunk
    found = job(module, optimizer={"name": "adamw", "decay_norms_and_biases": False})
    spared, decayed = build_optimizer(found).param_groups
    weights = {f"0.block.{name}.weight" for name in ("self_attn.out_proj", "linear1", "linear2")}
    assert names(module, decayed) == {"0.block.self_attn.in_proj_weight", *weights}
    assert names(module, spared) >= {"0.positions", "0.scale", "0.block.norm1.weight", "0.block.linear1.bias"}
    assert len(decayed["params"]) + len(spared["params"]) == len(list(module.parameters()))


def test_what_is_spared_is_what_timm_spares() -> None:
    from timm.models.vision_transformer import VisionTransformer
    from timm.optim import param_groups_weight_decay

    network = VisionTransformer(img_size=16, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=3)
    spared, _ = param_groups_weight_decay(network, 0.05, no_weight_decay_list=network.no_weight_decay())
    assert norms_and_biases(network) == set(spared["params"])


def test_factors_on_the_rate_and_weight_decay_are_groups_of_their_own() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    for parameter in module[1].parameters():
        parameter.lr_factor = 0.1  # type: ignore[attr-defined]
    found = build_optimizer(job(module, optimizer={"decay_norms_and_biases": False})).param_groups
    groups = [(names(module, group), group["lr_factor"], group["weight_decay"]) for group in found]
    assert groups == [({"0.weight"}, 1, 2e-4), ({"0.bias"}, 1, 0), ({"1.weight"}, 0.1, 2e-4), ({"1.bias"}, 0.1, 0)]


# --- steps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        # 0.99 w - lr sign(g), as the first step of Adam divides the gradient by its size.
        ({"optimizer": {"name": "adamw", "lr": 0.1, "weight_decay": 0.1}}, [2.87, 4.06]),
        # The step is sign(g) + 0.1 w = (1.3, -0.6), of norm 1.431782, brought to the norm 5 of the weights, times 0.01.
        ({"optimizer": {"name": "lamb", "lr": 0.01, "weight_decay": 0.1}}, [2.954602, 4.020953]),
        # The gradient, of norm 5, is brought down to 1.
        ({"optimizer": {"lr": 1.0, "weight_decay": 0.0}, "clip_gradients": 1.0}, [2.4, 4.8]),
        ({"optimizer": {"lr": 1.0, "weight_decay": 0.0}, "clip_gradients": 6.0}, [0.0, 8.0]),
    ],
)
def test_the_first_step(protocol: dict[str, Any], expected: list[float]) -> None:
    module = nn.Linear(2, 1, bias=False)
    module.weight.data = torch.tensor([[3.0, 4.0]])
    optimizer = build_optimizer(job(module, **protocol))
    (module.weight @ torch.tensor([3.0, -4.0])).sum().backward()
    optimizer.step()
    torch.testing.assert_close(module.weight[0].tolist(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        (ADAMW,),
        (LAMB,),
        (ADAMW, "protocol.clip_gradients=0.5", "protocol.accumulate=3", "protocol.ema.decay=0.8"),
        (
            LAMB,
            "protocol.repeated_augmentation=3",
            "protocol.schedule={name: cosine, warmup_epochs: 1, minimum_lr: 1e-3}",
        ),
    ],
    ids=["adamw", "lamb", "averaged", "repeated"],
)
@runs
def test_interrupted_training_goes_on_bitwise(
    changes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny("ce", *changes)
    train(recipe, tmp_path / "whole")
    at_epoch(monkeypatch, before=once(2), after=once(1, 3))
    assert until_done(recipe, tmp_path / "cut") == 3
    assert_same_result(tmp_path / "cut", tmp_path / "whole")
    assert record(tmp_path / "cut").curve.train_loss[-1] < record(tmp_path / "cut").curve.train_loss[0]


@pytest.mark.parametrize("change", [ADAMW, LAMB, "protocol.ema.decay=0.9", "protocol.accumulate=7"])
@runs
def test_what_a_protocol_may_name_can_be_tried(change: str, tmp_path: Path) -> None:
    told: list[Any] = []
    (trial,) = try_out(tiny("ce", change), 0, options(tmp_path), lambda _, tried: told.append(tried))
    assert trial.seconds > 0
    assert [tried.steps for tried in told] == [1 if "accumulate" in change else 4]
    assert all(tried.images_per_s > 0 for tried in told)


@pytest.mark.parametrize("protocol", ["cifar-200ep-wrn", "mixrnet-200ep", "cifar-100ep-deit", "cifar-30ep-deit"])
@runs
def test_protocols_that_came_with_them_can_be_tried(protocol: str, tmp_path: Path) -> None:
    recipe = load_recipe("digits-lt/ce", [*TINY[:3], f"protocol={protocol}", "protocol.batch_size=16"])
    (trial,) = try_out(recipe, 0, options(tmp_path))
    assert trial.seconds > 0


@runs
def test_a_second_stage_descends_the_gradient_whatever_its_protocol_does(tmp_path: Path) -> None:
    changes = [*STRANGER, "model.backbone=tiny", ADAMW, "protocol.ema.decay=0.5", "second_stage.epochs=1"]
    recipe = load_recipe("digits-lt/crt", changes)
    training = recipe.training
    assert (training.optimizer.name, training.optimizer.lr, training.ema) == ("sgd", 0.1, None)
    assert train(recipe, tmp_path).trained


# --- images ------------------------------------------------------------------------------------------


def without_norms(tmp_path: Path, *changes: str) -> Job:
    """A job whose gradient is a mean over images: nothing in its network looks across them or draws."""
    recipe = tiny("ce", *changes)
    found = build_job(
        recipe, open_split(recipe.data), 0, options(tmp_path, precision="float32", compile="off"), epochs=5
    )
    for block in (found.network.trunk, found.network.branches[0].stage[0]):  # type: ignore[index, union-attr]
        for index, layer in enumerate(block):
            if isinstance(layer, nn.BatchNorm2d | nn.Dropout):
                block[index] = nn.Identity()
    return found


@pytest.mark.parametrize(("size", "accumulate"), [(16, 2), (10, 3), (4, 16)])
@runs
def test_accumulated_gradients_are_those_of_the_large_batch(size: int, accumulate: int, tmp_path: Path) -> None:
    """62 images: the last step of an epoch is of fewer batches, and its last batch of fewer images."""
    rate = "protocol.schedule={warmup_epochs: 1, warmup_per: iteration}"  # another one at every step
    small = without_norms(tmp_path, f"protocol.batch_size={size}", f"protocol.accumulate={accumulate}", rate)
    large = without_norms(tmp_path, f"protocol.batch_size={size * accumulate}", rate)
    steps = []
    for one in (small, large):
        done: list[int] = []
        train_epoch(one, initial_state(one), Epoch(0, 5, 0), done.append)
        assert set(done) == {len(done)}  # each is told how many there are
        steps.append(len(done))
    assert steps[0] == steps[1] == -(-62 // (size * accumulate))
    for found, expected in zip(small.network.parameters(), large.network.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("accumulate", "shares"),
    [(1, [1, 1, 1, 1]), (2, [1 / 2, 1 / 2, 16 / 30, 14 / 30]), (3, [1 / 3] * 3 + [1]), (9, [16 / 62] * 3 + [14 / 62])],
)
def test_a_batch_counts_for_its_images(accumulate: int, shares: list[float]) -> None:
    torch.testing.assert_close(shares_of_batches(62, 16, accumulate), torch.tensor(shares, dtype=torch.float32))


def test_an_image_comes_several_times_in_a_row() -> None:
    order = np.array([5, 3, 9, 1, 7])
    assert repeated(order, 3).tolist() == [5, 5, 5, 3, 3]
    assert repeated(order, 1).tolist() == order.tolist()
    assert repeated(order, 100).tolist() == [5] * 5


@runs
def test_every_stream_repeats_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders, plain = [], []
    recipe = tiny("dbn-mix", "protocol.repeated_augmentation=3")
    found = build_job(recipe, open_split(recipe.data), 0, options(tmp_path), epochs=5)
    stream, streams = found.sets.train.stream, found.method.streams
    monkeypatch.setattr(found.sets.train, "stream", lambda order, *rest: orders.append(order) or stream(order, *rest))
    monkeypatch.setattr(found.method, "streams", lambda epoch: plain.append(streams(epoch)) or plain[0])
    train_epoch(found, initial_state(found), Epoch(0, 5, 0), lambda _: None)
    assert len(orders) == 2
    for order, before in zip(orders, plain[0].values(), strict=True):
        assert len(order) == len(before) == 62
        assert order.tolist() == [before[place // 3] for place in range(62)]
