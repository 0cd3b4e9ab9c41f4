"""MixupE: mixup, and a reward for what it rewards implicitly, the slope of the loss towards the mean of the data."""

from __future__ import annotations

import sys
from typing import Literal

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, Objective, permuted
from lt_bench.mixing.mixup import mixup_pair
from lt_bench.registry import Info


class MixupE(Mix):
    """L = L_mixup - eta (1 - l) / B sum_i q_i with q = sum_k f_k (y_k - p_k), rescaled to the value of L_mixup.

    f are the logits of the clean batch, from a second pass through the network, p their softmax, y the one-hot labels,
    and l = (alpha + 1) / (2 alpha + 1) the mean share of a Beta(alpha + 1, alpha) law. Paper: Zou et al., UAI 2023,
    arXiv 2212.13381; the form, its signs and its settings are those of the released code. Left out are the two forms
    that differentiate twice, towards the mean image.
    """

    name = "mixupe"
    info = Info("mixup and a directional derivative of the loss", "Zou et al., UAI 2023", 2023, cost="2x")

    class Config(Mix.Config):
        """As in the authors' command for CIFAR-100."""

        alpha: FiniteFloat = Field(default=2.0, gt=0)
        """Both parameters of the Beta law of mixup's share."""
        eta: FiniteFloat = Field(default=0.001, ge=0)
        """Weight of the second term."""
        threshold: FiniteFloat = 1.0
        """Images whose q reaches it are left out of the sum (`fast`)."""
        form: Literal["fast", "detached"] = "fast"
        """`detached`: no gradient through y - p, and no image is left out."""

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        return mixup_pair(batch, partner or permuted(batch, step.rng), self.config.alpha, step.rng)

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        plain = objective.of(self(batch, partner, step))
        slopes = self.slopes(objective.answer(batch.images).prediction, batch.labels)
        total = plain - self.config.eta * self.mean_rest() * slopes.sum() / len(batch.labels)
        scale = plain.detach().abs() / total.detach().abs().clamp_min(sys.float_info.min)
        return scale * total

    def slopes(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Q [B] of logits [B, C], 0 of the images that are left out."""
        logits = logits.float()
        residual = F.one_hot(labels, logits.shape[1]) - logits.softmax(1)
        if self.config.form == "detached":
            return (logits * residual.detach()).sum(1)
        slopes = (logits * residual).sum(1)
        return torch.where(slopes < self.config.threshold, slopes, 0.0)

    def mean_rest(self) -> float:
        """1 - l, the mean share of the other image."""
        return self.config.alpha / (2 * self.config.alpha + 1)
