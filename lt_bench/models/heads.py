"""Heads: what stands behind the trunk and turns its features into logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, FiniteFloat
from torch import Tensor, nn

from lt_bench.errors import UserError
from lt_bench.models.backbones import Backbone
from lt_bench.models.network import (
    BilateralNetwork,
    Branch,
    ContrastiveNetwork,
    Network,
    PrototypeNetwork,
    ResidualFusionNetwork,
    TwinClassifierNetwork,
)
from lt_bench.registry import Component, Info
from lt_bench.settings import Settings


class Head(Component, ABC):
    """Completes a backbone to a network for `num_classes` classes."""

    gives_cosines: ClassVar[bool] = False
    """Whether the logits are cosines, which only a loss with a scale of its own can be trained on."""
    single_branch: ClassVar[bool] = False
    """Whether the network has one branch, and so the features that a loss may ask for."""

    class Config(Settings):
        """No settings."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @abstractmethod
    def build(self, backbone: Backbone, num_classes: int) -> Network:
        """A freshly initialised network."""


class Linear(Head):
    """One linear layer with bias."""

    name = "linear"
    info = Info("one linear classifier with bias")
    single_branch = True

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk = backbone.trunk()
        return Network(trunk, [Branch(backbone.last_stage(), linear_classifier(backbone.feature_dim, num_classes))])


class Cosine(Head):
    """Cosines between features and class weights, the classifier of LDAM (Cao et al., NeurIPS 2019)."""

    name = "cosine"
    info = Info("cosines between normalised features and class weights", "Cao et al., NeurIPS 2019", 2019)
    gives_cosines = True
    single_branch = True

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk = backbone.trunk()
        return Network(trunk, [Branch(backbone.last_stage(), CosineClassifier(backbone.feature_dim, num_classes))])


class Experts(Head):
    """Several experts, each with late stages and a scaled cosine classifier of its own, behind shared early stages.

    The network of RIDE (Wang et al., ICLR 2021), which SADE and BalPoE use as well. In a CIFAR ResNet the experts
    share the stem and the first stage; three of them cost 2.3 times one network, 1.5 times with `reduce_dimension`.
    The logits are ordinary ones, cosines times `scale`; prediction averages them.
    """

    name = "experts"
    info = Info("experts with late stages and cosine classifiers, logits averaged", "Wang et al., ICLR 2021", 2021)

    class Config(Head.Config):
        """How many experts, and how large."""

        num_experts: int = Field(default=3, ge=1)
        scale: FiniteFloat = Field(default=30.0, gt=0)
        """Factor on the cosines; a softmax over bare cosines could not become confident."""
        reduce_dimension: bool = False
        """Late stages of three quarters of the width, in a CIFAR ResNet 24 and 48 channels instead of 32 and 64."""

    config: Config

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
    info = Info("whole networks with linear classifiers, logits averaged", "Li et al., CVPR 2022", 2022)

    class Config(Head.Config):
        """How many networks."""

        num_networks: int = Field(default=3, ge=1)

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
    info = Info("two last stages with a linear classifier each, logits averaged", "Baik et al., PR 2024", 2024)

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk = backbone.trunk()
        branches = [
            Branch(backbone.last_stage(), linear_classifier(backbone.feature_dim, num_classes)) for _ in range(2)
        ]
        return Network(trunk, branches)


class Bilateral(Head):
    """Two branches with a last block of their own, and one linear classifier of both branches' features.

    The network of BBN (Zhou et al., CVPR 2020): branch 0 is the conventional, branch 1 the re-balancing one.
    Where the last stage has a single block, the branches are whole stages.
    """

    name = "bilateral"
    info = Info("two last blocks, one linear classifier of their joined features", "Zhou et al., CVPR 2020", 2020)

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk = backbone.trunk()
        *shared, conventional = last_blocks(backbone)
        rebalancing = last_blocks(backbone)[-1]
        classifier = linear_classifier(2 * backbone.feature_dim, num_classes)
        return BilateralNetwork(nn.Sequential(trunk, *shared), (conventional, rebalancing), classifier)


class TwinClassifier(Head):
    """Two linear classifiers of one feature, and two linear layers by which two views of an image are compared.

    The network of GLMC (Du et al., CVPR 2023): branch 0 is the conventional classifier, branch 1 the re-balanced one.
    Only the method GLMC trains the two layers, and it predicts with branch 1 alone.
    """

    name = "twin-classifier"
    info = Info("two linear classifiers of one feature, logits averaged", "Du et al., CVPR 2023", 2023)

    class Config(Head.Config):
        """Where views are compared."""

        projection_dim: int = Field(default=128, ge=1)
        """Dimensions P of z, linear in the features, and of p, linear in z."""

    config: Config

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk = nn.Sequential(backbone.trunk(), backbone.last_stage())
        classifiers = [linear_classifier(backbone.feature_dim, num_classes) for _ in range(2)]
        projector = nn.Linear(backbone.feature_dim, self.config.projection_dim)
        predictor = nn.Linear(self.config.projection_dim, self.config.projection_dim)
        return TwinClassifierNetwork(trunk, classifiers, projector, predictor)


