"""Class-balanced loss: weights in inverse proportion to the effective number of images of a class."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, FiniteFloat, field_validator
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import ClassStats
from lt_bench.losses import Beta, ClassWeights, Loss, Mean
from lt_bench.losses.focal import sigmoid_focal
from lt_bench.registry import Info


class ClassBalanced(Loss):
    """w[c] ~ (1 - beta) / (1 - beta^n[c]), summing to C, on one of three losses.

    `softmax` is cross entropy, usually under the weighted mean; `sigmoid` and `focal` sum over C sigmoids, under the
    plain one. `binary-softmax`, the mean over images and classes of binary cross entropies of softmax probabilities,
    is what a much-copied port computes under the name of softmax, weight balancing's code included. For the sums of
    sigmoids the authors start the last bias at -log(C - 1), without weight decay; here it is as in every other recipe.
    """

    name = "class-balanced"
    info = Info("weights from the effective number of images of a class", "Cui et al., CVPR 2019", 2019)

    class Config(Loss.Config):
        """Which loss is weighted, and how strongly."""

        form: Literal["softmax", "sigmoid", "focal", "binary-softmax"] = "softmax"
        """What the weights act on."""
        beta: Beta = 0.9999
        """0 gives equal weights; near 1 they approach inverse frequency, which 0.9999 nearly is below 500 images."""
        gamma: FiniteFloat = Field(default=1.0, ge=0)
        """Exponent of the form `focal`; the others do not read it."""

        @field_validator("weights")
        @classmethod
        def _no_second_weights(cls, weights: object) -> None:
            if weights is not None:
                raise ValueError("class-balanced makes its weights from beta; leave `weights` out")

    config: Config

    def prepare(self, stats: ClassStats) -> None:
        self.class_weights = ClassWeights(name="effective-number", beta=self.config.beta).tensor(stats)

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.config.form == "softmax":
            return F.cross_entropy(logits, labels, reduction="none")
        if self.config.form == "binary-softmax":
            return binary_cross_entropy_of_softmax(logits, labels)
        return sigmoid_focal(logits, labels, self.config.gamma if self.config.form == "focal" else 0.0)

    @classmethod
    def gives_probabilities(cls, config: Any) -> bool:
        return config.form not in ("sigmoid", "focal")

    def usual_mean(self) -> Mean:
        return "weighted" if self.config.form == "softmax" else "plain"


def binary_cross_entropy_of_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Means [B] over classes of -log p for the true one, -log(1 - p) for the others; p the softmax of logits [B, C]."""
    log_p, log_not_p = log_probabilities(logits)
    truth = F.one_hot(labels, logits.shape[1]).bool()
    return -torch.where(truth, log_p, log_not_p).mean(dim=1)


def log_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log p and log(1 - p) [B, C] with p the softmax of float32 logits [B, C], exact where p rounds to 1 as well."""
    log_p = F.log_softmax(logits, dim=1)
    # Where the largest p rounds to 1, 1 - p is lost: the sum of the others gives it. torch's own binary cross entropy
    # bounds the loss there but has gradients of 10^4, and CUDA refuses it under autocast.
    largest = log_p.argmax(dim=1, keepdim=True)
    log_others = log_p.scatter(1, largest, -torch.inf).logsumexp(dim=1, keepdim=True)  # [B, 1]
    log_not_p = torch.log1p(-log_p.exp().scatter(1, largest, 0.0)).scatter(1, largest, log_others)
    return log_p, log_not_p
