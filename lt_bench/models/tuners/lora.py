"""LoRA: what is added to weights is a product of two narrow matrices."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lt_bench.models.network import Network
from lt_bench.models.tuners import Tuner, bottleneck_width, power_of_two
from lt_bench.registry import Info


class LowRank(nn.Module):
    """W + B A / r for queries and for values, of weights [3D, D] that hold queries, keys and values; B is 0 at first.

    A is drawn as LIFT's code does it: stored transposed, so that Kaiming's rule takes r for the fan-in, U(-1/sqrt(r),
    1/sqrt(r)). That is larger than the usual 1/sqrt(D).
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.rank = rank
        bound = rank**-0.5
        self.down = nn.Parameter(torch.empty(2, rank, width).uniform_(-bound, bound))
        self.up = nn.Parameter(torch.zeros(2, width, rank))

    def forward(self, weight: Tensor) -> Tensor:
        queries, values = torch.bmm(self.up, self.down) / self.rank
        return weight + torch.cat([queries, torch.zeros_like(queries), values])


class LoRA(Tuner):
    """On queries and values only, with the scale 1/r (Hu et al., ICLR 2022, as LIFT has it).

    The library peft, given timm's fused weights, would change the keys as well, and share A between the three.
    """

    name = "lora"
    info = Info("low-rank additions to queries and values", "Hu et al., ICLR 2022", 2022, cost="0.67x")

    class Config(Tuner.Config):
        """Its rank."""

        rank: int | None = Field(default=None, ge=1)
        """r. None: by the rule."""
        rule: Literal["lift", "lift-plus"] = "lift"
        """2^floor(log2(C / 2L)) for C classes and L blocks, or a half of that, 2^floor(log2(C / 4L))."""

    def attach(self, network: Network, num_classes: int) -> None:
        blocks, depth = self.blocks(network)
        by_rule = {"lift": bottleneck_width(num_classes, depth), "lift-plus": power_of_two(num_classes / (4 * depth))}
        for block in blocks:
            module, name = block.qkv
            addition = LowRank(block.width, self.config.rank or by_rule[self.config.rule])
            parametrize.register_parametrization(module, name, addition, unsafe=True)
