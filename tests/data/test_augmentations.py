from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ImageFilter
from tiny_data import TRAIN
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.augment import Augmentation
from lt_bench.data.augmentations import (
    Augment,
    ColorJitter,
    Cutout,
    GaussianBlur,
    Grayscale,
    RandAugment,
    RandomErasing,
    TrivialAugment,
)
from lt_bench.data.augmentations.auto_augment import AutoAugment, sub_policies
from lt_bench.data.augmentations.color_jitter import ORDERS, turned
from lt_bench.data.augmentations.cutout import cut_out
from lt_bench.data.augmentations.grid_mask import GridMask, grid
from lt_bench.data.augmentations.hide_and_seek import HideAndSeek, cell_side
from lt_bench.data.augmentations.operations import Operation, Operations, perform
from lt_bench.data.augmentations.random_erasing import box_sides
from lt_bench.data.cards import load_card
from lt_bench.data.device_set import DeviceSet
from lt_bench.data.types import generator
from lt_bench.errors import UserError
from lt_bench.registry import members

CPU = torch.device("cpu")
GREY = [128.0, 128.0, 128.0]
POLICIES = {
    "cifar10": v2.AutoAugmentPolicy.CIFAR10,
    "imagenet": v2.AutoAugmentPolicy.IMAGENET,
    "svhn": v2.AutoAugmentPolicy.SVHN,
}


@pytest.fixture
def images() -> Tensor:
    noise = torch.from_numpy(TRAIN.images[:3]).permute(0, 3, 1, 2)
    ramp = torch.arange(32).mul(4).expand(1, 3, 32, 32).to(torch.uint8)  # low contrast: AutoContrast and Equalize bite
    return torch.cat([noise, ramp])


def drawn(augment: Augment, size: int, side: int = 32) -> Any:
    return augment.draw(size, side, side, generator(0, "draws"), CPU)


def same_operation(reference: Any, images: Tensor, operation: Operation, magnitude: float, fill: int) -> None:
    got = perform(images, operation, fill)
    if operation[0] == "Solarize":
        magnitude -= 1e-6  # rounded up in float32, it would pass over pixels that are the threshold itself
    for image, ours in zip(images, got, strict=True):
        theirs = reference._apply_image_or_video_transform(
            image, operation[0], magnitude, reference.interpolation, reference._fill
        )
        torch.testing.assert_close(ours, theirs, atol=1, rtol=0)  # magnitudes are float32 there, float64 here


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_and_their_operations_are_torchvisions(images: Tensor, policy: Any) -> None:
    reference = v2.AutoAugment(POLICIES[policy], fill=GREY)
    table = iter(AutoAugment(policy=policy).table(32, 32))
    for ours, theirs in zip(sub_policies(policy), reference._policies, strict=True):
        assert ours == tuple((name, p, m or 0) for name, p, m in theirs)
        for name, _, m in theirs:
            magnitudes, signed = reference._AUGMENTATION_SPACE[name]
            values = magnitudes(10, 32, 32)
            magnitude = 0.0 if values is None else float(values[m])
            same_operation(reference, images, next(table), magnitude, 128)
            same_operation(reference, images, next(table), -magnitude if signed else magnitude, 128)
    assert next(table, None) is None


@pytest.mark.parametrize(
    ("augment", "reference", "magnitudes"),
    [
        (RandAugment(magnitude=9), v2.RandAugment(magnitude=9), [9]),
        (RandAugment(magnitude=30), v2.RandAugment(magnitude=30), [30]),
        (TrivialAugment(), v2.TrivialAugmentWide(), range(31)),
    ],
)
def test_the_spaces_of_random_policies_are_torchvisions(
    images: Tensor, augment: Operations, reference: Any, magnitudes: Any
) -> None:
    table = list(augment.table(32, 32))
    assert len(table) == 2 * 14 * len(magnitudes)
    rows = iter(table)
    space = {"Identity": reference._AUGMENTATION_SPACE["Identity"]} | reference._AUGMENTATION_SPACE
    for name, (values, signed) in space.items():
        for m in magnitudes:
            found = values(31, 32, 32)
            magnitude = 0.0 if found is None else float(found[m])
            for sign in (1, -1):
                operation = next(rows)
                assert operation[0] == name
                if m % 6 == 0 or m == 9:  # all 868 would take seconds
                    same_operation(reference, images, operation, sign * magnitude if signed else magnitude, 0)


