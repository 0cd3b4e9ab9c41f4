"""GMix: one image shows through another around a point, the less the farther from it."""

from __future__ import annotations

import math

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, permuted, sent
from lt_bench.mixing.mixup import draw_share
from lt_bench.registry import Info


class GMix(Mix):
    """A Gaussian mask in place of CutMix's box; labels follow the mean of the mask.

    One coin, one l ~ Beta(beta, beta) and one centre for a batch; around it is the image of the smaller share. Partners
    stand in opposite order in the released code; law and coin here are this project's choice, where the paper could
    not be read.
    """

    name = "gmix"
    info = Info("another image under a Gaussian mask, labels by its mean", "Park et al., NeurIPS 2022", 2022)

    class Config(Mix.Config):
        """How often, and how large the masks are."""

        beta: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law of the share. 0 is no mixing."""
        probability: float = Field(default=0.5, ge=0, le=1)
        """Of mixing a batch."""

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        if step.rng.random() >= self.config.probability:
            return Mixed.plain(batch)
        height, width = batch.images.shape[-2:]
        other, share = partner or permuted(batch, step.rng), draw_share(self.config.beta, step.rng)
        row, column = int(step.rng.integers(height)), int(step.rng.integers(width))
        mask = own_mask(height, width, row, column, share)
        own = float(mask.mean())  # on the host: nothing waits for the device
        images = torch.lerp(other.images, batch.images, sent(mask.numpy(), batch.images.device))
        return Mixed(images, ((batch.labels, own), (other.labels, 1 - own)))


def own_mask(height: int, width: int, row: int, column: int, share: float) -> Tensor:
    """What an image of this share keeps of its pixels, [H, W] in [0, 1]: the peak, or all but the peak."""
    peak = gaussian(height, width, row, column, min(share, 1 - share))
    return peak if share < 0.5 else 1 - peak


def gaussian(height: int, width: int, row: int, column: int, share: float) -> Tensor:
    """exp(-pi r^2 / share), float64 [H, W], r being the way from the centre in sides of the image."""
    rows, columns = ((torch.arange(n).double() - at) / n for n, at in ((height, row), (width, column)))
    squares = rows[:, None] ** 2 + columns**2
    # The least number keeps a share of 0 from 0 / 0 at the centre.
    return torch.exp(-math.pi * squares / max(share, 1e-12))
