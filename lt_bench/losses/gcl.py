"""Gaussian clouded logits: the rarer a class, the more noise pushes its cosine down in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import ClassStats
from lt_bench.losses import Loss
from lt_bench.ranks.division import for_images
from lt_bench.registry import Info


class GCL(Loss):
    """CE(s (cos - k |e| d - m onehot(y)), y), with noise e anew for every logit in every step.

    e is normal with standard deviation 1/3, cut off at -1 and 1. d[c] = log(n_max / n[c]) / log(n_max / n_min) lets
    the rarest class have all the noise and the largest none. Defaults are those of the first of the authors' two
    stages, the stage `gcl` brings those of the second. The released code draws the noise of a mixed image once for
    each of its two labels; here both see the same.
    """

    name = "gcl"
    info = Info("cross entropy on cosines lowered by noise that grows with rarity", "Li et al., CVPR 2022", 2022)
    takes_cosines = True

    class Config(Loss.Config):
        """Noise, margin, temperature and discount."""

        noise: FiniteFloat = Field(default=0.5, ge=0)
        """Factor k on the noise of the rarest class, in units of the cosine. 0 is none."""
        margin: FiniteFloat = Field(default=0.0, ge=0)
        """The m by which the true class, whichever it is, must win, in units of the cosine."""
        scale: FiniteFloat = Field(default=30.0, gt=0)
        """Factor s on the cosines; a softmax over bare cosines could not become confident."""
        gamma: FiniteFloat = Field(default=0.0, ge=0)
        """Exponent of a focal factor (1 - p)^gamma without gradient, p of the true class. 0 is none."""

    config: Config
    delta: Tensor

    def prepare(self, stats: ClassStats) -> None:
        self.register_buffer("delta", noise_share(stats), persistent=False)

    def disturbed(self, logits: Tensor, labels: Sequence[Tensor], rng: np.random.Generator) -> Tensor:
        size, classes = logits.shape
        normal = for_images(size, lambda images: rng.standard_normal((images, classes), np.float32))
        drawn = np.abs(normal / 3).clip(max=1)
        return self.clouded(logits, torch.from_numpy(drawn).to(logits.device, non_blocking=True))

    def clouded(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Cosines [B, C], float32, lowered by the size of the noise [B, C]."""
        return logits.float() - self.config.noise * noise.abs() * self.delta

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        margins = self.config.margin * F.one_hot(labels, logits.shape[1])
        losses = F.cross_entropy(self.config.scale * (logits - margins), labels, reduction="none")
        return (-torch.expm1(-losses.detach())) ** self.config.gamma * losses

    def scores(self, logits: Tensor) -> Tensor:
        """Scaled cosines without noise or margin: their softmax is the confidence that the loss trains."""
        return self.config.scale * logits.float()


def noise_share(stats: ClassStats) -> Tensor:
    """How much of the noise each class has, the d of GCL, float32 [C] from 0 to 1; all 0 where the sizes are equal."""
    counts = stats.counts.double()
    rarity = (counts.max() / counts).log()
    return (rarity / rarity.max().clamp_min(torch.finfo(rarity.dtype).tiny)).float()
