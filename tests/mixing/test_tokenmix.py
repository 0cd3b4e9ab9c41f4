"""TokenMix against its card: masks, shares by a teacher's maps, targets; and the teachers that make the maps."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mix_cases import batch_of, build, constant, step_at, whole
from run_cases import assert_same_result, at_epoch, once, only, options, record, tiny, train, until_done
from safetensors.torch import save_file
from torch import Tensor

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.augment import Augmentation
from lt_bench.data.cards import load_card
from lt_bench.data.device_set import DeviceSet
from lt_bench.data.types import Batch, generator
from lt_bench.errors import UserError
from lt_bench.losses.binary_cross_entropy import soft_target
from lt_bench.mixing.teachers import Teacher, own_class, training_maps
from lt_bench.mixing.tokenmix import TokenMix, block_mask, random_mask
from lt_bench.models import build_network
from lt_bench.recipe import load_recipe
from lt_bench.tensor_files import read_tensors
from lt_bench.training.run import run

CPU = torch.device("cpu")
A, B, M = (torch.tensor(rows) for rows in ([[0.1, 0.4], [0.3, 0.2]], [[0.7, 0.1], [0.1, 0.1]], [[0.0, 1], [0, 1]]))
"""Two maps and a mask of the card."""


def tokenmix(**settings: object) -> TokenMix:
    mix = build("tokenmix", **settings)
    assert isinstance(mix, TokenMix)
    return mix


def taught(maps: Tensor, **settings: object) -> TokenMix:
    """A mix with maps [N, h, w], in which tokens are mixed always."""
    mix = tokenmix(switch_probability=1.0, **settings)
    mix.config = mix.config.model_copy(update={"labels": "teacher"})
    mix.maps = maps
    return mix


# --- masks -------------------------------------------------------------------------------------------


def test_blocks_reach_the_number_of_tokens_or_stall_a_little_before() -> None:
    counts = np.array([block_mask(14, 14, 112, generator(seed, "mask")).sum() for seed in range(1000)])
    assert counts.max() == 112
    assert counts.min() >= 107
    assert (counts == 112).mean() == pytest.approx(0.988, abs=0.006)


def test_a_random_mask_has_the_number_of_tokens() -> None:
    masks = [random_mask(14, 14, 112, generator(seed, "mask")) for seed in range(20)]
    assert {int(mask.sum()) for mask in masks} == {112}
    assert len({mask.tobytes() for mask in masks}) == 20


@pytest.mark.parametrize(("side", "grid", "tokens"), [(224, 14, 112), (32, 8, 36), (8, 8, 36), (64, 8, 36)])
def test_half_of_the_tokens_and_a_fourteenth_more_are_the_partners(side: int, grid: int, tokens: int) -> None:
    mix = tokenmix(mask="random", switch_probability=1.0)
    mixed = mix(constant(0, [0], side, side), constant(1, [1], side, side), step_at())
    assert mixed.images[0, 0].mean().item() == pytest.approx(tokens / grid**2)
    patch = side // grid
    blocks = mixed.images[0, 0].unfold(0, patch, patch).unfold(1, patch, patch)
    assert torch.equal(blocks.amax((2, 3)), blocks.amin((2, 3)))  # every token is of one image


@pytest.mark.parametrize(
    ("backbone", "side"), [({"name": "vit-tiny", "patch_size": 8}, 8), ("vit-tiny", 4), ("resnet8", 4)]
)
def test_tokens_are_those_of_the_network(backbone: Any, side: int) -> None:
    backbone = load_recipe("cifar100-lt/ce", [f"model.backbone={json.dumps(backbone)}"]).backbone_choice()
    mix = tokenmix()
    mix.attach(build_network(backbone.component(backbone.config), "linear", 3))
    assert mix.patch_side(32) == side
    assert tokenmix(patch_size=2).patch_side(32) == 2


# --- shares and targets ------------------------------------------------------------------------------


def test_what_is_hidden_in_both_counts_for_neither() -> None:
    shares = taught(torch.stack([A, B])).shares(whole(2)[:1], whole(2)[1:], M)
    torch.testing.assert_close(torch.stack(shares).squeeze(1), torch.tensor([0.4, 0.2]))  # type: ignore[arg-type]


def test_the_target_of_the_card() -> None:
    mix = taught(torch.stack([A, B]))
    shares = mix.shares(whole(2)[:1], whole(2)[1:], M)
    half = mix.config.label_smoothing / 2
    labels = (torch.tensor([3]), torch.tensor([7]))
    terms = mix.smoothed(torch.zeros(1, 3, 2, 2), *((y, s - half) for y, s in zip(labels, shares, strict=True))).terms
    target = soft_target(terms, torch.zeros(1, 10))[0]
    expected = torch.full((10,), 0.01)
    expected[3], expected[7] = 0.36, 0.16
    torch.testing.assert_close(target, expected)
    assert target.sum().item() == pytest.approx(0.6)


def test_uniform_maps_give_labels_by_area_and_full_masks_one_image() -> None:
    uniform = torch.full((2, 14, 14), 1 / 196)
    mask = torch.from_numpy(block_mask(14, 14, 112, generator(0, "m"))).float()
    by_maps = taught(uniform).shares(whole(2)[:1], whole(2)[1:], mask)
    by_area = tokenmix().shares(None, None, mask)
    assert [float(share) for share in by_maps] == pytest.approx([float(share) for share in by_area], abs=1e-5)
    for value, expected in ((0.0, (1, 0)), (1.0, (0, 1))):
        shares = taught(torch.rand(2, 14, 14)).shares(whole(2)[:1], whole(2)[1:], torch.full((14, 14), value))
        assert [float(share) for share in shares] == pytest.approx(expected, abs=1e-5)


def test_a_map_follows_crop_and_mirroring() -> None:
    """A map of the pixels' own values shows the pixels."""
    images = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    images[0, 1:4, 2:6] = 255
    card = load_card("digits-lt")
    views = DeviceSet(ArrayPart(images, np.zeros(1, dtype=np.int64)), card, Augmentation(padding=2, flip=True), CPU)
    mix = taught(torch.from_numpy(images[:, :, :, 0] / 255).float())
    (batch,) = views.stream(np.zeros(64, dtype=np.int64), 64, generator(0, "views"))
    assert batch.views is not None
    assert batch.views.mirrored.unique().tolist() == [False, True]
    shown = (batch.images[:, 0] * card.std[0] + card.mean[0]).round()
    torch.testing.assert_close(mix.seen(batch.views, 8, 8), shown, atol=1e-4, rtol=0)


