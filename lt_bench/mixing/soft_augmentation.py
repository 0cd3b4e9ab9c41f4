"""Soft augmentation: images shifted far out of sight, and targets that are the less sure the less is left of them."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.types import Batch, ClassStats, IntArray, Step
from lt_bench.mixing import Mix, Mixed, sent
from lt_bench.ranks.division import for_images, summed
from lt_bench.registry import Info, between

ATTEMPTS = 100


class SoftAugmentation(Mix):
    """The label of an image of which v is visible gets p = 1 - (1 - 1/C) (1 - v)^k, the other classes the rest.

    Rows and columns are shifted by integers of a normal law, cut at the image's sides. What comes into sight is one
    value a channel, near the mean colour. The loss is also weighted by p; up to the targets' entropy, which has no
    gradient, it is the paper's divergence. In the authors' code the shift takes the place of the random crop; here it
    follows the protocol's, so that protocols stay what they are. Paper: Liu et al., CVPR 2023, arXiv 2211.04625.
    """

    name = "soft-augmentation"
    info = Info("far shifts, targets as sure as the image is visible", "Liu et al., CVPR 2023", 2023)
    refuses_partners = "it mixes no images"
    of_two_labels = False
    acts = "shift images"
    timing = "until {until} of the epochs"

    class Config(Mix.Config):
        """As in the authors' commands for CIFAR."""

        sigma: FiniteFloat = Field(default=0.375, ge=0)
        """Of the shifts, in sides of the image: 12 of 32 pixels."""
        power: FiniteFloat = Field(default=2.0, gt=0)
        """k: the higher, the longer targets stay sure."""
        background: FiniteFloat = Field(default=0.01, ge=0)
        """Standard deviation of the values that fill what comes into sight, of normalised pixels."""
        reweight: Literal["sample", "batch", "none"] = "sample"
        """What the loss is weighted by: each image's p, or, as the released code does, the batch's mean p."""
        until: float = Field(default=0.96, gt=0, le=1)
        """Share of the epochs after which images are shifted no more: epoch 480 of 500."""

    config: Config

    @classmethod
    def active_epochs(cls, config: Config, epochs: range, total: int) -> range:
        return between(epochs, 0, round(config.until * total))

    def prepare(self, stats: ClassStats) -> None:
        self.num_classes = stats.num_classes

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        if step.epoch.index >= round(self.config.until * step.epoch.total):
            return Mixed.plain(batch)
        size, channels, *sides = batch.images.shape
        draws = [partial(draw_shifts, side=side, sigma=self.config.sigma * side, rng=step.rng) for side in sides]
        shifts = np.stack([for_images(size, draw) for draw in draws], 1)
        fill = for_images(size, lambda images: step.rng.normal(0, self.config.background, (images, channels)))
        p = self.confidence(np.prod(1 - np.abs(shifts) / sides, axis=1))
        device = batch.images.device
        images = shifted(batch.images, torch.from_numpy(shifts).to(device, non_blocking=True), sent(fill, device))
        return Mixed(images, tuple(self.terms(batch.labels, p)))

    def confidence(self, visible: np.ndarray) -> np.ndarray:
        """P [B] in [1 / C, 1] for visible parts [B] in [0, 1]."""
        return 1 - (1 - 1 / self.num_classes) * (1 - visible) ** self.config.power

    def terms(self, labels: Tensor, p: np.ndarray) -> list[tuple[Tensor | None, Tensor]]:
        """P on the label [B] and the same on each of the other classes, times the weight: shares sum to that."""
        other = (1 - p) / (self.num_classes - 1)
        weight = {"sample": p, "batch": np.full_like(p, batch_mean(p)), "none": np.ones_like(p)}[self.config.reweight]
        shares = (weight * (p - other), weight * self.num_classes * other)
        return [(which, sent(share, labels.device)) for which, share in zip((labels, None), shares, strict=True)]


def batch_mean(values: np.ndarray) -> float:
    """Over the images of the whole batch, of which this process may have a part."""
    total, count = summed(torch.tensor([values.sum(), len(values)])).tolist()
    return float(total / count)


def draw_shifts(size: int, side: int, sigma: float, rng: np.random.Generator) -> IntArray:
    """Shifts int64 [B] along an axis: normal, drawn again beyond the side, then cut to whole pixels towards 0."""
    drawn, wanting = np.zeros(size), np.arange(size)
    for _ in range(ATTEMPTS):
        values = rng.normal(0, sigma, len(wanting))
        inside = np.abs(values) <= side
        drawn[wanting[inside]] = values[inside]
        wanting = wanting[~inside]
    whole: IntArray = np.trunc(drawn).astype(np.int64)
    return whole


def shifted(images: Tensor, shifts: Tensor, fill: Tensor) -> Tensor:
    """Images [B, 3, H, W] through a window shifted by rows and columns int64 [B, 2], with a fill [B, 3]."""
    size, channels, height, width = images.shape
    device = images.device
    rows, columns = (
        torch.arange(n, device=device) + shift[:, None] for n, shift in ((height, shifts[:, 0]), (width, shifts[:, 1]))
    )
    inside = ((rows >= 0) & (rows < height))[:, None, :, None] & ((columns >= 0) & (columns < width))[:, None, None]
    picture = torch.arange(size, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    seen = images[
        picture, channel, rows.clamp(0, height - 1)[:, None, :, None], columns.clamp(0, width - 1)[:, None, None]
    ]
    return torch.where(inside, seen, fill[:, :, None, None])
