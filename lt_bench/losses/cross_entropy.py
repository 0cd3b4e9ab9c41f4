"""Cross entropy, the reference that every other loss is compared with."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from lt_bench.losses import Loss
from lt_bench.registry import Info


class CrossEntropy(Loss):
    """-log softmax(z)[y]; with class weights the weighted mean of `torch.nn.CrossEntropyLoss`."""

    name = "cross-entropy"
    info = Info("softmax cross entropy, with or without class weights")

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none")
