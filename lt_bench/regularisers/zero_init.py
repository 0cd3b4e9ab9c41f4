"""Residual branches that begin as nothing: their last normalisation has weight 0 (He et al., CVPR 2019)."""

from __future__ import annotations

import torch

from lt_bench.models.network import Network
from lt_bench.models.residual import residual_branches
from lt_bench.registry import Info
from lt_bench.regularisers import Regulariser


class ZeroInit(Regulariser):
    """The weight of the last normalisation of each residual branch begins at 0, and the block as its shortcut.

    New channels, which a shortcut without parameters does not bring (option A of He et al., CVPR 2016), are left as
    they are drawn: at zero they would stay, since the ReLU behind the sum has no gradient there. Networks whose
    branches end in a convolution, as pre-activation ones do, have no such normalisation.
    """

    name = "zero-init"
    info = Info("residual branches begin at zero", "He et al., CVPR 2019", 2019)

    def initialise(self, network: Network) -> None:
        branches = [branch for branch, _ in residual_branches(network)]
        if not branches or not all(branch.norms for branch in branches):
            raise self.refused("needs residual branches that end in a batch normalisation, as those of resnet32 do")
        with torch.no_grad():
            for branch in branches:
                for norm in branch.norms:
                    norm.get_parameter("weight")[branch.old_channels] = 0
