from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import TRAIN
from torch import Tensor

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.augment import Augmentation
from lt_bench.data.augmentations import in_order
from lt_bench.data.augmentations.cutout import cut_out
from lt_bench.data.augmentations.rotation import rotate
from lt_bench.data.cards import load_card
from lt_bench.data.device_set import DeviceSet
from lt_bench.data.types import Batch, generator

CARD = load_card("cifar10-lt")
MEAN, STD = (torch.tensor(values)[:, None, None] for values in (CARD.mean, CARD.std))


def device_set(images: np.ndarray, **settings: object) -> DeviceSet:
    part = ArrayPart(images, np.arange(len(images), dtype=np.int64))
    augmentation = Augmentation.model_validate(settings)
    return DeviceSet(part, CARD, augmentation, torch.device("cpu"), in_order(augmentation.steps()))


def epoch(images: DeviceSet, size: int, batch_size: int = 500, seed: int = 0) -> list[Batch]:
    order = np.zeros(size, dtype=np.int64)
    return list(images.stream(order, batch_size, generator(seed, "test")))


def pixels(batches: Sequence[Batch]) -> Tensor:
    """Back to 0..255."""
    normalised = torch.cat([batch.images for batch in batches])
    return ((normalised * STD + MEAN) * 255).round().to(torch.uint8)


def test_batches_are_normalised_float_with_their_own_labels_and_the_last_is_short() -> None:
    images = DeviceSet(TRAIN, CARD, Augmentation(padding=0, flip=False), torch.device("cpu"))
    order = np.array([5, 3, 3, 9, 0])
    batches = list(images.stream(order, 2, generator(0, "a")))
    assert [len(batch.labels) for batch in batches] == [2, 2, 1]
    assert torch.cat([b.labels for b in batches]).tolist() == TRAIN.labels[order].tolist()
    expected = (torch.from_numpy(TRAIN.images[order]).permute(0, 3, 1, 2) / 255 - MEAN) / STD
    torch.testing.assert_close(torch.cat([b.images for b in batches]), expected)
    assert batches[0].images.dtype == torch.float32


@pytest.mark.parametrize("settings", [{}, {"autoaugment": True, "cutout": 16}])
def test_parts_of_batches_are_together_the_batches(settings: dict[str, object]) -> None:
    images, order = device_set(TRAIN.images[:7], **settings), np.array([5, 3, 3, 6, 0, 1, 2])
    whole = list(images.stream(order, 5, generator(0, "a")))
    halves = [[slice(0, 3), slice(5, 6)], [slice(3, 5), slice(6, 7)]]
    parts = [list(images.stream(order, 5, generator(0, "a"), 0.0, places)) for places in halves]
    for batch, *shared in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([one.images for one in shared]), batch.images)
        assert torch.equal(torch.cat([one.labels for one in shared]), batch.labels)
        views = [one.views for one in (batch, *shared) if one.views is not None]
        assert torch.equal(torch.cat([one.boxes for one in views[1:]]), views[0].boxes)
    assert torch.equal(pixels(list(images.clean(3, [slice(3, 6)]))), pixels(list(images.clean(3))[1:2]))


@pytest.mark.parametrize(
    "settings", [{}, {"padding": 0}, {"padding_mode": "reflect"}, {"autoaugment": True, "cutout": 16}]
)
def test_clean_images_are_the_images(settings: dict[str, object]) -> None:
    images = device_set(TRAIN.images[:7], **settings)
    batches = list(images.clean(3))
    assert [len(batch.labels) for batch in batches] == [3, 3, 1]
    assert torch.equal(pixels(batches), torch.from_numpy(TRAIN.images[:7]).permute(0, 3, 1, 2))
    assert torch.cat([b.labels for b in batches]).tolist() == list(range(7))


def test_every_crop_and_mirror_is_one_of_the_padded_image_and_all_occur_equally_often() -> None:
    size = 8_000
    got = pixels(epoch(device_set(TRAIN.images[:1]), size)).numpy()
    padded = np.pad(TRAIN.images[0].transpose(2, 0, 1), ((0, 0), (4, 4), (4, 4)))
    crops = {
        (dy, dx, flip): padded[:, dy : dy + 32, dx : dx + 32][:, :, :: -1 if flip else 1].tobytes()
        for dy in range(9)
        for dx in range(9)
        for flip in (False, True)
    }
    seen = dict.fromkeys(crops.values(), 0)
    assert len(seen) == 162
    for image in got:
        seen[np.ascontiguousarray(image).tobytes()] += 1  # a KeyError is an image that no crop gives
    expected = size / 162
    chi_square = sum((n - expected) ** 2 / expected for n in seen.values())
    assert min(seen.values()) > 0
    assert chi_square < 228  # 99.9 % of a chi-square with 161 degrees of freedom
    mirrored = sum(seen[crop] for key, crop in crops.items() if key[2])
    assert abs(mirrored / size - 0.5) < 0.02


def test_draws_differ_within_a_batch() -> None:
    (batch,) = epoch(device_set(TRAIN.images[:1]), 500)
    assert len({image.numpy().tobytes() for image in batch.images}) > 140


def test_the_padding_is_black_before_normalisation() -> None:
    images = torch.cat([b.images for b in epoch(device_set(np.full((1, 32, 32, 3), 255, np.uint8)), 500)])
    black, white = (0 - MEAN) / STD, (1 - MEAN) / STD
    assert black.flatten().tolist() == pytest.approx([-2.429, -2.418, -2.221], abs=1e-3)
    assert torch.all(torch.isclose(images, black) | torch.isclose(images, white))
    corner = torch.isclose(images[:, :, 0, 0], black[:, 0, 0]).all(dim=1)
    assert 0.55 < corner.float().mean() < 0.82  # 1 - (5 / 9) ** 2 = 0.69


