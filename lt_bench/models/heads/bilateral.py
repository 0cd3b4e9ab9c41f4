"""Two last blocks and one classifier of their joined features: the network of BBN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lt_bench.errors import UserError
from lt_bench.models.backbones import Backbone
from lt_bench.models.heads import Head, linear_classifier
from lt_bench.models.network import Branch, Network
from lt_bench.registry import Info


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

    @property
    def paths(self) -> list[list[nn.Module]]:
        return [[*self.levels, branch.get_submodule("stage")] for branch in self.branches]


class Bilateral(Head):
    """Two branches with a last block of their own, and one linear classifier of both branches' features.

    The network of BBN (Zhou et al., CVPR 2020): branch 0 is the conventional, branch 1 the re-balancing one.
    Where the last stage has a single block, the branches are whole stages.
    """

    name = "bilateral"
    info = Info(
        "two last blocks, one linear classifier of their joined features", "Zhou et al., CVPR 2020", 2020, cost="1.1x"
    )

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk = backbone.trunk()
        *shared, conventional = last_blocks(backbone)
        rebalancing = last_blocks(backbone)[-1]
        classifier = linear_classifier(2 * backbone.feature_dim, num_classes)
        return BilateralNetwork(nn.Sequential(trunk, *shared), (conventional, rebalancing), classifier)


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
