"""LIFT and its relatives as recipes: rates, losses, logits and groups against the card's numbers; what composes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from foundation_cases import clip_file, tiny_recipe
from recipe_cases import FOUNDATION
from run_cases import record, train
from torchvision.transforms import v2

from lt_bench.data.cards import load_card
from lt_bench.data.groups import group_masks
from lt_bench.data.opening import open_split
from lt_bench.data.spec import DataSpec
from lt_bench.leaderboard.record import load_record
from lt_bench.losses.logit_adjustment import LogitAdjustment
from lt_bench.models.heads import ScaledCosineClassifier
from lt_bench.protocol import shipped_protocol
from lt_bench.recipe import load_recipe
from lt_bench.registry import lookup, members
from lt_bench.trained import load_network
from lt_bench.training.weights import read_weights

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


# --- the card's numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        (
            "lift-10ep",
            [0.01, 0.0097553, 0.0090451, 0.0079389, 0.0065451, 0.005, 0.0034549, 0.0020611, 0.0009549, 0.0002447],
        ),
        ("lift-plus-5ep", [0.02, 0.0180902, 0.0130902, 0.0069098, 0.0019098]),
    ],
)
def test_the_rate_falls_by_a_cosine_an_epoch(name: str, rates: list[float]) -> None:
    protocol = shipped_protocol(name)
    assert [protocol.lr(epoch, 9, 10) for epoch in range(protocol.epochs)] == pytest.approx(rates, abs=5e-8)


def test_logit_adjustment_is_that_of_lift() -> None:
    loss = LogitAdjustment([100, 10, 1])
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    found = [loss(logits, torch.tensor([label])).item() for label in range(3)]
    assert found == pytest.approx([0.2969283, 1.5995135, 2.9020982], abs=1e-6)


def test_the_head_is_a_scaled_cosine() -> None:
    classifier = ScaledCosineClassifier(2, 3, 25.0)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]]))
        found = classifier(torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(found, torch.tensor([[15.0, 20.0, 3.5355340]]))


@pytest.mark.parametrize(("classes", "confidence"), [(100, 0.1096), (1000, 0.0120), (8142, 0.0015)])
def test_a_scale_of_25_leaves_a_small_lead_uncertain(classes: int, confidence: float) -> None:
    classifier = ScaledCosineClassifier(2, classes, load_recipe("cifar100-lt/lift").model.head["scale"])
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[0.1, 0.99**0.5]] + [[0.0, -1.0]] * (classes - 1)))
        logits = classifier(torch.tensor([[1.0, 0.0]]))
    assert logits.softmax(1)[0, 0].item() == pytest.approx(confidence, abs=5e-5)


@pytest.mark.data
@pytest.mark.parametrize(("factor", "sizes"), [(100, [35, 35, 30]), (50, [41, 41, 18]), (10, [69, 31, 0])])
def test_groups_are_by_a_splits_own_counts(factor: int, sizes: list[int], data_root: Path) -> None:
    spec = DataSpec(name="cifar100-lt", factor=factor).resolve(load_card("cifar100-lt"))
    assert [int(mask.sum()) for mask in group_masks(open_split(spec, data_root).counts).values()] == sizes


# --- what the recipes say ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOUNDATION)
def test_a_recipe_says_which_weights_and_what_learns(name: str) -> None:
    recipe = load_recipe(f"cifar100-lt/{name}")
    backbone = recipe.model.backbone
    of_clip = ("clip", "ViT-B-16-quickgelu", "openai")
    assert (backbone["name"], backbone["model"], backbone["pretrained"]) == (
        ("timm", "vit_base_patch16_224.augreg_in21k", True) if name == "lift-in21k" else of_clip
    )
    assert recipe.model.tuner["name"] == {
        "zero-shot": "none",
        "linear-probe": "classifier",
        "full-fine-tuning": "full",
    }.get(name, "adaptformer")
    assert recipe.model.start["name"] == ("class-means" if name == "lift-in21k" else "text")
    assert recipe.model.head["scale"] == (100 if name == "zero-shot" else 25)
    assert recipe.phases[0].loss["name"] == ("cross-entropy" if name == "zero-shot" else "logit-adjustment")
    assert not recipe.protocol_modified()
    assert (recipe.protocol.optimizer.momentum, recipe.protocol.optimizer.weight_decay) == (0.9, 5e-4)


def test_inaturalist_takes_longer() -> None:
    epochs = {name: load_recipe(f"inaturalist2018/{name}").protocol.epochs for name in FOUNDATION}
    plus = {name: 15 for name in FOUNDATION if "plus" in name}
    assert epochs == {**dict.fromkeys(FOUNDATION, 20), **plus}


@pytest.mark.parametrize("data", ["cifar100-lt", "imagenet-lt", "places-lt"])
def test_full_fine_tuning_is_slow(data: str) -> None:
    expected = 0.1 if data == "places-lt" else 0.05
    assert load_recipe(f"{data}/full-fine-tuning").model.tuner == {"name": "full", "lr_factor": expected}


@pytest.mark.parametrize(
    ("name", "interpolation", "flip", "mean", "std"),
    [
        ("lift-10ep", "bilinear", None, CLIP_MEAN, CLIP_STD),
        ("lift-20ep", "bilinear", None, CLIP_MEAN, CLIP_STD),
        ("lift-plus-5ep", "bicubic", False, CLIP_MEAN, CLIP_STD),
        ("lift-plus-15ep", "bicubic", False, CLIP_MEAN, CLIP_STD),
        ("lift-10ep-in21k", "bilinear", None, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("lift-20ep-in21k", "bilinear", None, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_what_is_done_to_images_is_part_of_the_protocol(
    name: str, interpolation: str, flip: bool | None, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    protocol = shipped_protocol(name)
    seen = protocol.augmentation
    assert (seen.kind, seen.size, seen.scale, seen.color_jitter) == ("resized-crop", 224, (0.08, 1.0), 0)
    assert (seen.test_resize or round(seen.size * 256 / 224), seen.test_views) == (256, "centre")
    assert (seen.interpolation, seen.flip, seen.mean, seen.std) == (interpolation, flip, mean, std)
    assert seen.minimalist == ("convex" if "plus" in name else None)
    assert (protocol.batch_size, protocol.evaluate_every, protocol.ema) == (128, protocol.epochs, None)


def test_five_crops_are_of_images_resized_to_248() -> None:
    for name, interpolation in (("lift-tte", "bilinear"), ("lift-plus-tte", "bicubic")):
        recipe = load_recipe(f"imagenet-lt/{name}")
        seen = recipe.training.augmentation
        assert (seen.test_views, seen.test_resize, seen.size, seen.interpolation) == (
            "five-crop",
            248,
            224,
            interpolation,
        )
        assert recipe.first().sha256() == load_recipe(f"imagenet-lt/{name.removesuffix('-tte')}").sha256()


# --- what composes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", sorted(members("loss")))
def test_every_loss_on_logits_trains_a_tuned_network(loss: str, tmp_path: Path, working_folder: Path) -> None:
    """Two steps of each: LDAM has logits of its own scale, and a head for it."""
    head = "cosine" if lookup("loss", loss).takes_cosines else "scaled-cosine"
    file = clip_file(tmp_path)
    recipe = tiny_recipe(file, "adaptformer", f"loss={loss}", f"model.head={head}", "protocol.epochs=1")
    train(recipe, tmp_path)
    assert record(tmp_path).curve.train_loss[0] > -100


def test_five_crops_are_averaged_on_a_tuned_network(tmp_path: Path, working_folder: Path) -> None:
    """The predictions of the record are those of five crops made by torchvision."""
    recipe = tiny_recipe(clip_file(tmp_path), "adaptformer", "second_stage=test-time-ensembling")
    train(recipe, tmp_path, precision="float32")
    trained = [path for path in tmp_path.rglob("weights.safetensors") if read_weights(path).recipe.second_stage]
    network, test = load_network(trained[0]), open_split(recipe.data, None).test
    with torch.no_grad():
        predicted = torch.stack([network(five_crops(image)).mean(0) for image in test.images]).argmax(1).numpy()
    right = np.bincount(test.labels[predicted == test.labels], minlength=10).tolist()
    found = [load_record(path) for path in tmp_path.rglob("seed*.json")]
    assert [list(one.selections["last"].correct) for one in found if one.first_stage] == [right]
    assert len({one.pretrained.learned for one in found}) == 1  # of the first stage


def five_crops(image: np.ndarray) -> torch.Tensor:
    """By torchvision, of an image of 32 pixels: uint8 [5, 3, 32, 32]."""
    crops = v2.FiveCrop(32)(v2.Resize(35)(v2.functional.to_pil_image(image)))
    return torch.stack([v2.functional.pil_to_tensor(crop) for crop in crops])
