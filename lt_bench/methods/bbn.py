"""BBN: a bilateral-branch network with cumulative learning.

Paper: Zhou, Cui, Wei, Chen, BBN: Bilateral-Branch Network with Cumulative Learning for Long-Tailed Visual
Recognition, CVPR 2020, arXiv 1912.02413. Adaptor, fusion and loss are those of the released code, which drops
the last incomplete batch of an epoch; this suite keeps it, as for every method.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from lt_bench.data.samplers import Instance, Reverse
from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.methods import Method, Task
from lt_bench.models.heads.bilateral import BilateralNetwork
from lt_bench.models.network import Network
from lt_bench.registry import Info, between


class BBN(Method):
    """Moves the weight of features and loss from a natural to a reversed stream as the epochs go by."""

    name = "bbn"
    info = Info("two branches, natural to reversed stream by epoch", "Zhou et al., CVPR 2020", 2020, cost="2x")
    heads = frozenset({"bilateral"})

    acts = "train its re-balancing branch"
    timing = "its weight is 0 in the first"

    @classmethod
    def active_epochs(cls, config: Method.Config, epochs: range, total: int) -> range:
        return between(epochs, 1, total)

    def prepare(self, task: Task) -> None:
        self.uniform = Instance(task.labels, task.stats.num_classes)
        self.reverse = Reverse(task.labels, task.stats.num_classes)

    def streams(self, epoch: Epoch) -> Mapping[str, IntArray]:
        return {
            "uniform": self.uniform.order(epoch, epoch.rng("uniform")),
            "reverse": self.reverse.order(epoch, epoch.rng("reverse")),
        }

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        assert isinstance(network, BilateralNetwork)
        uniform, reverse = batches["uniform"], batches["reverse"]
        # One pass through the trunk for each stream: they share its weights but not its batch statistics.
        conventional = network.branch_features(uniform.images, 0)
        rebalancing = network.branch_features(reverse.images, 1)
        alpha = adaptor(step.epoch)
        logits = network.fused_logits(conventional, rebalancing, alpha).float()
        return alpha * F.cross_entropy(logits, uniform.labels) + (1 - alpha) * F.cross_entropy(logits, reverse.labels)


def adaptor(epoch: Epoch) -> float:
    """Alpha, the weight of the uniform stream: 1 - (epochs done / horizon) ** 2, constant within an epoch.

    The horizon is the number of epochs, but 100 for 90 epochs and 200 for 180, so that alpha ends near 0.2 there.
    """
    horizon = {90: 100, 180: 200}.get(epoch.total, epoch.total)
    return float(1 - (epoch.index / horizon) ** 2)
