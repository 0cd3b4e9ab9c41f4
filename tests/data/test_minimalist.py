"""Minimalist data augmentation: the values of the card, and crops that are squares inside their images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import TRAIN, tiny_card
from torchvision.transforms import v2

from lt_bench.data.augment import Augmentation
from lt_bench.data.types import Epoch, generator
from lt_bench.data.view_set import ViewSet
from lt_bench.data.views import RandomView, Squares

PLAIN: dict[str, Any] = {"kind": "resized-crop", "size": 40, "mean": [0, 0, 0], "std": [1, 1, 1], "color_jitter": 0.0}
PHOTOGRAPH, SMALL = Image.new("RGB", (500, 375)), Image.new("RGB", (32, 32))


def settings(kind: str = "convex") -> Augmentation:
    return Augmentation.read(PLAIN | {"minimalist": kind, "flip": False})


@pytest.mark.parametrize(
    ("kind", "epochs", "expected"),
    [
        ("convex", 5, {0: 0.08, 1: 0.109214, 2: 0.203257, 3: 0.391477, 4: 1}),
        ("linear", 5, {0: 0.08, 1: 0.31, 2: 0.54, 3: 0.77, 4: 1}),
        ("concave", 5, {0: 0.08, 1: 0.688523, 2: 0.876743, 3: 0.970786, 4: 1}),
        ("convex", 15, {1: 0.08235, 7: 0.203257, 13: 0.658539, 14: 1}),
        ("min", 5, {0: 0.08, 4: 0.08}),
        ("max", 5, {0: 1, 4: 1}),
        ("convex", 1, {0: 1}),
    ],
)
def test_the_smallest_share_rises_over_the_epochs(kind: str, epochs: int, expected: dict[int, float]) -> None:
    found = {e: settings(kind).scale_at(Epoch(e, epochs, 0).progress, epochs) for e in expected}
    assert {e: low for e, (low, _) in found.items()} == pytest.approx(expected, abs=6e-7)
    assert {high for _, high in found.values()} == {1.0}


def test_the_last_of_any_number_of_epochs_shows_all_there_is_room_for() -> None:
    lasts = [Epoch(total - 1, total, 0) for total in range(1, 400)]
    assert {settings().scale_at(last.progress, last.total) for last in lasts} == {(1.0, 1.0)}


@pytest.mark.parametrize(("image", "smallest", "largest"), [(PHOTOGRAPH, 122, 375), (SMALL, 9, 32)])
def test_the_smallest_and_the_largest_square(image: Image.Image, smallest: int, largest: int) -> None:
    assert Squares((0.08, 0.08))(image)[2:] == (smallest, smallest)
    assert Squares((1.0, 1.0))(image)[2:] == (largest, largest)


def test_squares_lie_anywhere_in_the_image_with_any_area_in_the_range() -> None:
    torch.manual_seed(0)
    drawn = np.array([Squares((0.08, 1.0))(PHOTOGRAPH) for _ in range(2000)])
    left, top, width, height = drawn.T
    assert (width == height).all()
    assert min(left.min(), top.min()) == 0
    assert ((left + width).max(), (top + height).max()) == (500, 375)
    shares = width**2 / (500 * 375)
    assert np.quantile(shares, [0, 0.5, 1]) == pytest.approx([0.08, (0.08 + 0.75) / 2, 0.75], abs=0.02)
    room = 500 - width
    assert (left / room).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (2, 2)])
def test_the_smallest_images_have_a_square_too(size: tuple[int, int]) -> None:
    assert Squares((0.01, 0.01))(Image.new("RGB", size))[2:] == (1, 1)


def test_a_set_is_told_the_epoch_and_workers_change_nothing() -> None:
    order = np.arange(6)

    def images(progress: float, workers: int = 0) -> torch.Tensor:
        made = ViewSet(TRAIN, tiny_card(), settings(), torch.device("cpu"), workers, epochs=5)
        (batch,) = made.stream(order, 6, generator(0, "a"), progress)
        return (batch.images * 255).round().byte()

    whole = v2.Compose([v2.Resize((40, 40)), v2.PILToTensor()])
    assert torch.equal(images(4 / 5), torch.stack([whole(Image.fromarray(TRAIN.images[k])) for k in order]))
    assert torch.equal(images(0.2), images(0.2, workers=1))
    torch.manual_seed(int(generator(0, "a").integers(0, 2**32, 6, dtype=np.uint32)[0]))
    left, top, side, _ = RandomView(settings(), False, 0.2, 5)(SMALL).box
    part = v2.functional.crop(Image.fromarray(TRAIN.images[0]), top, left, side, side)
    assert torch.equal(images(0.2)[0], whole(part))
