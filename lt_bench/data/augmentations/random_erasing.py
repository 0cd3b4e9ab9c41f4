"""Random erasing: a box of random size and shape (Zhong et al., AAAI 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor

from lt_bench.data.augmentations import ERASING, Augment, Draws, rising
from lt_bench.data.types import IntArray
from lt_bench.registry import Info

ATTEMPTS = 100
Colour = tuple[FiniteFloat, FiniteFloat, FiniteFloat]


class RandomErasing(Augment):
    """A box inside of an image, filled with one colour, with probability `probability`.

    Its area is a uniform share of the image's, its height over its width is uniform in [aspect, 1 / aspect], so that
    tall boxes are more frequent; what does not fit is drawn again, up to a hundred times.
    """

    name = "random-erasing"
    info = Info("a random box of some images erased", "Zhong et al., AAAI 2020", 2020)
    place = ERASING
    normalised = True

    class Config(Augment.Config):
        """As in the official code, which fills with this colour after the normalisation."""

        probability: float = Field(default=0.5, ge=0, le=1)
        smallest: float = Field(default=0.02, gt=0, lt=1)
        """Share of the image's area."""
        largest: float = Field(default=0.4, gt=0, lt=1)
        aspect: float = Field(default=0.3, gt=0, le=1)
        value: Colour = (0.4914, 0.4822, 0.4465)
        """Of the normalised pixels."""

        _rising = model_validator(mode="after")(rising)

    config: Config

    def draw(self, size: int, height: int, width: int, rng: np.random.Generator, device: torch.device) -> Draws:
        settings = self.config
        sides = np.zeros((size, 2), dtype=np.int64)  # of no box
        wanting = np.flatnonzero(rng.random(size) < settings.probability)
        for _ in range(ATTEMPTS):
            area = rng.uniform(settings.smallest, settings.largest, len(wanting)) * height * width
            aspect = rng.uniform(settings.aspect, 1 / settings.aspect, len(wanting))
            found = box_sides(area, aspect)
            fits = (found < (height, width)).all(1)
            sides[wanting[fits]] = found[fits]
            wanting = wanting[~fits]
        corners = rng.integers(0, np.array([height, width]) - sides + 1)
        return tuple(torch.from_numpy(one).to(device) for one in (corners, corners + sides))

    def apply(self, images: Tensor, *draws: Any) -> Tensor:
        """`draws` are the first row and column of each box and those behind it, int64 [B, 2] each."""
        first, behind = draws
        rows, columns = (torch.arange(side, device=images.device) for side in images.shape[-2:])
        in_rows = (rows >= first[:, :1]) & (rows < behind[:, :1])  # [B, H]
        in_columns = (columns >= first[:, 1:]) & (columns < behind[:, 1:])  # [B, W]
        value = torch.tensor(self.config.value, dtype=images.dtype, device=images.device)[:, None, None]
        return torch.where((in_rows[:, :, None] & in_columns[:, None, :])[:, None], value, images)


def box_sides(area: np.ndarray, aspect: np.ndarray) -> IntArray:
    """Height and width of boxes, int64 [N, 2], from areas in pixels and heights over widths."""
    sides = np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], axis=-1)
    whole: IntArray = np.rint(sides).astype(np.int64)
    return whole
