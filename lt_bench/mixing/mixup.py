"""Mixup: convex combinations of two images and of their labels."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, FiniteFloat

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, permuted
from lt_bench.registry import Info


class Mixup(Mix):
    """x = l x_i + (1 - l) x_j and the same for the labels, with one l ~ Beta(alpha, alpha) per batch.

    On in every batch of every epoch; l is used as drawn, never replaced by max(l, 1 - l).
    """

    name = "mixup"
    info = Info("convex combination of two images and of their labels", "Zhang et al., ICLR 2018", 2018)

    class Config(Mix.Config):
        """How far from the original images the mixtures lie."""

        alpha: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law: 1 on CIFAR, 0.2 on ImageNet. 0 is no mixing."""

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        return mixup_pair(batch, partner or permuted(batch, step.rng), self.config.alpha, step.rng)


def mixup_pair(batch: Batch, partner: Batch, alpha: float, rng: np.random.Generator) -> Mixed:
    """Blend image b of one batch with image b of the other, with one share for all."""
    share = draw_share(alpha, rng)
    images = torch.lerp(partner.images, batch.images, share)
    return Mixed(images, ((batch.labels, share), (partner.labels, 1 - share)))


def draw_share(alpha: float, rng: np.random.Generator) -> float:
    """The share in [0, 1] of the first image, from Beta(alpha, alpha); 1 where alpha is 0."""
    return float(rng.beta(alpha, alpha)) if alpha > 0 else 1.0