class ResidualFusion(Head):
    """Three batch normalisations of the last feature maps, and one linear classifier for all three.

    The network of ResLT (Cui et al., TPAMI 2023) in its form for CIFAR: branch 0 is for all classes, branch 1 for
    the medium and rare ones, branch 2 for the rare ones; prediction adds their logits.
    """

    name = "residual-fusion"
    info = Info("three normalisations, one linear classifier, logits added", "Cui et al., TPAMI 2023", 2023)

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        norms = [nn.BatchNorm2d(backbone.feature_dim) for _ in range(3)]
        classifier = linear_classifier(backbone.feature_dim, num_classes)
        return ResidualFusionNetwork(all_stages(backbone), norms, classifier)


class Contrastive(Head):
    """A linear classifier, and a projection of the features to unit vectors, which is used in training only.

    The network of PaCo (Cui et al., ICCV 2021), to which the class weights are the centres of the classes.
    """

    name = "contrastive"
    info = Info("linear classifier, features projected for a contrast", "Cui et al., ICCV 2021", 2021)

    class Config(Head.Config):
        """Width of the projection."""

        projection_dim: int = Field(default=32, ge=1)
        """Dimensions of the unit vectors; 128 on ImageNet-LT."""

    config: Config

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        classifier = linear_classifier(backbone.feature_dim, num_classes)
        projected = projection(backbone.feature_dim, self.config.projection_dim)
        return ContrastiveNetwork(backbone.trunk(), backbone.last_stage(), classifier, projected)


class Prototypes(Head):
    """A scaled cosine classifier, and two projections to unit vectors: of the features and of the class weights.

    The network of BCL (Zhu et al., CVPR 2022), which contrasts the one with the other, the prototypes of the classes.
    The projections are used in training only.
    """

    name = "prototypes"
    info = Info("scaled cosine classifier, features and class weights projected", "Zhu et al., CVPR 2022", 2022)

    class Config(Head.Config):
        """Scale of the classifier and width of the projections."""

        scale: FiniteFloat = Field(default=30.0, gt=0)
        """Factor on the cosines; a softmax over bare cosines could not become confident."""
        projection_dim: int = Field(default=128, ge=1)
        """Dimensions of the unit vectors. The authors have 1024 for ImageNet networks and released no code for CIFAR;
        128 is more than the 64 features of a CIFAR ResNet can fill."""

    config: Config

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        feature_dim, projection_dim = backbone.feature_dim, self.config.projection_dim
        return PrototypeNetwork(
            backbone.trunk(),
            backbone.last_stage(),
            ScaledCosineClassifier(feature_dim, num_classes, self.config.scale),
            projection(feature_dim, projection_dim, nn.BatchNorm1d(feature_dim)),
            projection(feature_dim, projection_dim, nn.BatchNorm1d(feature_dim)),
        )


class CosineClassifier(nn.Module):
    """cos(features, class weight) in [-1, 1], without bias."""

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        weight = torch.empty(num_classes, feature_dim).uniform_(-1, 1)
        self.weight = nn.Parameter(F.normalize(weight, dim=1))  # [C, D]

    def forward(self, features: Tensor) -> Tensor:
        # A scale of 30 follows in the loss: in bfloat16 a cosine near 1 would be off by up to 0.1 logits.
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(F.normalize(features.float()), F.normalize(self.weight))


def all_stages(backbone: Backbone) -> nn.Module:
    """A whole fresh backbone: images [B, 3, H, W] to feature maps of width D."""
    return nn.Sequential(backbone.trunk(), backbone.last_stage())


def last_blocks(backbone: Backbone) -> list[nn.Module]:
    """The blocks of a fresh last stage. Raises UserError where it is no sequence that ends in a block."""
    stage = backbone.last_stage()
    blocks = list(stage) if isinstance(stage, nn.Sequential) else []
    # Without parameters it is a stray ReLU or dropout: two of them would be two equal branches.
    if not blocks or next(blocks[-1].parameters(), None) is None:
        raise UserError(
            "model.backbone: the head bilateral needs a last stage that is a torch.nn.Sequential of blocks with "
            f"parameters; that of {backbone.name} is not"
        )
    return blocks


class ScaledCosineClassifier(CosineClassifier):
    """scale * cos(features, class weight): logits that any loss can be trained on."""

    def __init__(self, feature_dim: int, num_classes: int, scale: float) -> None:
        super().__init__(feature_dim, num_classes)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * super().forward(features)


def linear_classifier(feature_dim: int, num_classes: int) -> nn.Linear:
    """A linear layer with Kaiming-normal weights, as in the field's CIFAR code."""
    layer = nn.Linear(feature_dim, num_classes)
    nn.init.kaiming_normal_(layer.weight)
    return layer


def projection(feature_dim: int, projection_dim: int, *between: nn.Module) -> nn.Sequential:
    """Features [B, D] to vectors [B, P]: two linear layers with a ReLU, and what else is given, between them.

    This form is the suite's choice.
    """
    first, last = nn.Linear(feature_dim, feature_dim), nn.Linear(feature_dim, projection_dim)
    return nn.Sequential(first, *between, nn.ReLU(), last)
