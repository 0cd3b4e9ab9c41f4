"""Cross entropy, the reference that every other loss is compared with."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from lt_bench.losses import Loss
from lt_bench.mixing import Share
from lt_bench.registry import Info
from lt_bench.settings import added


class SoftmaxLoss(Loss):
    """Cross entropy of the softmax of logits as they are `trained`, for losses that change these alone."""

    @property
    def label_smoothing(self) -> float:
        """Share of every label that is spread over all C classes."""
        return getattr(self.config, "label_smoothing", 0.0)

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.trained(logits), labels, reduction="none", label_smoothing=self.label_smoothing)

    def costs(self, logits: Tensor) -> Tensor:
        """The loss of every label by itself, [B, C], of float32 logits [B, C]."""
        return -self.trained(logits).log_softmax(1)

    def of_all_classes(self, logits: Tensor, share: Share, *features: Tensor) -> Tensor:
        if not self._costs_hold():
            return super().of_all_classes(logits, share, *features)
        # One by one the classes would take as many passes, and keep the logits as often for the way back.
        costs = self.costs(logits.float())
        if self.class_weights is not None and self.mean == "plain":  # in a weighted mean of one class they cancel
            costs = costs.lerp(costs.mean(1, keepdim=True), self.label_smoothing) * self.class_weights
        return (share * costs.mean(1)).mean()

    def _costs_hold(self) -> bool:
        """Whether the loss is made of `costs`: no class below the one that says them has a loss of its own."""
        own = next(cls for cls in type(self).__mro__ if issubclass(cls, SoftmaxLoss) and "costs" in vars(cls))
        return type(self).forward is own.forward and type(self).per_sample is own.per_sample


class CrossEntropy(SoftmaxLoss):
    """-log softmax(z)[y]; with class weights the weighted mean of `torch.nn.CrossEntropyLoss`."""

    name = "cross-entropy"
    info = Info("softmax cross entropy, with or without class weights")

    class Config(Loss.Config):
        """What the target is, and the least that a class counts for."""

        label_smoothing: float = added(0.0, ge=0, le=1)
        """Share of every label that is spread over all C classes, the true one included (Szegedy et al., CVPR 2016)."""
        probability_floor: float | None = added(None, gt=0, lt=1)
        """Least value taken for a probability, 1e-5 in mixRnet's code: from there down the loss is no higher, and has
        no gradient. None: no such floor."""

    config: Config

    def trained(self, logits: Tensor) -> Tensor:
        return logits  # also in a subclass whose `scores` at test time are others

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.config.probability_floor is None:
            return super().per_sample(logits, labels)
        costs, smoothing = self.costs(logits), self.label_smoothing
        return (1 - smoothing) * costs.gather(1, labels[:, None]).squeeze(1) + smoothing * costs.mean(dim=1)

    def costs(self, logits: Tensor) -> Tensor:
        costs, floor = super().costs(logits), self.config.probability_floor
        return costs if floor is None else costs.clamp_max(-math.log(floor))
