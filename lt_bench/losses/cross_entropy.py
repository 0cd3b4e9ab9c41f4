"""Cross entropy, the reference that every other loss is compared with."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from lt_bench.losses import Loss
from lt_bench.registry import Info
from lt_bench.settings import added


class CrossEntropy(Loss):
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

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        smoothing, floor = self.config.label_smoothing, self.config.probability_floor
        if floor is None:
            return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
        costs = -logits.log_softmax(dim=1).clamp_min(math.log(floor))
        return (1 - smoothing) * costs.gather(1, labels[:, None]).squeeze(1) + smoothing * costs.mean(dim=1)
