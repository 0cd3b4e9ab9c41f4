"""LADE: balanced softmax with a regulariser that ties the scale of each class's logits over the batch."""

from __future__ import annotations

import math

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import ClassStats
from lt_bench.losses.logit_adjustment import BalancedSoftmax
from lt_bench.mixing import Share
from lt_bench.registry import Info


class LADE(BalancedSoftmax):
    """Balanced softmax + alpha LADER in training, plain z at test time (for a uniform test prior).

    LADER is -sum_c prior[c] (f[c] - s[c] - lambda s[c]^2): f[c] is the mean logit of class c over its own
    images in the batch (0 where it has none), s[c] the log mean over all images of exp(z[c]) / (C prior[c]).
    This is the released code, which made the published numbers, but for its 1e-9 against classes without images. The
    authors' poster divides by the prior of each image's own label; dividing by that of the column, as here, only adds
    a constant to s[c].
    """

    name = "lade"
    info = Info("balanced softmax with a regulariser on the scale of the logits", "Hong et al., CVPR 2021", 2021)

    class Config(BalancedSoftmax.Config):
        """Strength of the regulariser and of its quadratic part; the defaults are the authors' for CIFAR-100-LT."""

        alpha: FiniteFloat = Field(default=0.1, ge=0)
        """Weight of LADER. 0 is balanced softmax."""
        lam: FiniteFloat = Field(default=0.01, ge=0)
        """The paper's lambda: how strongly s is drawn to 0."""

    config: Config
    prior: Tensor

    def prepare(self, stats: ClassStats) -> None:
        super().prepare(stats)
        self.register_buffer("prior", stats.prior, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor, share: Share = 1.0) -> Tensor:
        """Class weights act on the balanced softmax alone: LADER has its own, the prior."""
        regulariser = self.regulariser(logits.float(), labels, share)
        return super().forward(logits, labels, share) + self.config.alpha * regulariser

    def regulariser(self, logits: Tensor, labels: Tensor, share: Share = 1.0) -> Tensor:
        """LADER of float32 logits [B, C], times `share`.

        A share per image weights the logits in f; s, which reads no labels, gets the mean share. So the
        terms of a mixed batch, whose shares sum to 1, count s once, and f is the shares' sum of their f.
        """
        shares = share * logits.new_ones(len(labels))  # [B]
        log_mean = self.log_mean(logits)
        penalty = shares.mean() * (log_mean + self.config.lam * log_mean**2)
        return -(self.prior * (own_mean(logits, labels, shares) - penalty)).sum()

    def log_mean(self, logits: Tensor) -> Tensor:
        """Log mean over the batch of exp(z) / (C prior), the s [C] of LADER."""
        return torch.logsumexp(logits, dim=0) - self.log_prior - math.log(logits.shape[0] * logits.shape[1])


def own_mean(logits: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
    """Mean over a class's own images of shares [B] times its logit, the f [C] of LADER; 0 without images."""
    own = F.one_hot(labels, logits.shape[1])  # [B, C]
    return (shares[:, None] * own * logits).sum(dim=0) / own.sum(dim=0).clamp_min(1)
