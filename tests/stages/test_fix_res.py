"""FixRes: what learns, and what the images are like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from run_cases import options, tiny, train

from lt_bench.data.augment import Augmentation
from lt_bench.data.cards import load_card
from lt_bench.data.opening import open_split
from lt_bench.data.sets import resized
from lt_bench.errors import UserError
from lt_bench.models import build_network
from lt_bench.recipe import load_recipe
from lt_bench.registry import lookup
from lt_bench.stages import DecoupledNetwork
from lt_bench.stages.fix_res import FixRes
from lt_bench.trained import load_network
from lt_bench.training.network import check_network
from lt_bench.training.run import build_job

CARD = load_card("cifar100-lt")
runs = pytest.mark.usefixtures("working_folder", "tiny_backbone")


def decoupled() -> DecoupledNetwork:
    return DecoupledNetwork(build_network("resnet8", "linear", 7), FixRes, FixRes.Config(), 0)


# --- what learns -------------------------------------------------------------------------------------


def test_the_classifier_and_the_last_normalisation_learn() -> None:
    network = decoupled().train()
    named = {parameter: name for name, parameter in network.named_parameters()}
    expected = {"branches.0.stage.0.bn2.weight", "branches.0.stage.0.bn2.bias"}
    expected |= {"branches.0.classifier.linear.weight", "branches.0.classifier.linear.bias"}
    assert {named[parameter] for parameter in network.rates()} == expected  # type: ignore[index]
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(torch.randn(8, 3, 40, 40)).square().sum().backward()
    assert {name for name, parameter in network.named_parameters() if parameter.grad is not None} == expected
    moved = {name for name, buffer in network.named_buffers() if not torch.equal(buffer, before[name])}
    assert {name.rpartition(".")[0] for name in moved} == {"branches.0.stage.0.bn2"}
    network.eval()
    assert not any(part.training for part in network.modules())


def test_a_projection_beside_the_last_block_is_not_its_end() -> None:
    stage = lookup("backbone", "resnet10")().last_stage()
    assert list(FixRes.adapted(stage)) == [stage[0].bn2]


def test_a_network_without_batch_normalisation_has_none_to_adapt() -> None:
    with pytest.raises(UserError, match="second_stage: fix-res adapts the last batch normalisation"):
        check_network(load_recipe("cifar100-lt/fix-res", ["model.backbone=timm/convnext_atto"]))
    with pytest.raises(UserError, match=r"model\.backbone: vit-tiny is built for images of 32 pixels, found 40"):
        load_recipe("cifar100-lt/fix-res", ["model.backbone=vit-tiny"])


def test_it_goes_on_by_the_loss_of_before() -> None:
    def loss(*overrides: str) -> str:
        second = load_recipe("cifar100-lt/fix-res", overrides).second_stage
        assert second is not None
        return second.loss["name"]

    assert loss() == "cross-entropy"
    assert loss("loss=balanced-softmax") == "balanced-softmax"
    assert loss("loss=balanced-softmax", "second_stage.loss=cross-entropy") == "cross-entropy"
    of_phases = "phases=[{until: 50%, loss: cross-entropy}, {until: 100%, loss: balanced-softmax}]"
    assert loss(of_phases) == "balanced-softmax"
    smoothed = load_recipe("cifar100-lt/fix-res", ["loss.label_smoothing=0.1"]).second_stage
    assert smoothed is not None
    assert smoothed.loss["label_smoothing"] == 0.1


# --- images ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "scale", "found"),
    [
        ({}, 1.25, {"enlarge": 40}),
        ({"kind": "resized-crop", "size": 224}, 12 / 7, {"size": 384, "test_resize": None}),
        ({"kind": "resized-crop", "size": 224, "test_resize": 256}, 1.25, {"size": 280, "test_resize": 320}),
    ],
)
def test_images_are_larger(given: dict[str, Any], scale: float, found: dict[str, Any]) -> None:
    before = Augmentation.model_validate(given)
    assert FixRes.sees(FixRes.Config(scale=scale), before, before.side(CARD)) == before.model_copy(update=found)


def test_enlarged_images_are_those_that_everybody_makes() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    expected = [np.asarray(Image.fromarray(image).resize((10, 10), Image.Resampling.BILINEAR)) for image in images]
    found = resized(images, 10)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - np.stack(expected)).max() <= 1
    assert resized(images, 8) is images
    assert (resized(np.full((2, 8, 8, 3), 77, np.uint8), 11) == 77).all()


@runs
def test_training_and_test_see_the_same_images_and_nothing_varies_them(tmp_path: Path) -> None:
    recipe = tiny("fix-res", "augment.cutout={}", "second_stage.epochs=1")
    assert recipe.first() is not None
    split = open_split(recipe.data)
    job = build_job(recipe, split, 0, options(tmp_path), epochs=0)
    order = np.arange(len(job.sets.train.labels))
    (varied,) = job.sets.train.stream(order, len(order), np.random.default_rng(0))
    (plain,) = job.sets.train.clean(len(order))
    assert torch.equal(varied.images, plain.images)
    assert plain.images.shape[-2:] == next(iter(job.sets.test.clean(10))).images.shape[-2:] == (40, 40)
    assert recipe.protocol.augmentation.enlarge is None  # which is the protocol that tables name


@runs
def test_a_run_starts_from_the_weights_of_the_run_without_it(tmp_path: Path) -> None:
    train(tiny("ce"), tmp_path)
    train(tiny("fix-res", "second_stage.epochs=1"), tmp_path)
    found = sorted(tmp_path.rglob("weights.safetensors"))
    assert len(found) == 2
    (second,) = (path for path in found if "fix-res" in str(path))
    classes, _ = load_network(second).predict(torch.zeros(2, 3, 40, 40, dtype=torch.uint8))
    assert classes.shape == (2,)
