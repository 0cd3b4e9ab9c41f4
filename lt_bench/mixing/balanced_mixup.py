"""Balanced-MixUp: a little of a class-balanced stream in the images of the natural one."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, FiniteFloat

from lt_bench.data.samplers import draw_with_replacement, inverse_size_weights
from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.mixing import Mix, Mixed
from lt_bench.registry import Info


class BalancedMixup(Mix):
    """x = (1 - l) x_main + l x_balanced and the same for the labels, with one l ~ Beta(alpha, 1) per batch.

    The main stream is the sampler's, in the paper the instance-balanced one. On in every batch of every epoch.
    """

    name = "balanced-mixup"
    info = Info("a small share of a class-balanced stream mixed in", "Galdran et al., MICCAI 2021", 2021)

    class Config(Mix.Config):
        """How much of the class-balanced stream is mixed in."""

        alpha: FiniteFloat = Field(default=0.2, ge=0)
        """First parameter of the Beta law. 0 is no mixing. The authors compare 0.1, 0.2 and 0.3, on medical images;
        which of them is the default is this project's choice."""

    config: Config

    def partner_order(self, order: IntArray, labels: IntArray, epoch: Epoch) -> IntArray | None:
        weights = inverse_size_weights(labels, 1.0)
        return draw_with_replacement(weights, len(order), epoch.rng("balanced-mixup partners"))

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        assert partner is not None, "Balanced-MixUp always has a class-balanced stream"
        share = balanced_share(self.config.alpha, step.rng)
        images = torch.lerp(batch.images, partner.images, share)
        return Mixed(images, ((batch.labels, 1 - share), (partner.labels, share)))


def balanced_share(alpha: float, rng: np.random.Generator) -> float:
    """The share in [0, 1] of the class-balanced image, from Beta(alpha, 1); 0 where alpha is 0."""
    return float(rng.beta(alpha, 1)) if alpha > 0 else 0.0