def test_reflect_padding_mirrors_the_image_at_its_border() -> None:
    got = pixels(epoch(device_set(TRAIN.images[:1], padding_mode="reflect", flip=False), 2000))
    padded = np.pad(TRAIN.images[0].transpose(2, 0, 1), ((0, 0), (4, 4), (4, 4)), mode="reflect")
    crops = {padded[:, y : y + 32, x : x + 32].tobytes() for y in range(9) for x in range(9)}
    assert {image.numpy().tobytes() for image in got} == crops


def test_flips_follow_the_card_unless_set() -> None:
    digits = load_card("digits-lt")
    part = ArrayPart(TRAIN.images[:1], np.zeros(1, dtype=np.int64))
    for flip, versions in ((None, 1), (True, 2)):
        images = DeviceSet(part, digits, Augmentation(padding=0, flip=flip), torch.device("cpu"))
        assert len({image.numpy().tobytes() for batch in epoch(images, 200) for image in batch.images}) == versions


@pytest.mark.parametrize("settings", [{}, {"cutout": 16}, {"rotation": 15}, {"autoaugment": True, "cutout": 16}])
def test_an_epoch_is_a_function_of_its_generator_and_not_of_the_batch_size(settings: dict[str, object]) -> None:
    images = device_set(TRAIN.images[:1], **settings)
    first = torch.cat([b.images for b in epoch(images, 100, 32)])
    assert torch.equal(first, torch.cat([b.images for b in epoch(images, 100, 32)]))
    assert torch.equal(first, torch.cat([b.images for b in epoch(images, 100, 7)]))
    assert not torch.equal(first, torch.cat([b.images for b in epoch(images, 100, 32, seed=1)]))


def test_streams_leave_the_set_as_it_was() -> None:
    images = device_set(TRAIN.images[:4], autoaugment=True, cutout=16)
    before = pixels(list(images.clean(4)))
    for batch in epoch(images, 64):
        batch.images.zero_()
    assert torch.equal(pixels(list(images.clean(4))), before)


def test_cutout_is_a_black_square_clipped_at_the_border() -> None:
    white = torch.full((3, 3, 32, 32), 255, dtype=torch.uint8)
    holes = cut_out(white, torch.tensor([[16, 16], [0, 0], [31, 16]]), 16) == 0
    assert holes[:, 0].sum(dim=(1, 2)).tolist() == [256, 64, 9 * 16]
    assert holes[0, :, 8:24, 8:24].all()
    assert holes[1, :, :8, :8].all()
    assert white.min() == 255


def test_cutout_centres_are_uniform_over_the_image() -> None:
    white = np.full((1, 32, 32, 3), 255, np.uint8)
    got = pixels(epoch(device_set(white, padding=0, flip=False, cutout=2), 8_000))
    dark = (got[:, 0] == 0).float().mean(dim=0)  # [32, 32]: a pixel is dark for 4 of 1024 centres
    assert dark[1:-1, 1:-1].mean() == pytest.approx(4 / 1024, rel=0.08)
    assert dark.min() > 0


@pytest.mark.parametrize("degrees", [0.0, 15.0, -15.0, 7.3, 90.0, -133.0])
def test_rotation_is_that_of_pillow(degrees: float) -> None:
    """Which torchvision's RandomRotation uses on photographs; single pixels on a rounding edge may differ."""
    images = torch.from_numpy(TRAIN.images[:20]).permute(0, 3, 1, 2)
    turned = rotate(images, torch.full((20,), degrees, dtype=torch.float64)).permute(0, 2, 3, 1).numpy()
    pillow = np.stack([np.asarray(Image.fromarray(image).rotate(degrees)) for image in TRAIN.images[:20]])
    assert (turned == pillow).all(-1).mean() > 0.995
    if degrees == 0:
        assert np.array_equal(turned, TRAIN.images[:20])


def test_every_image_is_turned_by_an_angle_of_its_own() -> None:
    angles = torch.tensor([0.0, 10.0, -10.0, 90.0], dtype=torch.float64)
    images = torch.from_numpy(TRAIN.images[:4]).permute(0, 3, 1, 2)
    together = rotate(images, angles)
    apart = torch.cat([rotate(image[None], angle[None]) for image, angle in zip(images, angles, strict=True)])
    assert torch.equal(together, apart)


def test_angles_are_uniform_within_the_limit() -> None:
    """A white spot to the right of the centre tells the angle that it was turned by."""
    spot = np.zeros((1, 32, 32, 3), np.uint8)
    spot[:, 14:18, 26:30] = 255
    got = pixels(epoch(device_set(spot, rotation=60, padding=0, flip=False), 2_000))[:, 0].double() / 255
    along = torch.arange(32) - 15.5
    right, down = ((got.sum(dim) * along).sum(1) for dim in (1, 2))  # [N], of the spot's pixels together
    angles = torch.rad2deg(torch.atan2(-down, right))
    quantiles = angles.quantile(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64))
    assert quantiles.tolist() == pytest.approx([-60, -30, 0, 30, 60], abs=3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_the_device_does_not_change_the_images() -> None:
    part = ArrayPart(TRAIN.images[:50], TRAIN.labels[:50])
    settings = Augmentation(cutout=16, rotation=15)
    steps = in_order(settings.steps())
    on = [DeviceSet(part, CARD, settings, torch.device(device), steps) for device in ("cpu", "cuda")]
    cpu, cuda = (torch.cat([b.images.cpu() for b in s.stream(np.arange(50), 16, generator(0, "a"))]) for s in on)
    torch.testing.assert_close(cpu, cuda)