def test_a_moved_image_leaves_grey_behind() -> None:
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    moved = perform(white, ("TranslateX", 150 / 331 * 32), 128)  # 14 pixels to the right
    assert torch.all(moved[..., :14] == 128)
    assert torch.all(moved[..., 14:] == 255)


@pytest.mark.parametrize("name", members("augment"))
def test_a_batch_is_its_images_one_by_one(name: str) -> None:
    augment = members("augment")[name]()
    images = torch.from_numpy(TRAIN.images).permute(0, 3, 1, 2)
    images = images.float() if augment.normalised else images
    draws, before = drawn(augment, len(images)), images.clone()
    together = augment.apply(images, *draws)
    alone = [augment.apply(images[i : i + 1], *(one[i : i + 1] for one in draws)) for i in range(len(images))]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(images, before)
    assert together.dtype == images.dtype
    assert not torch.equal(together, images)
    assert torch.equal(augment(images, generator(0, "draws")), together)


def test_draws_follow_the_policys_probabilities() -> None:
    size = 100_000
    (chosen,) = drawn(AutoAugment(), size)
    for step in (0, 1):
        seen = np.bincount(chosen[:, step] + 1, minlength=101)[1:] / size
        for row, pair in enumerate(sub_policies("cifar10")):
            both = seen[4 * row + 2 * step : 4 * row + 2 * step + 2]
            np.testing.assert_allclose(both, pair[step][1] / 50, atol=0.003)
    assert np.all(seen.reshape(25, 2, 2)[:, 0] == 0)  # the first operation of a pair never comes second


@pytest.mark.parametrize(("augment", "steps"), [(RandAugment(operations=3), 3), (TrivialAugment(), 1)])
def test_random_policies_draw_every_operation_alike(augment: Operations, steps: int) -> None:
    (chosen,) = drawn(augment, 60_000)
    assert chosen.shape == (60_000, steps)
    table = augment.table(32, 32)
    names = np.array([name for name, _ in table])
    for name in dict.fromkeys(names):
        assert (names[chosen] == name).mean() == pytest.approx(1 / 14, abs=0.005)


def test_each_operation_comes_with_its_probability(images: Tensor) -> None:
    (chosen,) = drawn(RandAugment(probability=0.5), 20_000)
    counts = np.bincount((chosen >= 0).sum(1), minlength=3) / 20_000
    np.testing.assert_allclose(counts, [0.25, 0.5, 0.25], atol=0.015)
    assert torch.equal(RandAugment(probability=0.0)(images, generator(0, "none")), images)


@pytest.mark.parametrize(
    ("side", "centre", "rows", "columns"),
    [
        (16, (16, 16), (8, 24), (8, 24)),
        (16, (0, 0), (0, 8), (0, 8)),
        (16, (31, 31), (23, 32), (23, 32)),
        (16, (3, 30), (0, 11), (22, 32)),
        (8, (0, 31), (0, 4), (27, 32)),
    ],
)
def test_cutout_is_clipped_at_the_border(side: int, centre: Any, rows: Any, columns: Any) -> None:
    holes = cut_out(torch.ones(1, 1, 32, 32), torch.tensor([centre]), side)[0, 0] == 0
    wanted = torch.zeros(32, 32, dtype=torch.bool)
    wanted[slice(*rows), slice(*columns)] = True
    assert torch.equal(holes, wanted)


