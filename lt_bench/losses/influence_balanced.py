"""Influence-balanced loss: an image counts the less, the more it would move the decision boundary."""

from __future__ import annotations

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.losses import ClassWeights, Loss, Mean, Weights
from lt_bench.mixing import Share
from lt_bench.registry import Info


class InfluenceBalanced(Loss):
    """Mean of w[y] alpha / (g h + 0.001) CE, with g = |softmax(z) - onehot(y)|_1 and h = |features|_1.

    g h is the size of the image's gradient in the weights of the classifier. The factor has a gradient of its own,
    through g and through h, as in the released code. It is for the end of a training: the authors begin with cross
    entropy, change at half the epochs and lower the learning rate x0.01 right after.
    """

    name = "ib"
    info = Info("cross entropy over the size of the image's own gradient", "Park et al., ICCV 2021", 2021)
    takes_features = True

    class Config(Loss.Config):
        """Size of the loss, and class weights that do not have to be asked for."""

        weights: Weights = ClassWeights(name="inverse-frequency")
        """Per-class weights, by name or with their settings. None: all ones."""
        alpha: FiniteFloat = Field(default=1000.0, gt=0)
        """Factor that brings the loss to a common size; 1000 in the authors' scripts."""

    config: Config

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none")

    def usual_mean(self) -> Mean:
        return "plain"

    def forward(self, logits: Tensor, labels: Tensor, share: Share = 1.0, features: Tensor | None = None) -> Tensor:
        """Mean over the batch of share * w[y] * factor * loss."""
        assert features is not None
        losses = self.per_sample(logits.float(), labels)
        return self.averaged(share * (self.factors(losses, features.float()) * losses), labels)

    def factors(self, losses: Tensor, features: Tensor) -> Tensor:
        """The factors alpha / (g h + 0.001) [B] of cross entropies [B] and features [B, D]."""
        error = -2 * torch.expm1(-losses)  # g: what p lacks to 1, and as much too much on the other classes
        return self.config.alpha / (error * features.abs().sum(dim=1) + 1e-3)
