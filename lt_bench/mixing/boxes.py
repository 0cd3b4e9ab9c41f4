"""The rectangle that CutMix and its kin cut from one image and paste into another."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from torch import Tensor


class Box(NamedTuple):
    """Rows top..bottom and columns left..right of an image, the ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)

    def share_outside(self, height: int, width: int) -> float:
        """The part in [0, 1] of a height x width image that the box leaves visible."""
        return 1 - self.area / (height * width)


def box_around(row: int, column: int, height: int, width: int, share: float) -> Box:
    """The box centred at a pixel that would leave `share` visible, were it not clipped at the border.

    It has the aspect of the image, its sides are rounded down to whole pixels (Yun et al., ICCV 2019, code).
    """
    side = math.sqrt(1 - share)
    return clipped_box(row, column, int(height * side), int(width * side), height, width)


def clipped_box(row: int, column: int, rows: int, columns: int, height: int, width: int) -> Box:
    """The part inside an image of a box of rows x columns centred at a pixel; an odd side loses its last pixel."""
    up, left = rows // 2, columns // 2
    return Box(max(row - up, 0), min(row + up, height), max(column - left, 0), min(column + left, width))


def draw_box(height: int, width: int, share: float, rng: np.random.Generator) -> Box:
    """`box_around` a pixel drawn uniformly."""
    return box_around(int(rng.integers(height)), int(rng.integers(width)), height, width, share)


def paste(images: Tensor, foreground: Tensor, box: Box) -> Tensor:
    """Copies of `images` [..., H, W] that show `foreground` inside the box."""
    top, bottom, left, right = box
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = foreground[..., top:bottom, left:right]
    return mixed
