"""BitFit: only biases learn."""

from __future__ import annotations

from lt_bench.models.network import Network
from lt_bench.models.tuners import Tuner
from lt_bench.registry import Info


class BitFit(Tuner):
    """All biases inside the blocks, those of their norms too: 101,376 parameters of ViT-B."""

    name = "bitfit"
    info = Info("the biases of the blocks learn", "Zaken et al., ACL 2022", 2022, cost="0.67x")

    def attach(self, network: Network, num_classes: int) -> None:
        for block in self.blocks(network)[0]:
            for name, parameter in block.module.named_parameters():
                parameter.requires_grad_(name.endswith("bias"))
