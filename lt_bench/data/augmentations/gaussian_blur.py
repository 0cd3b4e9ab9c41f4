"""Gaussian blur of some images, as the views of contrastive learning have it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.augmentations import COLOUR, Augment, Draws, rising
from lt_bench.registry import Info

REACH = 3
"""Standard deviations to either side that are summed over."""


class GaussianBlur(Augment):
    """A uniform standard deviation of its own for each image that is blurred; pixels at the border go on beyond it.

    The exact filter, where Pillow has three boxes in its place.
    """

    name = "gaussian-blur"
    info = Info("some images blurred", "Chen et al., ICML 2020", 2020)
    place = COLOUR

    class Config(Augment.Config):
        """SimCLR's, in pixels, as MoCo v2 and what follows it have them on images of every size."""

        probability: float = Field(default=0.5, ge=0, le=1)
        smallest: FiniteFloat = Field(default=0.1, ge=0.01, le=100)
        """Standard deviation, in pixels."""
        largest: FiniteFloat = Field(default=2.0, ge=0.01, le=100)

        _rising = model_validator(mode="after")(rising)

    config: Config

    def draw(self, size: int, height: int, width: int, rng: np.random.Generator, device: torch.device) -> Draws:
        deviations = rng.uniform(self.config.smallest, self.config.largest, size)
        return (np.where(rng.random(size) < self.config.probability, deviations, 0.0),)

    def apply(self, images: Tensor, *draws: Any) -> Tensor:
        """`draws` is one float64 [B], the standard deviations; 0 for images that stay as they are."""
        (deviations,) = draws
        images, members = images.clone(), np.flatnonzero(deviations)
        if len(members):
            places = torch.from_numpy(members).to(images.device)
            own = torch.from_numpy(deviations[members]).to(images.device)
            images[places] = blurred(images[places], own, math.ceil(REACH * self.config.largest))
        return images


def blurred(images: Tensor, deviations: Tensor, reach: int) -> Tensor:
    """Images uint8 [B, 3, H, W], each with its own standard deviation [B], over `reach` pixels to either side."""
    size, channels, height, width = images.shape
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-(offsets**2) / (2 * deviations[:, None] ** 2)).float()
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # [3B, 2 reach + 1]
    pixels = F.pad(images.reshape(1, -1, height, width).float(), (reach,) * 4, mode="replicate")
    pixels = F.conv2d(pixels, weights[:, None, :, None], groups=size * channels)
    pixels = F.conv2d(pixels, weights[:, None, None, :], groups=size * channels)
    return pixels.reshape(images.shape).round().to(images.dtype)
