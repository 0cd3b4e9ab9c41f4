"""Only the classifier learns: a linear probe."""

from __future__ import annotations

from lt_bench.models.network import Network
from lt_bench.models.tuners import Tuner
from lt_bench.registry import Info


class ClassifierOnly(Tuner):
    """The linear probe. Its best rate in LIFT's code is twice that of AdaptFormer, in that of LIFT+ 1.5 times."""

    name = "classifier"
    info = Info("only the classifier learns", "Shi et al., ICML 2024", 2024, cost="0.33x")

    def attach(self, network: Network, num_classes: int) -> None:
        pass
