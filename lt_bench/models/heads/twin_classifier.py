"""Two classifiers of one feature, and layers to compare views of an image: the network of GLMC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from lt_bench.models.backbones import Backbone
from lt_bench.models.heads import Head, linear_classifier
from lt_bench.models.network import Branch, Network
from lt_bench.registry import Info


class View(NamedTuple):
    """What a `TwinClassifierNetwork` makes of a batch of B images."""

    conventional: Tensor
    """Logits [B, C] of branch 0."""
    rebalanced: Tensor
    """Logits [B, C] of branch 1."""
    projected: Tensor
    """z [B, P], the features in the space where views are compared."""
    predicted: Tensor
    """p [B, P], made of z to be like the z of another view."""


class TwinClassifierNetwork(Network):
    """Branches that are only classifiers, of one and the same feature, and two layers to compare views of an image.

    The logits are the mean of the two classifiers' logits and do not depend on those layers.
    """

    def __init__(
        self, trunk: nn.Module, classifiers: Sequence[nn.Module], projector: nn.Module, predictor: nn.Module
    ) -> None:
        super().__init__(trunk, [Branch(nn.Identity(), classifier) for classifier in classifiers])
        self.projector = projector
        self.predictor = predictor

    def view(self, images: Tensor) -> View:
        """All outputs from one pass through the trunk."""
        features = F.adaptive_avg_pool2d(self.trunk(images), 1).flatten(1)
        conventional, rebalanced = (classifier(features) for classifier in self.classifiers)
        projected = self.projector(features)
        return View(conventional, rebalanced, projected, self.predictor(projected))


class TwinClassifier(Head):
    """Two linear classifiers of one feature, and two linear layers by which two views of an image are compared.

    The network of GLMC (Du et al., CVPR 2023): branch 0 is the conventional classifier, branch 1 the re-balanced one.
    Only the method GLMC trains the two layers, and it predicts with branch 1 alone.
    """

    name = "twin-classifier"
    info = Info("two linear classifiers of one feature, logits averaged", "Du et al., CVPR 2023", 2023)
    has_training_layers = True

    class Config(Head.Config):
        """Where views are compared."""

        projection_dim: int = Field(default=128, ge=1, le=65536)
        """Dimensions P of z, linear in the features, and of p, linear in z."""

    config: Config

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk = nn.Sequential(*backbone.whole())
        classifiers = [linear_classifier(backbone.feature_dim, num_classes) for _ in range(2)]
        projector = nn.Linear(backbone.feature_dim, self.config.projection_dim)
        predictor = nn.Linear(self.config.projection_dim, self.config.projection_dim)
        return TwinClassifierNetwork(trunk, classifiers, projector, predictor)
