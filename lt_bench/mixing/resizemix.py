"""ResizeMix: a whole image, shrunk, pasted somewhere into another."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from lt_bench.data.types import Batch, IntArray, Step
from lt_bench.mixing import Mix, Mixed, permuted
from lt_bench.ranks.division import for_images
from lt_bench.registry import Info


class ResizeMix(Mix):
    """One scale ~ U(smallest, largest) per batch, one place for each image; labels by area.

    Shrunk to the nearest pixel, so that row i of the small image is row floor(i / scale) of the large one, as in the
    authors' code. Paper: Qin et al., arXiv 2012.11101.
    """

    name = "resizemix"
    info = Info("another image pasted in, shrunk as a whole", "Qin et al. 2020", 2020)

    class Config(Mix.Config):
        """How small the pasted image may be."""

        smallest: float = Field(default=0.1, gt=0, lt=1)
        """Least scale of its sides."""
        largest: float = Field(default=0.8, gt=0, lt=1)
        """Greatest scale of its sides."""

        @model_validator(mode="after")
        def _in_order(self) -> ResizeMix.Config:
            if self.smallest > self.largest:
                raise ValueError(f"smallest {self.smallest:g} is above largest {self.largest:g}")
            return self

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        partner = partner or permuted(batch, step.rng)
        size, _, *sides = batch.images.shape
        scale = step.rng.uniform(self.config.smallest, self.config.largest)
        small = [int(side * scale) for side in sides]
        pairs = zip(sides, small, strict=True)
        draws = [partial(draw_corners, side=side, small=box, rng=step.rng) for side, box in pairs]
        corners = np.stack([for_images(size, draw) for draw in draws], 1)
        images = pasted(batch.images, partner.images, torch.from_numpy(corners), scale)
        share = 1 - small[0] * small[1] / (sides[0] * sides[1])
        return Mixed(images, ((batch.labels, share), (partner.labels, 1 - share)))


def draw_corners(size: int, side: int, small: int, rng: np.random.Generator) -> IntArray:
    """Where `size` boxes of side `small` begin: around centres drawn uniformly, moved to lie within `side` pixels."""
    corners: IntArray = np.clip(rng.integers(side, size=size) - small // 2, 0, side - small)
    return corners


def pasted(images: Tensor, others: Tensor, corners: Tensor, scale: float) -> Tensor:
    """Images [B, 3, H, W] with other ones, shrunk by a scale, pasted in at corners int64 [B, 2], rows and columns."""
    corners = corners.to(images.device, non_blocking=True)
    inside, source = [], []
    for axis, side in enumerate(images.shape[2:]):
        place = torch.arange(side, device=images.device) - corners[:, axis, None]  # [B, side], within the small image
        small = int(side * scale)
        inside.append((place >= 0) & (place < small))
        source.append((place.clamp(0, max(small - 1, 0)) / scale).long().clamp(max=side - 1))
    picture = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[:, None, None]
    seen = others[picture, channel, source[0][:, None, :, None], source[1][:, None, None, :]]
    return torch.where(inside[0][:, None, :, None] & inside[1][:, None, None, :], seen, images)
