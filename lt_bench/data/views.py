"""What is shown of an image: a box of it, resized, a square of that, perhaps mirrored and in another light."""

from __future__ import annotations

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


class View(NamedTuple):
    """A square of `side` pixels that an image is shown as. All places are in pixels, left and width before others."""

    box: tuple[int, int, int, int]
    """Left, top, width and height of what is resized."""
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


Chooser = Callable[[Image.Image], View]
"""Which view of an image, of which it needs only the size."""


class RandomView:
    """Random resized crop, flip and colour jitter, with the draws of torchvision's transforms."""

    def __init__(self, augmentation: Augmentation, flip: bool) -> None:
        jitter = augmentation.color_jitter
        self.side, self.flip, self.interpolation = augmentation.size, flip, augmentation.interpolation
        self.crop = v2.RandomResizedCrop(augmentation.size, scale=augmentation.scale)
        self.jitter = v2.ColorJitter(jitter, jitter, jitter) if jitter else None

    def __call__(self, image: Image.Image) -> View:
        box = self.crop.make_params([image])
        mirrored = self.flip and bool(torch.rand(1) < MIRRORED)
        place = (box["left"], box["top"], box["width"], box["height"])
        size = (self.side, self.side)
        return View(place, size, (0, 0), self.side, mirrored, self._light(), self.interpolation)

    def _light(self) -> tuple[tuple[str, float], ...]:
        if self.jitter is None:
            return ()
        drawn, names = self.jitter.make_params([]), list(LIGHT)
        return tuple((names[k], drawn[f"{names[k]}_factor"]) for k in drawn["fn_idx"].tolist() if k < len(names))


class CentreView:
    """The shorter side brought to `resize` pixels, and the square in the middle."""

    def __init__(self, side: int, resize: int, interpolation: Interpolation = "bilinear") -> None:
        self.side, self.resize, self.interpolation = side, resize, interpolation

    def __call__(self, image: Image.Image) -> View:
        shorter = min(image.size)
        width, height = (int(self.resize * length / shorter) for length in image.size)
        corner = round((width - self.side) / 2), round((height - self.side) / 2)
        return View((0, 0, *image.size), (width, height), corner, self.side, interpolation=self.interpolation)


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