@pytest.mark.parametrize(("side", "expected"), [(16, 14.0), (8, 7.5), (20, 16.875)])
def test_the_mean_side_of_a_clipped_square(side: int, expected: float) -> None:
    centres = torch.arange(32)[:, None].expand(32, 2)
    columns = (cut_out(torch.ones(32, 1, 32, 32), centres, side) == 0).any(2).sum(-1)
    assert columns.float().mean() == expected
    every = torch.cartesian_prod(torch.arange(32), torch.arange(32))
    erased = (cut_out(torch.ones(1024, 1, 32, 32), every, side) == 0).float().mean()
    assert erased == pytest.approx({16: 0.19140625, 8: 0.0549316, 20: 0.2781}[side], abs=5e-5)


def test_several_holes_erase_more() -> None:
    white = torch.full((200, 3, 32, 32), 255, dtype=torch.uint8)
    one, three = ((Cutout(side=8, holes=holes)(white, generator(0, "holes")) == 0).float().mean() for holes in (1, 3))
    assert one == pytest.approx(0.0549, abs=0.006)
    assert three == pytest.approx(1 - (1 - 0.0549) ** 3, abs=0.012)


@pytest.mark.parametrize(
    ("share", "aspect", "sides"), [(0.1, 1, (10, 10)), (0.4, 0.3, (11, 37)), (0.02, 3, (8, 3)), (0.2, 2, (20, 10))]
)
def test_sides_of_an_erased_box(share: float, aspect: float, sides: Any) -> None:
    assert tuple(box_sides(np.array([share * 1024]), np.array([aspect]))[0]) == sides


def test_random_erasing_draws_as_the_official_code_does() -> None:
    size = 50_000
    first, behind = (one.numpy() for one in drawn(RandomErasing(), size))
    height, width = (behind - first).T
    erased = height > 0
    assert erased.mean() == pytest.approx(0.5, abs=0.01)
    assert ((first >= 0) & (behind <= 32)).all()
    assert (np.stack([height, width]) < 32).all()
    assert (height[erased] > width[erased]).mean() > 0.65  # a uniform aspect favours tall boxes
    areas = height[erased] * width[erased] / 1024
    assert areas.min() >= 0.015
    assert areas.max() <= 0.42
    assert (first[:, 0][erased] == 0).any()
    assert (behind[:, 1][erased] == 32).any()


def test_random_erasing_fills_boxes_of_normalised_images() -> None:
    images = torch.zeros(50, 3, 32, 32)
    erased = RandomErasing(probability=1.0, value=(1.0, 2.0, 3.0))(images, generator(0, "boxes"))
    assert torch.equal(erased[:, 1], 2 * erased[:, 0])
    assert torch.equal(erased[:, 2], 3 * erased[:, 0])
    assert set(erased[:, 0].unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(RandomErasing(probability=0.0)(images + 1, generator(0, "boxes")), images)


@pytest.mark.parametrize("order", range(6))
def test_colour_jitter_is_torchvisions(images: Tensor, order: int) -> None:
    factors = torch.tensor([[0.6, 1.4, 0.7]]).expand(len(images), 3)
    ours = ColorJitter().apply(images, factors, ORDERS[[order] * len(images)])
    changes: list[Callable[..., Any]] = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation]
    theirs = images
    for change in ORDERS[order]:
        theirs = changes[change](theirs, float(factors[0, change]))
    torch.testing.assert_close(ours, theirs, atol=2, rtol=0)  # each of three steps rounds


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 0.07, 0.3])
def test_turned_hues_are_torchvisions(images: Tensor, turn: float) -> None:
    corners = torch.cartesian_prod(*[torch.tensor([0, 1, 254, 255], dtype=torch.uint8)] * 3).T.reshape(1, 3, 8, 8)
    for shown in (images, corners):
        ours = turned(shown, torch.full((len(shown),), turn))
        torch.testing.assert_close(ours, F.adjust_hue(shown, turn), atol=1, rtol=0)  # theirs is rounded down
        assert turn or torch.equal(ours, shown)


def test_hue_is_one_of_four_changes_whose_order_is_drawn() -> None:
    amounts, orders = drawn(ColorJitter(hue=0.1), 10_000)
    assert amounts[:, 3].abs().max() == pytest.approx(0.1, abs=0.001)
    assert amounts[:, 3].mean() == pytest.approx(0, abs=0.003)
    rows, seen = np.unique(orders, axis=0, return_counts=True)
    assert len(rows) == 24
    assert seen.min() > 320
    assert (np.sort(rows, axis=1) == np.arange(4)).all()


