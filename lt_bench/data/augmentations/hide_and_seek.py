"""Hide-and-Seek: the image in cells, half of which are hidden (Singh and Lee, ICCV 2017)."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lt_bench.data.augmentations import ERASING, Augment, Draws
from lt_bench.registry import Info

Share = Annotated[float, Field(ge=0, le=1)]


class HideAndSeek(Augment):
    """Square cells of one of several sizes, drawn for each image, each hidden by a coin; the last ones may be cut off.

    Hidden pixels are 0 after the normalisation, the mean colour. The sizes are those of the code for 224 pixels, as
    shares of the side: 16, 32, 44 and 56 pixels, and none. None for smaller images could be read: there these shares
    are this project's choice, 2, 5, 6 and 8 of 32 pixels.
    """

    name = "hide-and-seek"
    info = Info("cells of every image hidden at random", "Singh and Lee, ICCV 2017", 2017)
    place = ERASING
    normalised = True

    class Config(Augment.Config):
        """How large the cells are, and how many are hidden."""

        sizes: Annotated[tuple[Share, ...], Field(min_length=1)] = (0, 1 / 14, 1 / 7, 11 / 56, 1 / 4)
        """Sides of cells as shares of the image's shorter side, one of which is drawn. 0: the image stays as it is."""
        probability: float = Field(default=0.5, ge=0, le=1)
        """Of hiding a cell."""

    config: Config

    def draw(self, size: int, height: int, width: int, rng: np.random.Generator, device: torch.device) -> Draws:
        sides = np.array([cell_side(share, min(height, width)) for share in self.config.sizes])
        smallest = min([side for side in sides if side], default=max(height, width))
        most = -(-height // smallest), -(-width // smallest)
        side = rng.choice(sides, size)
        hidden = rng.random((size, *most)) < self.config.probability
        return tuple(torch.from_numpy(one).to(device) for one in (side, hidden))

    def apply(self, images: Tensor, *draws: Any) -> Tensor:
        """`draws` are the side of each image's cells, int64 [B], 0 for none, and which are hidden, bool [B, R, C]."""
        side, hidden = draws
        rows, columns = (torch.arange(n, device=images.device) // side.clamp_min(1)[:, None] for n in images.shape[-2:])
        rows, columns = rows.clamp_max(hidden.shape[1] - 1), columns.clamp_max(hidden.shape[2] - 1)
        image = torch.arange(len(images), device=images.device)[:, None, None]
        covered = hidden[image, rows[:, :, None], columns[:, None, :]] & (side > 0)[:, None, None]
        return images.masked_fill(covered[:, None], 0.0)


def cell_side(share: float, side: int) -> int:
    """Pixels on a side of a cell; at least one, unless there are none."""
    return max(1, round(share * side)) if share else 0
