"""cRT: the classifier learned anew from balanced batches."""

from __future__ import annotations

from torch import Tensor, nn

from lt_bench.models.heads import linear_classifier
from lt_bench.registry import Info
from lt_bench.stages import Stage


class ClassifierRetraining(Stage):
    """A fresh linear classifier on the trained features, learned by cross entropy from class-aware batches.

    In the released code batch normalisation stays in training mode, so that its running statistics follow the
    balanced batches. The authors train at rate 0.2 for 10 epochs with batches of 512 and a weight decay of 5e-4 on
    ImageNet-LT and report no CIFAR; the rate here is that of the CIFAR protocols.
    """

    name = "crt"
    info = Info("the classifier learned anew from balanced batches", "Kang et al., ICLR 2020", 2020, cost="0.3x")
    defaults = Stage.defaults | {"sampler": "class-aware"}

    class Config(Stage.Config):
        """Settings of the training."""

        shifted_batch_norm: bool = True

    def prepare(self, trained: nn.Linear) -> None:
        self.linear = linear_classifier(trained.in_features, trained.out_features)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)
        return logits
