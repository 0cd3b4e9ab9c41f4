"""An extra block: a residual block behind a convolutional network that stands still."""

from __future__ import annotations

from torch import nn

from lt_bench.errors import UserError
from lt_bench.models.network import Network
from lt_bench.models.tuners import Tuner
from lt_bench.registry import Info

NARROWER = 4
"""Channels before a bottleneck over those in it."""


class ExtraBlock(Tuner):
    """relu(x + f(x)) of the maps x [B, D, H, W] of the last stage, f a bottleneck from D channels to D / 4 and back.

    As MiSLAS trains ResNet-152 on Places-LT (Zhong et al., CVPR 2021), in the first stage; in the second the block's
    running statistics are all that moves of the network. Where the authors pool the features could not be read: here
    behind the block. It begins as torch draws convolutions, so it is not the identity.
    """

    name = "extra-block"
    info = Info("one more residual block and the classifier learn", "Zhong et al., CVPR 2021", 2021, cost="0.33x")

    def attach(self, network: Network, num_classes: int) -> None:
        for branch in network.branches:
            stage = branch.get_submodule("stage")
            branch.stage = nn.Sequential(stage, bottleneck(channels(stage)))


def channels(stage: nn.Module) -> int:
    """Of the maps that a last stage gives. Raises UserError where it gives none that a block could take."""
    found = [layer.num_features for layer in stage.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not found or found[-1] % NARROWER:
        raise UserError("model.tuner: extra-block needs a convolutional network with batch normalisation at its end")
    return found[-1]


def bottleneck(width: int) -> nn.Module:
    """One of torchvision's, with as many channels behind it as before."""
    from torchvision.models.resnet import Bottleneck  # noqa: PLC0415 (as slow to import as torch itself)

    block: nn.Module = Bottleneck(width, width // NARROWER)
    return block