def test_without_a_stream_partners_stand_in_opposite_order() -> None:
    batch = Batch(torch.randn(5, 3, 8, 8), torch.arange(5))
    for seed in range(6):
        (own, _), (other, _), _ = tokenmix()(batch, None, step_at(seed=seed)).terms
        assert own is batch.labels
        assert other is not None
        assert other.tolist() == [4, 3, 2, 1, 0]


def test_the_other_batches_are_mixup_with_smoothed_labels() -> None:
    mix, batch = tokenmix(switch_probability=0.0), batch_of()
    mixed = mix(batch, None, step_at())
    target = soft_target(mixed.terms, torch.zeros(4, 3))
    torch.testing.assert_close(target.sum(1), torch.ones(4))
    assert target.min().item() == pytest.approx(0.1 / 3)
    (_, share), *_ = mixed.terms
    torch.testing.assert_close(mixed.images, torch.lerp(batch.images.flip(0), batch.images, share / 0.9))


# --- teachers ----------------------------------------------------------------------------------------


def test_only_classes_among_the_first_five_of_a_cell_are_in_its_map() -> None:
    logits = torch.arange(7.0).flip(0)[None, :, None, None].expand(2, 7, 3, 3)
    maps = own_class(logits, torch.tensor([0, 5]))
    torch.testing.assert_close(maps[0], torch.full((3, 3), torch.arange(7.0).softmax(0)[6].item()))
    assert not maps[1].any()


@pytest.fixture
def teacher(tmp_path: Path, working_folder: Path, tiny_backbone: Path) -> Path:
    """The weights of a run."""
    train(tiny("ce", "protocol.epochs=1", "protocol.schedule={warmup_epochs: 0}"), tmp_path / "teacher")
    return only(tmp_path / "teacher", "weights.safetensors")


