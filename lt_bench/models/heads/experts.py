"""Several branches or networks with a classifier each, whose logits are averaged."""

from __future__ import annotations

from pydantic import Field, FiniteFloat
from torch import nn

from lt_bench.models.backbones import Backbone
from lt_bench.models.heads import Head, ScaledCosineClassifier, all_stages, linear_classifier
from lt_bench.models.network import Branch, Network
from lt_bench.registry import Info


class Experts(Head):
    """Several experts, each with late stages and a scaled cosine classifier of its own, behind shared early stages.

    The network of RIDE (Wang et al., ICLR 2021), which SADE and BalPoE use as well. In a CIFAR ResNet the experts
    share the stem and the first stage; three of them cost 2.3 times one network, 1.5 times with `reduce_dimension`.
    The logits are ordinary ones, cosines times `scale`; prediction averages them.
    """

    name = "experts"
    info = Info(
        "experts with late stages and cosine classifiers, logits averaged", "Wang et al., ICLR 2021", 2021, cost="2.3x"
    )

    class Config(Head.Config):
        """How many experts, and how large."""

        num_experts: int = Field(default=3, ge=1, le=64)
        scale: FiniteFloat = Field(default=30.0, gt=0)
        """Factor on the cosines; a softmax over bare cosines could not become confident."""
        reduce_dimension: bool = False
        """Late stages of three quarters of the width: 24 and 48 channels instead of 32 and 64 in a CIFAR ResNet, 192
        and 384 planes instead of 256 and 512 in one of ImageNet."""

    config: Config

    @property
    def cost(self) -> str:
        return "1.5x" if self.config.reduce_dimension else self.info.cost

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        width = 0.75 if self.config.reduce_dimension else 1.0
        feature_dim = int(backbone.feature_dim * width)
        trunk = backbone.early_stages()
        branches = [
            Branch(backbone.late_stages(width), ScaledCosineClassifier(feature_dim, num_classes, self.config.scale))
            for _ in range(self.config.num_experts)
        ]
        return Network(trunk, branches)


class Ensemble(Head):
    """Several whole networks, which share nothing, each with a linear classifier of its own.

    The networks of NCL (Li et al., CVPR 2022); prediction averages their logits.
    """

    name = "ensemble"
    info = Info("whole networks with linear classifiers, logits averaged", "Li et al., CVPR 2022", 2022, cost="3x")

    class Config(Head.Config):
        """How many networks."""

        num_networks: int = Field(default=3, ge=1, le=64)

    config: Config

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        branches = [
            Branch(all_stages(backbone), linear_classifier(backbone.feature_dim, num_classes))
            for _ in range(self.config.num_networks)
        ]
        return Network(nn.Identity(), branches)


class DualBranch(Head):
    """Two branches, each with a last stage and a linear classifier of its own.

    The network of DBN-Mix (Baik et al., Pattern Recognition 2024): branch 0 is the conventional, branch 1
    the re-balancing one; prediction averages their logits.
    """

    name = "dual-branch"
    info = Info(
        "two last stages with a linear classifier each, logits averaged", "Baik et al., PR 2024", 2024, cost="1.3x"
    )

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk = backbone.trunk()
        branches = [
            Branch(backbone.last_stage(), linear_classifier(backbone.feature_dim, num_classes)) for _ in range(2)
        ]
        return Network(trunk, branches)
