"""GridMixup: another image seen through a lattice of holes in a part of this one."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field, FiniteFloat

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, permuted, sent
from lt_bench.mixing.mixup import draw_share
from lt_bench.registry import Info


class GridMixup(Mix):
    """One lattice per batch, in a rectangle of a share ~ U(0.5, 1) of the image and an aspect ~ U(0.5, 2).

    It has 2 to 6 holes along its width, in cells as high as wide; a hole has the share 1 - l of its cell, at least a
    pixel and not the whole, with l ~ Beta(alpha, alpha). Labels follow the pixels.

    This is not GridMix (Baek et al., Pattern Recognition 2021), whose cells are chosen at random and have labels of
    their own: that paper could not be read. It is what a public toolbox, OpenMixup, gives figures for under that name,
    from a description; where rectangle, holes and the first cell lie is this project's choice.
    """

    name = "gridmixup"
    info = Info("another image through a lattice of holes", "OpenMixup, arXiv 2209.04851", 2022)

    class Config(Mix.Config):
        """As in the toolbox's tables for CIFAR."""

        alpha: FiniteFloat = Field(default=0.2, gt=0)
        """Both parameters of the Beta law of the share of a cell that stays."""

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        partner = partner or permuted(batch, step.rng)
        height, width = batch.images.shape[2:]
        mask = lattice(height, width, draw_share(self.config.alpha, step.rng), step.rng)
        share = 1 - float(mask.mean())
        seen = sent(mask, batch.images.device)
        return Mixed(
            batch.images * (1 - seen) + partner.images * seen, ((batch.labels, share), (partner.labels, 1 - share))
        )


def lattice(height: int, width: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """The mask [H, W] of holes that leave about a share of the pixels in a random rectangle."""
    area, aspect = rng.uniform(0.5, 1) * height * width, rng.uniform(0.5, 2)
    rows, columns = (max(1, min(round(side), most)) for side, most in _sides(area, aspect, height, width))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    holes = int(rng.integers(2, 7))
    cell = max(1, columns // holes)
    hole = min(max(1, round(math.sqrt(1 - share) * cell)), max(1, cell - 1))
    inside = [np.arange(side) % cell < hole for side in (rows, min(columns, holes * cell))]
    mask = np.zeros((height, width))
    mask[top : top + rows, left : left + len(inside[1])] = np.outer(*inside)
    return mask


def _sides(area: float, aspect: float, height: int, width: int) -> list[tuple[float, int]]:
    """Rows and columns of a rectangle, `aspect` times as wide as high, each with how many there are at most."""
    return [(math.sqrt(area / aspect), height), (math.sqrt(area * aspect), width)]