def test_some_images_are_jittered_and_the_others_stay() -> None:
    images = torch.from_numpy(TRAIN.images).permute(0, 3, 1, 2)
    found = ColorJitter(hue=0.1, probability=0.8)(images, generator(0, "jitter"))
    changed = (found != images).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(0.8, abs=0.08)
    assert torch.equal(ColorJitter(probability=0.0)(images, generator(0, "jitter")), images)


def test_factors_of_colour_jitter_lie_about_one() -> None:
    factors, orders = drawn(ColorJitter(brightness=0.4, contrast=2, saturation=0), 10_000)
    assert factors[:, 0].min() >= 0.6
    assert factors[:, 0].max() <= 1.4
    assert factors[:, 1].min() >= 0
    assert factors[:, 1].max() == pytest.approx(3, abs=0.01)
    assert torch.all(factors[:, 2] == 1)
    assert len(np.unique(orders, axis=0)) == 6


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomErasing(smallest=0.5, largest=0.4),
        lambda: Cutout(side=0),
        lambda: RandAugment(magnitude=31),
        lambda: AutoAugment(policy="digits"),
        lambda: GaussianBlur(smallest=3.0),
    ],
)
def test_settings_without_meaning_are_refused(make: Callable[[], Augment]) -> None:
    with pytest.raises(UserError, match=r"RandomErasing|Cutout|RandAugment|AutoAugment|GaussianBlur"):
        make()


# --- the views of contrastive learning -----------------------------------------------------------------


def test_grey_images_are_those_of_torchvision() -> None:
    images = torch.from_numpy(TRAIN.images).permute(0, 3, 1, 2)
    (chosen,) = drawn(Grayscale(), 10_000)
    assert chosen.float().mean() == pytest.approx(0.2, abs=0.02)
    assert torch.equal(Grayscale(probability=1.0)(images, generator(0, "grey")), F.rgb_to_grayscale(images, 3))


@pytest.mark.parametrize("deviation", [0.1, 0.5, 1.0, 2.0])
def test_a_blur_is_torchvisions_inside_and_about_pillows(images: Tensor, deviation: float) -> None:
    ours = GaussianBlur().apply(images, np.full(len(images), deviation))
    theirs = F.gaussian_blur(images, [13, 13], [deviation, deviation])
    torch.testing.assert_close(ours[..., 6:-6, 6:-6], theirs[..., 6:-6, 6:-6], atol=1, rtol=0)
    for image, found in zip(images, ours, strict=True):
        pillow = F.to_pil_image(image).filter(ImageFilter.GaussianBlur(deviation))
        away = (F.pil_to_tensor(pillow).float() - found).abs()
        assert away.mean() < 1.5
        assert away[..., 6:-6, 6:-6].max() <= 6  # of noise; beyond the border Pillow goes on box by box


def test_deviations_are_uniform_and_some_images_stay_sharp() -> None:
    (deviations,) = drawn(GaussianBlur(probability=0.2), 20_000)
    taken = deviations[deviations > 0]
    assert len(taken) / 20_000 == pytest.approx(0.2, abs=0.01)
    assert (taken.min(), taken.mean(), taken.max()) == pytest.approx((0.1, 1.05, 2.0), abs=0.02)


# --- hide-and-seek and grid mask ---------------------------------------------------------------------


