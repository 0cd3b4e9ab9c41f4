"""RICAP: four crops put together, labels by area."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, FiniteFloat

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, permuted
from lt_bench.registry import Info


class RICAP(Mix):
    """Random image cropping and patching: two cuts ~ Beta(b, b) per batch, in each quarter a crop of another image.

    The first quarter is of the images themselves, the others of three permutations of the batch; crops lie at random,
    one place for a batch and quarter. Paper: Takahashi et al., ACML 2018, arXiv 1811.09030.
    """

    name = "ricap"
    info = Info("crops of four images in four quarters, labels by area", "Takahashi et al., ACML 2018", 2018)
    refuses_partners = "it mixes four images of one batch"
    of_two_labels = False

    class Config(Mix.Config):
        """Where the cuts lie."""

        beta: FiniteFloat = Field(default=0.3, gt=0)
        """Both parameters of their Beta law: small, one image has nearly all."""

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        height, width = batch.images.shape[2:]
        row, column = (round(side * step.rng.beta(self.config.beta, self.config.beta)) for side in (height, width))
        sources = [batch, *(permuted(batch, step.rng) for _ in range(3))]
        quarters = [(rows, columns) for rows in (row, height - row) for columns in (column, width - column)]
        crops = [draw_crop(source, *sides, step.rng) for source, sides in zip(sources, quarters, strict=True)]
        images = torch.cat([torch.cat(crops[:2], 3), torch.cat(crops[2:], 3)], 2)
        shares = [rows * columns / (height * width) for rows, columns in quarters]
        return Mixed(images, tuple((source.labels, share) for source, share in zip(sources, shares, strict=True)))


def draw_crop(batch: Batch, rows: int, columns: int, rng: np.random.Generator) -> torch.Tensor:
    """Images [B, 3, rows, columns] from one place in all of them."""
    height, width = batch.images.shape[2:]
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    return batch.images[:, :, top : top + rows, left : left + columns]
