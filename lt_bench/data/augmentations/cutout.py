"""Cutout: one black square or more (DeVries and Taylor 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lt_bench.data.augmentations import ERASING, Augment, Draws
from lt_bench.registry import Info


class Cutout(Augment):
    """Squares about points of the image, so that a part of them may lie outside, always.

    Black, before normalisation, as in the field's protocols; the paper's code blackens after it, which is the mean
    colour.
    """

    name = "cutout"
    info = Info("a square of every image erased", "DeVries and Taylor 2017", 2017)
    place = ERASING

    class Config(Augment.Config):
        """The paper: 16 pixels on CIFAR-10, 8 on CIFAR-100."""

        side: int = Field(default=16, ge=1, le=1024)
        """Of a square, in pixels."""
        holes: int = Field(default=1, ge=1, le=64)
        """Squares on every image."""

    config: Config

    def draw(self, size: int, height: int, width: int, rng: np.random.Generator, device: torch.device) -> Draws:
        centres = rng.integers(0, (height, width), (size, self.config.holes, 2))
        return (torch.from_numpy(centres).to(device),)

    def apply(self, images: Tensor, *draws: Any) -> Tensor:
        (centres,) = draws
        for hole in centres.unbind(1):
            images = cut_out(images, hole, self.config.side)
        return images


def cut_out(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Blacken one square in each image [B, 3, H, W], clipped at the border; `centres` int64 [B, 2] are row, column."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) - centres[:, :1]  # [B, H]
    columns = torch.arange(width, device=images.device) - centres[:, 1:]  # [B, W]
    low, high = -(side // 2), side - side // 2
    outside_rows, outside_columns = (rows < low) | (rows >= high), (columns < low) | (columns >= high)
    return images * (outside_rows[:, None, :, None] | outside_columns[:, None, None, :])
