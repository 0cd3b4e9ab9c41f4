"""AugMix: an image mixed with copies of itself, varied at random, and answers that have to agree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, Objective, sent
from lt_bench.mixing.varying import LEAST, LEVELS, OPERATIONS, each_varied, mean_and_std, pixels_of
from lt_bench.ranks.division import for_images
from lt_bench.registry import Info

DEEPEST = 3
"""Operations after each other in a chain, one at least."""


class AugMix(Mix):
    """L = loss(clean) + weight mean_k KL(p_k || p), over p_k of the clean image and of two mixtures, p their mean.

    A mixture is (1 - m) x + m sum_i w_i chain_i(x), with m ~ Beta(1, 1) and w ~ Dirichlet(1, ..., 1); a chain is one to
    three operations, each of a level ~ U(0.1, severity) of ten. The loss is the recipe's, p are softmaxes of its logits
    as they are at test time. The three views go through the network together. How far an operation reaches at level ten
    is as in torchvision's AugMix, whose levels are other ones: whole numbers below the severity. It comes after
    whatever else varies the image. Paper: Hendrycks et al., ICLR 2020, arXiv 1912.02781.
    """

    name = "augmix"
    info = Info(
        "an image mixed with varied copies of itself, answers agreeing", "Hendrycks et al., ICLR 2020", 2020, cost="3x"
    )
    refuses_partners = "it mixes an image with itself"
    of_two_labels = False

    class Config(Mix.Config):
        """As in the authors' code for CIFAR."""

        severity: float = Field(default=3.0, ge=LEAST, le=LEVELS)
        """Highest level of an operation; 1 on ImageNet."""
        width: int = Field(default=3, ge=1, le=16)
        """Chains that are mixed."""
        weight: FiniteFloat = Field(default=12.0, ge=0)
        """Of the divergence of the three answers."""

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        """The batch itself, where nothing is trained: how pixels are normalised is known to `loss` alone."""
        return Mixed.plain(batch)

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        size = len(batch.labels)
        answer = objective.answer(torch.cat([batch.images, *(self.mixture(objective, batch, step) for _ in range(2))]))
        features = None if answer.features is None else answer.features[:size]
        clean = answer._replace(logits=answer.logits[..., :size, :], features=features)
        loss = objective.loss(clean, ((batch.labels, 1.0),))
        return loss + self.config.weight * divergence(answer.prediction.float().log_softmax(1).view(3, size, -1))

    @torch.no_grad()
    def mixture(self, objective: Objective, batch: Batch, step: Step) -> Tensor:
        """Each image mixed with its chains, [B, 3, H, W]."""
        device = batch.images.device
        mean, std = mean_and_std(objective.normalisation, device)
        size, width = len(batch.labels), self.config.width
        copies = pixels_of(batch.images, objective.normalisation).repeat(width, 1, 1, 1)
        drawn = for_images(size * width, lambda n: np.stack(draw(n, self.config.severity, step.rng), -1))
        chains = (chained(copies, Drawn(*np.moveaxis(drawn, -1, 0))) / 255 - mean) / std
        weights = for_images(size, lambda n: step.rng.dirichlet(np.ones(width), n) * step.rng.beta(1, 1, (n, 1)))
        w = sent(weights.T, device)[..., None, None, None]  # [width, B, 1, 1, 1], m in it
        return (1 - w.sum(0)) * batch.images + (w * chains.view(width, *batch.images.shape)).sum(0)


def divergence(log_p: Tensor) -> Tensor:
    """The mean of KL(p_k || mean p), a scalar, of log probabilities [K, B, C]; the mean p is 1e-7 at least."""
    middle = log_p.exp().mean(0).clamp(1e-7, 1).log()
    # In logarithms: a probability that is no more than 0 in float32 has NaN for a gradient.
    return F.kl_div(middle.expand_as(log_p), log_p, reduction="sum", log_target=True) / (
        log_p.shape[0] * log_p.shape[1]
    )


class Drawn(NamedTuple):
    """What happens to B images in up to three operations after each other, [B, 3] each."""

    operation: np.ndarray
    """Places in OPERATIONS, -1 for none."""
    share: np.ndarray
    """Of the farthest that an operation reaches, in [0, 1]; negative where it goes the other way."""


def draw(size: int, severity: float, rng: np.random.Generator) -> Drawn:
    """Chains for `size` images."""
    shape = (size, DEEPEST)
    operation = rng.integers(0, len(OPERATIONS), shape)
    depth = rng.integers(1, DEEPEST + 1, (size, 1))
    level = rng.uniform(LEAST, severity, shape) * rng.choice([-1, 1], shape)
    return Drawn(np.where(np.arange(DEEPEST) < depth, operation, -1), level / LEVELS)


def chained(pixels: Tensor, drawn: Drawn) -> Tensor:
    """Images uint8 [B, 3, H, W] after their operations."""
    for place in range(DEEPEST):
        pixels = each_varied(pixels, drawn.operation[:, place], drawn.share[:, place])
    return pixels
