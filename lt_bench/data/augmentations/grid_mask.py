"""GridMask: squares on a turned lattice deleted, ever more often as the training goes on (Chen et al. 2020)."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from lt_bench.data.augmentations import ERASING, Augment, Draws, rising
from lt_bench.registry import Info


class GridMask(Augment):
    """Bars of width ceil(ratio * d) stay on a lattice of period d, shifted and turned; the squares between them are 0.

    Deleted pixels are 0 after the normalisation, the mean colour. Periods are those of the ImageNet code, 96 to 224 of
    224 pixels, as shares of the side; none for smaller images could be read. The probability rises linearly from 0 over
    the first 240 of its 300 epochs.
    """

    name = "grid-mask"
    info = Info("squares on a turned lattice deleted from some images", "Chen et al. 2020", 2020)
    place = ERASING
    normalised = True

    class Config(Augment.Config):
        """How often, and what the lattice is like."""

        probability: float = Field(default=0.8, ge=0, le=1)
        """At the end of the rise."""
        rise: float = Field(default=0.8, ge=0, le=1)
        """Share of the training over which it rises."""
        smallest: float = Field(default=3 / 7, gt=0, le=1)
        """Period d, as a share of the image's shorter side."""
        largest: float = Field(default=1.0, gt=0, le=1)
        ratio: float = Field(default=0.6, gt=0, le=1)
        """Width of the bars as a share of the period: 1 - (1 - ratio)^2 of the pixels stay."""
        rotation: int = Field(default=360, ge=1, le=360)
        """The lattice is turned by a whole number of degrees below it."""

        _rising = model_validator(mode="after")(rising)

    config: Config

    def at(self, progress: float) -> Self:
        reached = min(1.0, progress / self.config.rise) if self.config.rise else 1.0
        return type(self)(
            self.config.model_copy(update={"probability": self.config.probability * reached, "rise": 0.0})
        )

    def draw(self, size: int, height: int, width: int, rng: np.random.Generator, device: torch.device) -> Draws:
        settings, side = self.config, min(height, width)
        low, high = (max(2, round(share * side)) for share in (settings.smallest, settings.largest))
        period = rng.integers(low, max(high, low + 1), size)
        offset = rng.integers(0, period[:, None], (size, 2))
        angle = np.radians(rng.integers(0, settings.rotation, size))
        masked = rng.random(size) < settings.probability
        return tuple(torch.from_numpy(one).to(device) for one in (period, offset, angle, masked))

    def apply(self, images: Tensor, *draws: Any) -> Tensor:
        """`draws` are int64 periods [B] and offsets [B, 2], angles in radians [B], and whether to delete, bool [B]."""
        period, offset, angle, masked = draws
        height, width = images.shape[-2:]
        kept = grid(height, width, period, offset, angle, self.config.ratio) | ~masked[:, None, None]
        varied: Tensor = images * kept[:, None]
        return varied


def grid(height: int, width: int, period: Tensor, offset: Tensor, angle: Tensor, ratio: float) -> Tensor:
    """Which pixels stay, bool [B, H, W].

    The lattice lies on a square whose side is the image's diagonal, and fills it whatever its offset; the image is what
    its middle shows after turning.
    """
    canvas = math.ceil(math.hypot(height, width))
    rows, columns = (
        (torch.arange(n, device=period.device) + (canvas - n) // 2 + 0.5 - canvas / 2).double() for n in (height, width)
    )
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    # Where each pixel's middle was before the turn.
    row = (cos * rows[:, None] - sin * columns + canvas / 2 + 1e-9).floor()
    column = (sin * rows[:, None] + cos * columns + canvas / 2 + 1e-9).floor()
    bar = torch.ceil(period.double() * ratio - 1e-9)[:, None, None]
    rows_on_bar, columns_on_bar = (
        (at - start) % period[:, None, None] < bar
        for at, start in ((row, offset[:, 0, None, None]), (column, offset[:, 1, None, None]))
    )
    kept: Tensor = rows_on_bar | columns_on_bar
    return kept