@pytest.mark.parametrize("name", ["tokenmix", "attentive-cutmix"])
def test_a_run_with_a_teacher_resumes_bitwise_from_the_maps_that_it_kept(
    name: str, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(name, f"mix.teacher={teacher}", "loss=balanced-softmax")
    train(recipe, tmp_path / "whole")
    at_epoch(monkeypatch, before=once(2), after=once(3))
    assert until_done(recipe, tmp_path / "cut") == 2
    assert_same_result(tmp_path / "cut", tmp_path / "whole")
    assert read_tensors(only(tmp_path / "cut" / "runs" / "teachers", "*.safetensors"))[0]["maps"].ndim == 3
    kept = record(tmp_path / "cut").recipe["phases"][0]["mix"]["teacher"]
    assert kept["sha256"] == hashlib.sha256(teacher.read_bytes()).hexdigest()


@pytest.mark.usefixtures("working_folder", "tiny_backbone")
def test_a_run_without_the_teacher_that_it_needs_says_so_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mix.teacher: tokenmix weighs labels .* mix.labels=area"):
        run(tiny("tokenmix"), 0, options(tmp_path))
    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_what_is_no_teacher_is_refused(teacher: Path, tmp_path: Path) -> None:
    part = ArrayPart(np.zeros((3, 8, 8, 3), dtype=np.uint8), np.arange(3))
    images = DeviceSet(part, load_card("digits-lt"), Augmentation(padding=0, flip=False), CPU)
    with pytest.raises(UserError, match="knows 10 classes, the data has 3"):
        training_maps(Teacher.read({"weights": str(teacher)}), "own-class", images, "split", 3, tmp_path, CPU)
    with pytest.raises(UserError, match="No such file"):
        tiny("tokenmix", f"mix.teacher={tmp_path / 'none.safetensors'}")
    with pytest.raises(UserError, match="no effect on labels by area"):
        tiny("tokenmix", f"mix.teacher={teacher}", "mix.labels=area")
    other = tmp_path / "other.safetensors"
    other.write_bytes(teacher.read_bytes())
    settings = Teacher.read({"weights": str(other)})
    other.write_bytes(b"changed")
    with pytest.raises(UserError, match="another file than the recipe was read with"):
        training_maps(settings, "own-class", images, "split", 10, tmp_path, CPU)


def test_a_network_of_timm_teaches_if_its_classifier_reads_the_mean_of_a_map(tmp_path: Path) -> None:
    import timm

    for name, works in (("resnet10t", True), ("vit_tiny_patch16_224", False)):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=3)
        torch.nn.init.zeros_(model.get_classifier().weight)
        model.get_classifier().bias.data = torch.tensor([9.0, 0, 0])  # which says the first class everywhere
        save_file(
            {key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / f"{name}.safetensors"
        )
        given = Teacher.read({"weights": str(tmp_path / f"{name}.safetensors"), "model": name})
        pixels = np.random.default_rng(0).integers(0, 255, (3, 224, 224, 3), dtype=np.uint8)
        part = ArrayPart(pixels, np.arange(3))
        images = DeviceSet(part, load_card("digits-lt"), Augmentation(padding=0, flip=False), CPU)
        if works:
            found = training_maps(given, "own-class", images, "split", 3, tmp_path / "maps", CPU)
            assert found.shape == (3, 7, 7)
            assert (found[0] > 0.99).all()
            assert (found[1:] < 0.01).all()
            with pytest.raises(UserError, match="knows 3 classes, the data has 10"):
                training_maps(given, "own-class", images, "split", 10, tmp_path / "maps", CPU)
            # How active its features are does not depend on what it was trained to tell apart.
            active = training_maps(given, "activation", images, "split", 10, tmp_path / "maps", CPU)
            assert active.amin((1, 2)).tolist() == [0, 0, 0]
            assert active.std() > 0
            small = DeviceSet(
                ArrayPart(pixels[:, :32, :32], np.arange(3)), load_card("digits-lt"), Augmentation(padding=0), CPU
            )
            shape = training_maps(given, "activation", small, "small", 10, tmp_path / "maps", CPU).shape
            assert shape == (3, 6, 6)  # of the 176 pixels it is made for
        else:
            with pytest.raises(UserError, match="ends in no map of cells"):
                training_maps(given, "own-class", images, "split", 3, tmp_path / "maps", CPU)


def test_damaged_maps_are_named(teacher: Path, tmp_path: Path) -> None:
    part = ArrayPart(np.zeros((3, 8, 8, 3), dtype=np.uint8), np.arange(3))
    images = DeviceSet(part, load_card("digits-lt"), Augmentation(padding=0, flip=False), CPU)
    given = Teacher.read({"weights": str(teacher)})
    first = training_maps(given, "own-class", images, "split", 10, tmp_path, CPU)
    assert torch.equal(training_maps(given, "own-class", images, "split", 10, tmp_path, CPU), first)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="without this file they are made anew"):
        training_maps(given, "own-class", images, "split", 10, tmp_path, CPU)
