"""A classifier, and projections to unit vectors for a contrastive loss: the networks of PaCo and BCL."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field, FiniteFloat
from torch import Tensor, nn

from lt_bench.models.backbones import Backbone
from lt_bench.models.heads import Head, ScaledCosineClassifier, linear_classifier
from lt_bench.models.network import Branch, Network
from lt_bench.registry import Info


class ContrastiveNetwork(Network):
    """One branch that ends in features [B, D], a classifier of them, and a projection to unit vectors [B, P].

    The projection serves a contrastive loss in training and has no part in the logits.
    """

    def __init__(self, trunk: nn.Module, stage: nn.Module, classifier: nn.Module, projection: nn.Sequential) -> None:
        super().__init__(trunk, [Branch(stage, nn.Identity())])
        self.classifier = classifier
        self.projection = projection
        last = projection[-1]
        assert isinstance(last, nn.Linear)
        self.projection_dim = last.out_features

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images))
        return logits

    def all_logits(self, images: Tensor) -> Tensor:
        return self.forward(images)[None]

    def branch_logits(self, images: Tensor, index: int) -> Tensor:
        return self.all_logits(images)[index]

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        return features, self.classifier(features)

    def features(self, images: Tensor) -> Tensor:
        """Pooled features [B, D]."""
        features: Tensor = self.branches[0](self.trunk(images))
        return features

    def project(self, features: Tensor) -> Tensor:
        """Unit vectors float32 [B, P] of features [B, D]."""
        vectors: Tensor = self.projection(features)
        return F.normalize(vectors.float())

    @property
    def classifiers(self) -> list[nn.Module]:
        return [self.classifier]


class PrototypeNetwork(ContrastiveNetwork):
    """A contrastive network in which a second projection makes a prototype of each class from its weights."""

    def __init__(
        self,
        trunk: nn.Module,
        stage: nn.Module,
        classifier: nn.Module,
        projection: nn.Sequential,
        prototype_projection: nn.Sequential,
    ) -> None:
        super().__init__(trunk, stage, classifier, projection)
        self.prototype_projection = prototype_projection

    def prototypes(self) -> Tensor:
        """Unit vectors float32 [C, P], one for each class."""
        vectors: Tensor = self.prototype_projection(self.classifier.weight)
        return F.normalize(vectors.float())


class Contrastive(Head):
    """A linear classifier, and a projection of the features to unit vectors, which is used in training only.

    The network of PaCo (Cui et al., ICCV 2021), to which the class weights are the centres of the classes.
    """

    name = "contrastive"
    info = Info("linear classifier, features projected for a contrast", "Cui et al., ICCV 2021", 2021)
    gives_features = True
    has_training_layers = True

    class Config(Head.Config):
        """Width of the projection."""

        projection_dim: int = Field(default=32, ge=1, le=65536)
        """Dimensions of the unit vectors; 128 on ImageNet-LT."""

    config: Config

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        classifier = linear_classifier(backbone.feature_dim, num_classes)
        projected = projection(backbone.feature_dim, self.config.projection_dim)
        return ContrastiveNetwork(*backbone.whole(), classifier, projected)


class Prototypes(Head):
    """A scaled cosine classifier, and two projections to unit vectors: of the features and of the class weights.

    The network of BCL (Zhu et al., CVPR 2022), which contrasts the one with the other, the prototypes of the classes.
    The projections are used in training only.
    """

    name = "prototypes"
    info = Info("scaled cosine classifier, features and class weights projected", "Zhu et al., CVPR 2022", 2022)
    gives_features = True
    has_training_layers = True

    class Config(Head.Config):
        """Scale of the classifier and width of the projections."""

        scale: FiniteFloat = Field(default=30.0, gt=0)
        """Factor on the cosines; a softmax over bare cosines could not become confident."""
        projection_dim: int = Field(default=128, ge=1, le=65536)
        """Dimensions of the unit vectors. The authors have 1024 for ImageNet networks and released no code for CIFAR;
        128 is more than the 64 features of a CIFAR ResNet can fill."""

    config: Config

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        feature_dim, projection_dim = backbone.feature_dim, self.config.projection_dim
        return PrototypeNetwork(
            *backbone.whole(),
            ScaledCosineClassifier(feature_dim, num_classes, self.config.scale),
            projection(feature_dim, projection_dim),
            projection(feature_dim, projection_dim),
        )


def projection(feature_dim: int, projection_dim: int) -> nn.Sequential:
    """Features [B, D] to vectors [B, P], as in the released code of PaCo and BCL."""
    first, last = nn.Linear(feature_dim, feature_dim), nn.Linear(feature_dim, projection_dim)
    return nn.Sequential(first, nn.BatchNorm1d(feature_dim), nn.ReLU(), last)
