"""Colour jitter: brightness, contrast, saturation and hue changed at random."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.augmentations import COLOUR, Augment, Draws
from lt_bench.registry import Info
from lt_bench.settings import added

ORDERS, ORDERS_WITH_HUE = (np.array([*permutations(range(count))]) for count in (3, 4))
"""The orders of brightness, contrast and saturation, and of these and hue."""


class ColorJitter(Augment):
    """Brightness, contrast and saturation times a uniform factor each, in an order of its own for every image.

    As torchvision's ColorJitter; with `hue` that is turned as well, among them.
    """

    name = "color-jitter"
    info = Info("brightness, contrast and saturation at random")
    place = COLOUR

    class Config(Augment.Config):
        """Factors lie in [1 - strength, 1 + strength], and not below 0."""

        brightness: FiniteFloat = Field(default=0.4, ge=0, le=10)
        contrast: FiniteFloat = Field(default=0.4, ge=0, le=10)
        saturation: FiniteFloat = Field(default=0.4, ge=0, le=10)
        hue: float = added(0.0, ge=0, le=0.5)
        """Turned by up to so much of a whole turn, either way."""
        probability: float = added(1.0, ge=0, le=1)
        """Of an image's being changed."""

    config: Config

    def draw(self, size: int, height: int, width: int, rng: np.random.Generator, device: torch.device) -> Draws:
        settings = self.config
        strengths = np.array([settings.brightness, settings.contrast, settings.saturation])
        low, high, orders = np.maximum(0, 1 - strengths), 1 + strengths, ORDERS
        if settings.hue:
            low, high, orders = np.append(low, -settings.hue), np.append(high, settings.hue), ORDERS_WITH_HUE
        amounts = rng.uniform(low, high, (size, len(low)))
        chosen = orders[rng.integers(0, len(orders), size)]
        if settings.probability < 1:
            amounts[rng.random(size) >= settings.probability] = NEUTRAL[: len(low)]
        return torch.from_numpy(amounts).float().to(device), chosen

    def apply(self, images: Tensor, *draws: Any) -> Tensor:
        """`draws` are amounts, float32 [B, K], and which of CHANGES comes when, int64 [B, K]; K is 3, 4 with hue."""
        amounts, orders = draws
        images = images.clone()
        for step in orders.T:
            for kind in range(orders.shape[1]):
                members = torch.from_numpy(np.flatnonzero(step == kind)).to(images.device)
                images[members] = CHANGES[kind](images[members], amounts[members, kind])
        return images


def blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """Images towards others by factors [B], uint8 [B, 3, H, W]: f * image + (1 - f) * other, rounded down."""
    share = factors[:, None, None, None]
    return (images * share + others * (1 - share)).clamp_(0, 255).to(images.dtype)


def grey(images: Tensor) -> Tensor:
    """The luminance of images [B, 3, H, W], [B, 1, H, W] of their type."""
    from torchvision.transforms.v2.functional import rgb_to_grayscale  # noqa: PLC0415 (a second)

    found: Any = rgb_to_grayscale(images)
    return found  # type: ignore[no-any-return]


def _brighter(images: Tensor, factors: Tensor) -> Tensor:
    return blend(images, torch.zeros_like(images[:, :1]).float(), factors)


def _contrasted(images: Tensor, factors: Tensor) -> Tensor:
    return blend(images, grey(images).float().mean((-3, -2, -1), keepdim=True), factors)


def _saturated(images: Tensor, factors: Tensor) -> Tensor:
    return blend(images, grey(images).float(), factors)


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Images uint8 [B, 3, H, W] whose hues are turned by shares [B] of a whole turn; value and chroma stay."""
    red, green, blue = images.float().unbind(1)
    value, low = images.amax(1).float(), images.amin(1).float()
    chroma = value - low
    sixths = torch.where(value == red, green - blue, torch.where(value == green, blue - red, red - green))
    start = torch.where(value == red, 0.0, torch.where(value == green, 2.0, 4.0))
    hue = start + sixths / chroma.clamp_min(1) + 6 * turns[:, None, None]  # in sixths of a turn
    away = (torch.stack([(place + hue) % 6 for place in (5, 3, 1)], 1) - 2).abs()
    changed = value[:, None] - chroma[:, None] * (2 - away).clamp(0, 1)
    return changed.round().to(images.dtype)


CHANGES = (_brighter, _contrasted, _saturated, turned)
NEUTRAL = np.array([1.0, 1.0, 1.0, 0.0])
"""Amounts of CHANGES that change nothing."""
