"""SmoothMix: another image seen through a soft round hole."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, model_validator

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, permuted, sent
from lt_bench.registry import Info


class SmoothMix(Mix):
    """x = (1 - G) x_i + G x_j with one Gaussian G of height 1 per batch; the share of i is 1 - mean(G).

    G = exp(-r^2 / 2 s^2) around a point drawn uniformly, s ~ U(narrowest, widest) heights. A public toolbox has
    the shares the other way round, which is not copied. Paper: Lee et al., CVPR Workshops 2020.
    """

    name = "smoothmix"
    info = Info("another image through a soft round hole", "Lee et al., CVPR Workshops 2020", 2020)

    class Config(Mix.Config):
        """How wide the hole is, in heights of the image."""

        narrowest: float = Field(default=0.25, gt=0, le=10)
        """Least standard deviation of the Gaussian."""
        widest: float = Field(default=0.5, gt=0, le=10)
        """Greatest standard deviation of the Gaussian."""

        @model_validator(mode="after")
        def _in_order(self) -> SmoothMix.Config:
            if self.narrowest > self.widest:
                raise ValueError(f"narrowest {self.narrowest:g} is above widest {self.widest:g}")
            return self

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        partner = partner or permuted(batch, step.rng)
        height, width = batch.images.shape[2:]
        deviation = height * step.rng.uniform(self.config.narrowest, self.config.widest)
        row, column = step.rng.uniform(0, height - 1), step.rng.uniform(0, width - 1)
        hole = gaussian(height, width, row, column, deviation)
        share = 1 - float(hole.mean())
        images = torch.lerp(batch.images, partner.images, sent(hole, batch.images.device))
        return Mixed(images, ((batch.labels, share), (partner.labels, 1 - share)))


def gaussian(height: int, width: int, row: float, column: float, deviation: float) -> np.ndarray:
    """Exp(-r^2 / 2 s^2) of the distance r of every pixel, [H, W], from a place among them."""
    squares = [(np.arange(side) - centre) ** 2 for side, centre in ((height, row), (width, column))]
    fall: np.ndarray = np.exp(-(squares[0][:, None] + squares[1]) / (2 * deviation**2))
    return fall
