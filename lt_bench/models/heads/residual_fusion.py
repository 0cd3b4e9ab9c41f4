"""Three normalisations of the last feature maps, and one classifier for all: the network of ResLT."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lt_bench.models.backbones import Backbone
from lt_bench.models.heads import Head, all_stages, linear_classifier
from lt_bench.models.network import Branch, Network
from lt_bench.registry import Info


class ResidualFusionNetwork(Network):
    """Branches that end in features [B, D], and one classifier [D to C] for each of them.

    Here the logits are the sum of the branches' logits, not their mean.
    """

    def __init__(self, trunk: nn.Module, stages: Sequence[nn.Module], classifier: nn.Module) -> None:
        super().__init__(trunk, [Branch(stage, nn.Identity()) for stage in stages])
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.all_logits(images).sum(0)

    def all_logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(super().all_logits(images))
        return logits

    def branch_logits(self, images: Tensor, index: int) -> Tensor:
        logits: Tensor = self.classifier(super().branch_logits(images, index))
        return logits

    @property
    def classifiers(self) -> list[nn.Module]:
        return [self.classifier]


class ResidualFusion(Head):
    """Three batch normalisations of the last feature maps, and one linear classifier for all three.

    The network of ResLT (Cui et al., TPAMI 2023) in its form for CIFAR: branch 0 is for all classes, branch 1 for
    the medium and rare ones, branch 2 for the rare ones; prediction adds their logits.
    """

    name = "residual-fusion"
    info = Info("three normalisations, one linear classifier, logits added", "Cui et al., TPAMI 2023", 2023)
    extends_stages = True

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        norms = [nn.BatchNorm2d(backbone.feature_dim) for _ in range(3)]
        classifier = linear_classifier(backbone.feature_dim, num_classes)
        return ResidualFusionNetwork(all_stages(backbone), norms, classifier)
