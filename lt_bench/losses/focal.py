"""Focal loss in the two forms that share the name: over the softmax, and over C independent sigmoids."""

from __future__ import annotations

from typing import Any, Self

import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor
from torch.nn import functional as F

from lt_bench.losses import Loss, Mean
from lt_bench.mixing import Share
from lt_bench.registry import Info


class Focal(Loss):
    """w[y] (1 - p)^gamma (-log p) with p = softmax(z)[y], as in the LDAM repository and its descendants.

    With class weights the plain mean is usual, as there; of cross entropy they take the weighted one.
    """

    name = "focal"
    info = Info("cross entropy times (1 - p)^gamma, p of the softmax", "Lin et al., ICCV 2017", 2017)

    class Config(Loss.Config):
        """How strongly easy images are discounted."""

        gamma: FiniteFloat = Field(default=1.0, ge=0)
        """0 is cross entropy."""
        weight_inside_p: bool = False
        """Compute p as exp(-w[y] CE), where the class weight corrupts it: a slip of the LDAM repository, for
        reproducing its numbers, so under the plain mean only. Without class weights it changes nothing."""

        @model_validator(mode="after")
        def _plain_where_inside(self) -> Self:
            if self.weight_inside_p and self.mean == "weighted":
                raise ValueError("weight_inside_p goes with the plain mean")
            return self

    config: Config

    def usual_mean(self) -> Mean:
        return "plain"

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self._discounted(F.cross_entropy(logits, labels, reduction="none"))

    def forward(self, logits: Tensor, labels: Tensor, share: Share = 1.0) -> Tensor:
        if self.class_weights is None or not self.config.weight_inside_p:
            return super().forward(logits, labels, share)
        weighted = self.class_weights[labels] * F.cross_entropy(logits.float(), labels, reduction="none")
        return (share * self._discounted(weighted)).mean()

    def _discounted(self, losses: Tensor) -> Tensor:
        # A loss of exactly 0 would give 0 * inf in the gradient for gamma < 1; the clamp makes it 0.
        wrong = (-torch.expm1(-losses)).clamp_min(torch.finfo(losses.dtype).tiny)
        return wrong**self.config.gamma * losses


class SigmoidFocal(Loss):
    """Sum over classes of (1 - q)^gamma BCE, q the probability given to the truth by each of C sigmoids; plain mean.

    The original code also starts the last bias at -log(C - 1) and spares it weight decay; this is the
    loss alone, as in the BagofTricks-LT comparison.
    """

    name = "sigmoid-focal"
    info = Info("focal loss over C independent sigmoids, summed over classes", "Lin et al., ICCV 2017", 2017)

    class Config(Loss.Config):
        """How strongly easy decisions are discounted."""

        gamma: FiniteFloat = Field(default=2.0, ge=0)
        """0 is binary cross entropy summed over classes."""

    config: Config

    def usual_mean(self) -> Mean:
        return "plain"

    @classmethod
    def gives_probabilities(cls, config: Any) -> bool:
        return False

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        return sigmoid_focal(logits, labels, self.config.gamma)


def sigmoid_focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Focal losses [B] of float32 logits [B, C] read as C binary decisions."""
    truth = F.one_hot(labels, logits.shape[1]).bool()
    towards_truth = torch.where(truth, logits, -logits)  # q = sigmoid of it
    # (1 - q)^gamma through its logarithm: the plain power has NaN gradients for gamma < 1 where q is 1.
    discount = (gamma * F.logsigmoid(-towards_truth)).exp()
    return -(discount * F.logsigmoid(towards_truth)).sum(dim=1)
