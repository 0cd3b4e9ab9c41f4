"""Rotation by a small random angle."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.augmentations import GEOMETRY, Augment, Draws
from lt_bench.registry import Info


class Rotation(Augment):
    """Every image turned by up to so many degrees either way, to the nearest pixel, with black corners."""

    name = "rotation"
    info = Info("images turned by a random angle")
    place = GEOMETRY

    class Config(Augment.Config):
        """As in the protocols of RIDE and SADE."""

        degrees: FiniteFloat = Field(default=15.0, gt=0, le=180)

    config: Config

    def draw(self, size: int, height: int, width: int, rng: np.random.Generator, device: torch.device) -> Draws:
        # float64: in float32 devices would round some pixels differently.
        angles = rng.uniform(-self.config.degrees, self.config.degrees, size)
        return (torch.from_numpy(angles).to(device),)

    def apply(self, images: Tensor, *draws: Any) -> Tensor:
        return rotate(images, *draws)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn each image [B, 3, H, W] counter-clockwise about its centre by its angle, float [B], as Pillow does.

    Every pixel becomes the one that its centre comes from, black where that lies outside.
    """
    height, width = images.shape[-2:]
    angle = torch.deg2rad(degrees)[:, None, None]
    sin, cos = angle.sin(), angle.cos()
    y = torch.arange(height, device=images.device)[:, None] + 0.5 - height / 2  # [H, 1], downwards
    x = torch.arange(width, device=images.device) + 0.5 - width / 2  # [W]
    rows = (sin * x + cos * y + height / 2).floor().long()  # [B, H, W]
    columns = (cos * x - sin * y + width / 2).floor().long()
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    source = (rows * width + columns).where(inside, 0).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, source).view_as(images) * inside[:, None]