def test_cells_are_those_of_the_card() -> None:
    sizes = HideAndSeek().config.sizes
    assert [cell_side(share, 224) for share in sizes] == [0, 16, 32, 44, 56]
    assert [cell_side(share, 32) for share in sizes] == [0, 2, 5, 6, 8]
    assert [(-(-224 // side)) ** 2 for side in (16, 32, 44, 56)] == [196, 49, 36, 16]


def test_cells_are_hidden_one_by_one() -> None:
    images = torch.ones(2, 3, 7, 7)
    hidden = torch.zeros(2, 4, 4, dtype=torch.bool)
    hidden[:, 1, 3] = True  # rows 2 and 3, and the column that is left of the last cell
    found = HideAndSeek().apply(images, torch.tensor([2, 0]), hidden)
    assert found[1].all()
    assert (found[0] == 0).nonzero()[:, 1:].unique(dim=0).tolist() == [[2, 6], [3, 6]]


def test_two_fifths_of_the_pixels_are_hidden() -> None:
    augment = HideAndSeek()
    found = augment(torch.ones(3000, 1, 32, 32), generator(0, "hide"))
    assert 1 - float(found.mean()) == pytest.approx(0.4, abs=0.01)


def mask_of(size: int, period: int, ratio: float, offset: tuple[int, int] = (0, 0), angle: float = 0.0) -> Tensor:
    one = torch.tensor([period]), torch.tensor([offset]), torch.tensor([angle], dtype=torch.float64)
    return grid(size, size, *one, ratio)[0].float()


def test_the_small_grid_of_the_card() -> None:
    mask = mask_of(8, 4, 0.5)
    assert mask[0].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert mask[2].all()
    assert float(mask.mean()) == 0.75


@pytest.mark.parametrize(
    ("size", "period", "ratio", "hidden"),
    [(64, 16, 0.5, 0.25), (64, 16, 0.4, 0.31640625), (60, 10, 0.4, 0.36), (60, 10, 0.6, 0.16)],
)
def test_the_hidden_squares_of_the_card(size: int, period: int, ratio: float, hidden: float) -> None:
    """The card's mode 0 keeps the squares between the bars; here they are what is hidden."""
    assert 1 - float(mask_of(size, period, ratio).mean()) == pytest.approx(hidden)


@pytest.mark.parametrize(("period", "kept"), [(128, 0.8412), (200, 0.84)])
def test_what_stays_of_large_images(period: int, kept: float) -> None:
    """Over all offsets, which are drawn apart for rows and columns."""
    offset = torch.stack([torch.arange(period), torch.zeros(period, dtype=torch.int64)], 1)
    masks = grid(224, 224, torch.full((period,), period), offset, torch.zeros(period), 0.6).float().mean(0)
    between = (masks < 1).all(0)  # the columns that lie on no bar, whose pixels are kept by their rows
    on_bar = masks[:, between]
    assert on_bar.numel()
    assert (on_bar == on_bar[0, 0]).all()
    assert 1 - (1 - float(on_bar[0, 0])) ** 2 == pytest.approx(kept, abs=0.0001)


def test_a_quarter_turn_turns_the_lattice() -> None:
    turned = mask_of(32, 8, 0.5, (3, 0), np.pi / 2)
    assert torch.equal(turned, mask_of(32, 8, 0.5, (3, 0)).rot90(1)) or torch.equal(
        turned, mask_of(32, 8, 0.5, (3, 0)).rot90(-1)
    )


def test_the_probability_rises_over_the_training() -> None:
    rising = [GridMask().at(epoch / 300).config.probability for epoch in (0, 60, 120, 240, 299)]
    assert rising == pytest.approx([0, 0.2, 0.4, 0.8, 0.8])
    images = torch.ones(400, 1, 32, 32)
    assert GridMask().at(0.0)(images, generator(0, "grid")).all()
    touched = (GridMask().at(1.0)(images, generator(0, "grid")) == 0).flatten(1).any(1)
    assert float(touched.float().mean()) == pytest.approx(0.8, abs=0.05)


def test_streams_ask_for_what_holds_at_the_time() -> None:
    spec = load_card("digits-lt")
    part = ArrayPart(TRAIN.images[:8], TRAIN.labels[:8])
    images = DeviceSet(part, spec, Augmentation(padding=0, flip=False), CPU, [GridMask(probability=1.0)])
    order = np.arange(8)
    first, last = (next(iter(images.stream(order, 8, generator(0, "a"), at))).images for at in (0.0, 1.0))
    assert torch.equal(first, next(iter(images.clean(8))).images)
    assert not torch.equal(last, first)
