"""Remix: mixup of the images, with the label left to the rarer class of an unequal pair."""

from __future__ import annotations

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.types import Batch, ClassStats, Step
from lt_bench.mixing import Mix, Mixed, permuted
from lt_bench.mixing.mixup import draw_share
from lt_bench.registry import Info


class Remix(Mix):
    """x = l x_i + (1 - l) x_j with one l ~ Beta(alpha, alpha) per batch, and a label share l_y for every pair.

    l_y is 0 where n_i >= kappa n_j and l < tau, 1 where n_j >= kappa n_i and 1 - l < tau, and l otherwise;
    n counts training images. On in every batch of every epoch.
    """

    name = "remix"
    info = Info("mixup whose label favours the rarer of two unequal classes", "Chou et al., ECCV 2020 Workshops", 2020)

    class Config(Mix.Config):
        """The law of the mixtures, and which of them give their whole label to the rarer class."""

        alpha: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law. 0 is no mixing."""
        kappa: FiniteFloat = Field(default=3.0, gt=1)
        """How many times larger, at least, the other class must be; a huge value is mixup."""
        tau: float = Field(default=0.5, ge=0, le=1)
        """The larger class must have a smaller share of the pixels than this. 0 is mixup."""

    config: Config
    counts: Tensor

    def prepare(self, stats: ClassStats) -> None:
        self.register_buffer("counts", stats.counts.float(), persistent=False)

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        other = partner or permuted(batch, step.rng)
        share = draw_share(self.config.alpha, step.rng)
        images = torch.lerp(other.images, batch.images, share)
        label_share = self.label_share(batch.labels, other.labels, share)
        return Mixed(images, ((batch.labels, label_share), (other.labels, 1 - label_share)))

    def label_share(self, own: Tensor, other: Tensor, share: float) -> Tensor:
        """l_y float32 [B] of the first labels of the pairs, whose images have a pixel share of `share`."""
        n_i, n_j = self.counts[own], self.counts[other]
        kappa, tau = self.config.kappa, self.config.tau
        # Products, not ratios: 1 / kappa is not exact, and a pair must be treated alike from both sides.
        given_away = (n_i >= kappa * n_j) & (share < tau)
        kept_whole = (n_j >= kappa * n_i) & (1 - share < tau)
        return torch.where(given_away, 0.0, torch.where(kept_whole, 1.0, share))
