"""Runs of regularised recipes: what the loop does for them, second stages, weights, resumption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import assert_same_result, at_epoch, once, options, tiny, train, until_done
from torch import nn

from lt_bench.data.opening import open_split
from lt_bench.data.types import Epoch
from lt_bench.recipe import Recipe
from lt_bench.regularisers import BatchAugmentation, NoNormDecay
from lt_bench.trained import load_network
from lt_bench.training.loop import Job, train_epoch
from lt_bench.training.optimizers import norms_and_biases, parameter_groups
from lt_bench.training.run import build_job, initial_state

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

TWICE = "regularise.batch-augmentation.times=2"
SHAKEN = ("regularise.shake-shake={}", "regularise.max-dropout={}", "model.backbone=tiny-shake-shake")
UNVARIED = "protocol.augmentation={padding: 0, flip: false}"


def job(recipe: Recipe, tmp_path: Path) -> Job:
    given = options(tmp_path, precision="float32", compile="off")
    return build_job(recipe, open_split(recipe.data), 0, given, epochs=recipe.training.epochs)


# --- batch augmentation ------------------------------------------------------------------------------


def test_every_image_comes_several_times_in_its_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = job(tiny("dbn-mix", "regularise.batch-augmentation.times=3"), tmp_path)
    asked: list[tuple[list[int], int]] = []
    stream, streams, plain = one.sets.train.stream, one.method.streams, []

    def watched(order: Any, size: int, *rest: Any) -> Any:
        asked.append((order.tolist(), size))
        for batch in stream(order, size, *rest):
            triples = batch.images.unflatten(0, (-1, 3))
            assert not torch.equal(triples[:, 0], triples[:, 1])  # varied by itself
            yield batch

    monkeypatch.setattr(one.sets.train, "stream", watched)
    monkeypatch.setattr(one.method, "streams", lambda epoch: plain.append(streams(epoch)) or plain[0])
    steps: list[int] = []
    state = initial_state(one)
    train_epoch(one, state, Epoch(0, 5, 0), steps.append)
    assert (len(steps), state.images) == (4, 62)
    for (order, size), before in zip(asked, plain[0].values(), strict=True):
        assert size == 48
        assert order == [position for position in before for _ in range(3)]


def test_the_loss_is_the_mean_over_all_copies(tmp_path: Path) -> None:
    """Of images that nothing varies, the copies change nothing."""
    found = []
    for changes in ([], [TWICE]):
        one = job(tiny("ce", UNVARIED, *changes), tmp_path)
        for block in (one.network.trunk, one.network.branches[0].stage[0]):  # type: ignore[index, union-attr]
            for index, layer in enumerate(block):
                if isinstance(layer, nn.BatchNorm2d | nn.Dropout):
                    block[index] = nn.Identity()
        train_epoch(one, initial_state(one), Epoch(0, 5, 0), lambda _: None)
        found.append([parameter.detach() for parameter in one.network.parameters()])
    for plain, repeated in zip(*found, strict=True):
        torch.testing.assert_close(repeated, plain, rtol=1e-5, atol=1e-6)


def test_the_protocol_stays_what_it_is_and_what_is_trained_follows() -> None:
    recipe = tiny("ce", TWICE, "regularise.no-norm-decay={}")
    plain = tiny("ce").protocol
    assert recipe.protocol == plain
    assert recipe.training == NoNormDecay().trained_under(BatchAugmentation(times=2).trained_under(plain))
    assert (recipe.training.batch_augmentation, recipe.training.optimizer.decay_norms_and_biases) == (2, False)


# --- weight decay ------------------------------------------------------------------------------------


def test_norms_and_biases_are_spared(tmp_path: Path) -> None:
    one = job(tiny("ce", "regularise.no-norm-decay={}"), tmp_path)
    spared = {p for group in parameter_groups(one) if group.get("weight_decay") == 0 for p in group["params"]}
    assert spared == norms_and_biases(one.network) != set()


# --- runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [SHAKEN, (TWICE, "regularise.dropout={}", "regularise.zero-init={}", "model.backbone=resnet8")],
    ids=["shake-shake", "batch-augmentation"],
)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_interrupted_training_goes_on_bitwise(
    changes: tuple[str, ...], precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny("ce", "protocol.schedule={warmup_epochs: 1}", "protocol.epochs=2", *changes)
    train(recipe, tmp_path / "whole", precision=precision)
    at_epoch(monkeypatch, before=once(), after=once(1))
    assert until_done(recipe, tmp_path / "cut", precision=precision) == 1
    assert_same_result(tmp_path / "cut", tmp_path / "whole")


def test_a_second_stage_and_a_loaded_network_scale_as_the_trained_one(tmp_path: Path) -> None:
    """ShakeDrop acts in evaluation, so that whoever loads the weights has to have it."""
    changes = ("regularise.shake-drop={}", "regularise.dropout={}", "model.backbone=resnet8", "second_stage.epochs=1")
    recipe = tiny("crt", *changes, "second_stage.shifted_batch_norm=false")
    train(recipe, tmp_path)
    first, second = (load_network(path) for path in sorted(tmp_path.rglob("weights.safetensors"), key=_is_second))
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    assert [one.name for one in second.network.regularisers] == ["dropout", "shake-drop"]
    features = [net.network.branches[0].features(net.network.trunk(images.float())) for net in (first, second)]  # type: ignore[operator]
    torch.testing.assert_close(*features)
    assert torch.equal(second(images), second(images))


def _is_second(path: Path) -> bool:
    return '"second_stage"' in (path.parent / "recipe.json").read_text()
