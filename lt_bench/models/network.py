"""The shape of every network: a shared trunk, then one or more branches that end in a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.errors import UserError


class Branch(nn.Module):
    """The last stage of a backbone with global average pooling and a classifier of its own."""

    def __init__(self, stage: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        self.classifier = classifier

    def features(self, shared: Tensor) -> Tensor:
        """Pooled features [B, D] of the trunk's output."""
        return F.adaptive_avg_pool2d(self.stage(shared), 1).flatten(1)

    def forward(self, shared: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(shared))
        return logits


class Network(nn.Module):
    """A trunk and its branches; an ordinary classifier has one branch.

    Calling it gives the mean of the branches' logits [B, C] for images [B, 3, H, W].
    """

    def __init__(self, trunk: nn.Module, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.trunk = trunk
        self.branches = nn.ModuleList(branches)

    def forward(self, images: Tensor) -> Tensor:
        shared = self.trunk(images)
        logits = [branch(shared) for branch in self.branches]
        return logits[0] if len(logits) == 1 else torch.stack(logits).mean(0)

    def all_logits(self, images: Tensor) -> Tensor:
        """Logits [E, B, C] of all E branches; the trunk runs once."""
        shared = self.trunk(images)
        return torch.stack([branch(shared) for branch in self.branches])

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features [B, D] and the logits [B, C] that the one branch makes of them.

        Raises UserError for a network of several branches, whose logits come from several features.
        """
        if len(self.branches) != 1:
            raise UserError(
                f"model.head: a loss on features needs a head of one branch, this one has {len(self.branches)}"
            )
        # Taken apart, the branch runs uncompiled where torch has compiled it as a whole.
        branch = self.branches[0]
        features: Tensor = branch.features(self.trunk(images))  # type: ignore[operator]
        return features, branch.get_submodule("classifier")(features)

    def branch_logits(self, images: Tensor, index: int) -> Tensor:
        """Logits [B, C] of one branch."""
        logits: Tensor = self.branches[index](self.trunk(images))
        return logits

    @property
    def classifiers(self) -> list[nn.Module]:
        """The layers whose outputs are logits."""
        return [branch.get_submodule("classifier") for branch in self.branches]

    def rates(self) -> Mapping[Tensor, float]:
        """What learns, each with a factor on the learning rate."""
        return dict.fromkeys(self.parameters(), 1.0)


class BilateralNetwork(Network):
    """Two branches that end in features [B, D], and one classifier [2D to C] of both.

    Here too the logits are the mean of the branches' logits, those of a branch being what `fused_logits` gives
    when all the weight is on it.
    """

    def __init__(self, trunk: nn.Module, blocks: tuple[nn.Module, nn.Module], classifier: nn.Module) -> None:
        super().__init__(trunk, [Branch(block, nn.Identity()) for block in blocks])
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        shared = self.trunk(images)
        logits: Tensor = self.classifier(torch.cat([branch(shared) for branch in self.branches], 1))
        return logits

    def branch_logits(self, images: Tensor, index: int) -> Tensor:
        features = self.branch_features(images, index)
        return self.fused_logits(features, features, alpha=1 - index)

    def branch_features(self, images: Tensor, index: int) -> Tensor:
        """Pooled features [B, D] of one branch."""
        features: Tensor = self.branches[index](self.trunk(images))
        return features

    def fused_logits(self, first: Tensor, second: Tensor, alpha: float) -> Tensor:
        """Logits [B, C] of features of the two branches, weighed by alpha and 1 - alpha.

        The factor 2 makes alpha = 0.5 the plain concatenation.
        """
        logits: Tensor = self.classifier(2 * torch.cat((alpha * first, (1 - alpha) * second), 1))
        return logits

    @property
    def classifiers(self) -> list[nn.Module]:
        return [self.classifier]


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
