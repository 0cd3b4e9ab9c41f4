"""Colour jitter: brightness, contrast and saturation changed at random."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.augmentations import COLOUR, Augment, Draws
from lt_bench.registry import Info

ORDERS = tuple(permutations(range(3)))


class ColorJitter(Augment):
    """Brightness, contrast and saturation times a uniform factor each, in an order of its own for every image.

    As torchvision's ColorJitter without hue.
    """

    name = "color-jitter"
    info = Info("brightness, contrast and saturation at random")
    place = COLOUR

    class Config(Augment.Config):
        """Factors lie in [1 - strength, 1 + strength], and not below 0."""

        brightness: FiniteFloat = Field(default=0.4, ge=0, le=10)
        contrast: FiniteFloat = Field(default=0.4, ge=0, le=10)
        saturation: FiniteFloat = Field(default=0.4, ge=0, le=10)

    config: Config

    def draw(self, size: int, height: int, width: int, rng: np.random.Generator, device: torch.device) -> Draws:
        strengths = np.array([self.config.brightness, self.config.contrast, self.config.saturation])
        factors = rng.uniform(np.maximum(0, 1 - strengths), 1 + strengths, (size, 3))
        return torch.from_numpy(factors).float().to(device), rng.integers(0, len(ORDERS), size)

    def apply(self, images: Tensor, *draws: Any) -> Tensor:
        """`draws` are the three factors, float32 [B, 3], and the place of the order in ORDERS, int64 [B]."""
        factors, orders = draws
        images = images.clone()
        for row in np.unique(orders).tolist():
            members = torch.from_numpy(np.flatnonzero(orders == row)).to(images.device)
            part = images[members]
            for change in ORDERS[row]:
                part = blend(part, TOWARDS[change](part), factors[members, change])
            images[members] = part
        return images


def blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """Images towards others by factors [B], uint8 [B, 3, H, W]: f * image + (1 - f) * other, rounded down."""
    share = factors[:, None, None, None]
    return (images * share + others * (1 - share)).clamp_(0, 255).to(images.dtype)


def _grey(images: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import rgb_to_grayscale  # noqa: PLC0415 (a second)

    grey: Any = rgb_to_grayscale(images)
    return grey.float()  # type: ignore[no-any-return]


def _mean_grey(images: Tensor) -> Tensor:
    return _grey(images).mean((-3, -2, -1), keepdim=True)


TOWARDS = (lambda images: torch.zeros_like(images[:, :1]).float(), _mean_grey, _grey)
"""What a factor of 0 makes of images: black, their mean grey, themselves in grey."""
