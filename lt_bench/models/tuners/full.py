"""Full fine-tuning: all blocks of a transformer learn."""

from __future__ import annotations

from lt_bench.models.network import Network
from lt_bench.models.tuners import Tuner
from lt_bench.registry import Info


class Full(Tuner):
    """The blocks, 85,054,464 parameters of ViT-B; embeddings and the norms around the blocks stand still.

    LIFT's best rate for it is a twentieth of that of AdaptFormer on ImageNet-LT, a tenth on Places-LT.
    """

    name = "full"
    info = Info("all blocks learn", "Shi et al., ICML 2024", 2024)

    def attach(self, network: Network, num_classes: int) -> None:
        for block in self.blocks(network)[0]:
            block.module.requires_grad_(True)
