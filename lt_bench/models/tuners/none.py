"""Nothing learns: the network is evaluated as it was pretrained, with the classifier that `model.start` gives it."""

from __future__ import annotations

from lt_bench.models.network import Network
from lt_bench.models.tuners import Tuner
from lt_bench.registry import Info


class NoTuner(Tuner):
    """Zero-shot classification, where the classifier is made from the names of the classes."""

    name = "none"
    info = Info("nothing learns", cost="0x")
    learns = False

    def attach(self, network: Network, num_classes: int) -> None:
        network.requires_grad_(False)
