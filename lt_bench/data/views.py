"""What is shown of an image: a box of it, resized, a square of that, perhaps mirrored and in another light."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from lt_bench.data.augment import Augmentation, Interpolation

MIRRORED = 0.5
"""Probability of mirroring an image."""
LIGHT = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
}
"""What is jittered, in the order in which torchvision numbers it."""


Box = tuple[int, int, int, int]
"""Left, top, width and height, in pixels."""


class View(NamedTuple):
    """A square of `side` pixels that an image is shown as. All places are in pixels, left and width before others."""

    box: Box
    """Of what is resized."""
    resized: tuple[int, int]
    """Width and height that the box is brought to."""
    corner: tuple[int, int]
    """Left and top of the square in the resized box."""
    side: int
    mirrored: bool = False
    light: tuple[tuple[str, float], ...] = ()
    """Names of LIGHT with factors, in the order in which they are applied."""
    interpolation: Interpolation = "bilinear"

    def shown(self, width: int, height: int) -> list[float]:
        """Of an image of this size: left, top, right and bottom in shares of it, and 1 if mirrored."""
        ends = []
        for axis, length in enumerate((width, height)):
            scale = self.box[2 + axis] / self.resized[axis]
            start = self.box[axis] + self.corner[axis] * scale
            ends.append((start / length, (start + self.side * scale) / length))
        (left, right), (top, bottom) = ends
        return [left, top, right, bottom, float(self.mirrored)]


CENTRE = (0.5, 0.5)
PLACES = {"centre": (CENTRE,), "five-crop": ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), CENTRE)}
"""Of the squares that are shown of a test image, how far to the right and down; in the order of torchvision."""

Chooser = Callable[[Image.Image], View]
"""Which view of an image, of which it needs only the size."""


class Rectangles:
    """Boxes with a share of the area in `scale` and sides in ratios from 3/4 to 4/3, with the draws of torchvision."""

    def __init__(self, scale: tuple[float, float]) -> None:
        self.crop = v2.RandomResizedCrop(1, scale=scale)

    def __call__(self, image: Image.Image) -> Box:
        box = self.crop.make_params([image])
        return box["left"], box["top"], box["width"], box["height"]


class Squares:
    """Squares with a share of the area in `scale`, or as large as there is room for."""

    def __init__(self, scale: tuple[float, float]) -> None:
        self.scale = scale

    def __call__(self, image: Image.Image) -> Box:
        area, largest = math.prod(image.size), min(image.size) ** 2
        low, high = (min(share * area, largest) for share in self.scale)
        side = max(1, round(math.sqrt(torch.empty(1, dtype=torch.float64).uniform_(low, high).item())))
        left, top = (int(torch.randint(length - side + 1, (1,))) for length in image.size)
        return left, top, side, side


class RandomView:
    """Random resized crop, flip and colour jitter, with the draws of torchvision's transforms.

    Crops are those of the epoch before which a share `progress` of the training is over.
    """

    def __init__(self, augmentation: Augmentation, flip: bool, progress: float = 0.0, epochs: int = 1) -> None:
        scale, jitter = augmentation.scale_at(progress, epochs), augmentation.color_jitter
        self.box = Rectangles(scale) if augmentation.minimalist is None else Squares(scale)
        self.side, self.flip, self.interpolation = augmentation.size, flip, augmentation.interpolation
        self.jitter = v2.ColorJitter(jitter, jitter, jitter) if jitter else None

    def __call__(self, image: Image.Image) -> View:
        box, size = self.box(image), (self.side, self.side)
        mirrored = self.flip and bool(torch.rand(1) < MIRRORED)
        return View(box, size, (0, 0), self.side, mirrored, self._light(), self.interpolation)

    def _light(self) -> tuple[tuple[str, float], ...]:
        if self.jitter is None:
            return ()
        drawn, names = self.jitter.make_params([]), list(LIGHT)
        return tuple((names[k], drawn[f"{names[k]}_factor"]) for k in drawn["fn_idx"].tolist() if k < len(names))


class FixedView:
    """The shorter side brought to `resize` pixels, and the square in the middle, or at another of PLACES."""

    def __init__(
        self,
        side: int,
        resize: int,
        interpolation: Interpolation = "bilinear",
        place: tuple[float, float] = CENTRE,
    ) -> None:
        self.side, self.resize, self.interpolation, self.place = side, resize, interpolation, place

    def __call__(self, image: Image.Image) -> View:
        shorter = min(image.size)
        width, height = (int(self.resize * length / shorter) for length in image.size)
        across, down = self.place
        corner = round((width - self.side) * across), round((height - self.side) * down)
        return View((0, 0, *image.size), (width, height), corner, self.side, interpolation=self.interpolation)


def fixed_views(augmentation: Augmentation) -> tuple[FixedView, ...]:
    """All that an evaluation looks at in an image."""
    size, resize = augmentation.size, augmentation.test_resize or round(augmentation.size * 256 / 224)
    places = PLACES[augmentation.test_views]
    return tuple(FixedView(size, resize, augmentation.interpolation, place) for place in places)


class WholeView:
    """The whole image as a square."""

    def __init__(self, side: int, interpolation: Interpolation = "bilinear") -> None:
        self.side, self.interpolation = side, interpolation

    def __call__(self, image: Image.Image) -> View:
        size = (self.side, self.side)
        return View((0, 0, *image.size), size, (0, 0), self.side, interpolation=self.interpolation)


def by_pillow(image: Image.Image, view: View) -> Tensor:
    """The pixels of a view of an RGB image, uint8 [3, side, side]: the ones that every other way must give."""
    left, top, width, height = view.box
    size, mode = [view.resized[1], view.resized[0]], InterpolationMode(view.interpolation)
    seen = F.resized_crop(image, top, left, height, width, size, mode)
    seen = F.crop(seen, view.corner[1], view.corner[0], view.side, view.side)
    seen = F.horizontal_flip(seen) if view.mirrored else seen
    for name, factor in view.light:
        seen = LIGHT[name](seen, factor)
    pixels: Tensor = F.pil_to_tensor(seen)
    return pixels
