"""The shape of every network: a shared trunk, then one or more branches that end in a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.errors import UserError


class Level(nn.Sequential):
    """A stage of a backbone, behind which hidden features may be mixed."""


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
        self.regularisers: tuple[Any, ...] = ()
        """Those that act in it, each a `regularisers.Regulariser`."""
        self.trunk_lr_factor = 1.0
        """Factor on the learning rate of the trunk."""
        self.lr_factor = 1.0
        """Factor on the learning rate of all of it."""
        self.tuned: tuple[nn.Module, ...] = ()
        """Pretrained parts of which a tuner says what learns: they compute in training as in evaluation."""

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

    @property
    def levels(self) -> list[Level]:
        """The stages that all branches share, in order."""
        return _levels(self.trunk)

    @property
    def paths(self) -> list[list[nn.Module]]:
        """For each branch all stages on the way through it, the shared ones first."""
        return [[*self.levels, *_levels(branch)] for branch in self.branches]

    def rates(self) -> Mapping[Tensor, float]:
        """What learns, each with a factor on the learning rate."""
        found = dict.fromkeys(self.parameters(), 1.0) | dict.fromkeys(self.trunk.parameters(), self.trunk_lr_factor)
        return {one: rate * self.lr_factor for one, rate in found.items() if rate and one.requires_grad}

    def slow_trunk(self, rate: float) -> None:
        """Let the trunk learn at a share of the learning rate; at 0 it stands still, its running statistics too.

        Raises UserError for a network whose branches share nothing.
        """
        if not any(True for _ in self.trunk.parameters()):
            raise UserError("model.trunk_lr_factor: nothing is shared by the branches of this head; leave it at 1")
        self.trunk_lr_factor = rate
        self.trunk.requires_grad_(rate > 0)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if not self.trunk_lr_factor:
            self.trunk.eval()
        for part in self.tuned:
            part.eval()
        return self


def _levels(part: nn.Module) -> list[Level]:
    return [stage for stage in part.modules() if isinstance(stage, Level)]
