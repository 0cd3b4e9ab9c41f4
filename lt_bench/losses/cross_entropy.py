"""Cross entropy, the reference that every other loss is compared with."""

from __future__ import annotations

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
        """Smoothing of the labels (Szegedy et al., CVPR 2016)."""

        label_smoothing: float = added(0.0, ge=0, le=1)
        """Share of every label that is spread over all C classes, the true one included."""

    config: Config

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.config.label_smoothing)
