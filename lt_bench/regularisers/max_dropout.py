"""MaxDropout: the largest activations left out (Santos et al., ICPR 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from lt_bench.models.backbones.preact_resnet import PreActBlock
from lt_bench.models.changes import Change, behind
from lt_bench.models.network import Network
from lt_bench.models.norm import BatchNormReLU
from lt_bench.registry import Info
from lt_bench.regularisers import Regulariser


class MaxDropout(Regulariser):
    """Sets activations to zero that lie above a share of their range, from the smallest to the largest of the batch.

    Nothing is drawn, and what is left is not scaled. One outlier in the batch decides how many others are kept.
    """

    name = "max-dropout"
    info = Info("the largest activations dropped", "Santos et al., ICPR 2020", 2020)

    class Config(Regulariser.Config):
        """From where on, and where."""

        rate: float = Field(default=0.3, gt=0, lt=1)
        """1 - rate is the share of the range from which on activations are zero: a threshold, no probability."""
        where: Literal["stages", "blocks"] = "stages"
        """Behind every stage, as the authors have it in ResNet-18, or before the last convolution of every block of a
        pre-activation network, as in their wide ResNet."""
        legacy_eval_on: bool = False
        """Whether it acts in evaluation too, as in the authors' networks by mistake: their figures are such."""

    config: Config

    @property
    def in_evaluation(self) -> bool:  # type: ignore[override]
        return self.config.legacy_eval_on

    def place(self, network: Network) -> None:
        act = partial(without_largest, rate=self.config.rate)
        for part in self.stages(network) if self.config.where == "stages" else self.inside(network):
            behind(part, Change(act, act if self.config.legacy_eval_on else None))

    def inside(self, network: Network) -> list[nn.Module]:
        """What stands before the last convolution of each block. Raises UserError for networks of other blocks."""
        found = list(_last_activations(network))
        if not found:
            raise self.refused("where=blocks needs pre-activation blocks, such as those of wrn-28-10")
        return found


def without_largest(x: Tensor, rate: float) -> Tensor:
    """x, with zero for what lies above the share 1 - rate of the range of all of it."""
    low, high = x.detach().aminmax()
    return x * (x <= low + (1 - rate) * (high - low))


def _last_activations(network: nn.Module) -> Iterator[nn.Module]:
    for block in network.modules():
        if isinstance(block, PreActBlock):
            yield [part for part in block.main.modules() if isinstance(part, BatchNormReLU)][-1]
