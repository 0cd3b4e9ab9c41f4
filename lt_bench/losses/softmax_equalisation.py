"""Softmax equalisation: images of other classes mostly leave a rare class's logit alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import ClassStats
from lt_bench.losses import Loss
from lt_bench.ranks.division import for_images
from lt_bench.registry import Info


class SoftmaxEqualisation(Loss):
    """-log(exp z[y] / sum_c w[c] exp z[c]), where w[c] is 0 or 1, drawn for every image and class in every step.

    w[c] = 0 with probability gamma if prior[c] < lambda and c is not the image's class, otherwise 1. Neither label of
    a mixed image is left out, so that both of its losses have the same denominator.
    """

    name = "seql"
    info = Info("softmax that leaves rare classes out of others' denominators", "Tan et al., CVPR 2020", 2020)

    class Config(Loss.Config):
        """Which classes are spared, and how often."""

        gamma: float = Field(default=0.9, ge=0, le=1)
        """Probability that a rare class is left out. 0 is cross entropy."""
        lam: float = Field(default=0.005, ge=0, le=1)
        """The paper's lambda: a class is rare if its share of the training images is below it."""

    config: Config
    rare: Tensor

    def prepare(self, stats: ClassStats) -> None:
        self.register_buffer("rare", stats.prior < self.config.lam, persistent=False)

    def disturbed(self, logits: Tensor, labels: Sequence[Tensor], rng: np.random.Generator) -> Tensor:
        size, classes = logits.shape
        drawn = torch.from_numpy(for_images(size, lambda images: rng.random((images, classes))) < self.config.gamma)
        left_out = drawn.to(logits.device, non_blocking=True) & self.rare  # [B, C]
        for own in labels:
            left_out = left_out.scatter(1, own[:, None], False)
        return logits.masked_fill(left_out, -torch.inf)

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none")
