"""AdaptFormer: a narrow network beside every MLP; and Adapter, the same behind it."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from lt_bench.models.network import Network
from lt_bench.models.transformer import Block
from lt_bench.models.tuners import Tuner, bottleneck_width, unscaled
from lt_bench.registry import Info


class Bottleneck(nn.Module):
    """a(x) = s U ReLU(V LN(x)) of tokens [B, N, D], V of r x D; 0 at the start, for U and the biases are.

    V is drawn by Kaiming's rule with slope sqrt(5). Without `scale` s is 1.
    """

    def __init__(self, width: int, narrow: int, drawn: str, *, scale: bool) -> None:
        super().__init__()
        self.norm, self.down, self.up = nn.LayerNorm(width), nn.Linear(width, narrow), nn.Linear(narrow, width)
        self.scale = nn.Parameter(torch.ones(1)) if scale else None
        draw: Any = {"normal": nn.init.kaiming_normal_, "uniform": nn.init.kaiming_uniform_}[drawn]
        draw(self.down.weight, a=math.sqrt(5))
        for tensor in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(tensor)

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.up(torch.relu(self.down(self.norm(tokens))))
        return found if self.scale is None else found.mul(self.scale)


class Beside(nn.Module):
    """What a block adds behind its attention: its own part and that of the tuner, of the same tokens."""

    def __init__(self, own: nn.Module, added: nn.Module) -> None:
        super().__init__()
        self.own, self.added = own, added

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.own(tokens) + self.added(tokens)
        return found


class Behind(Beside):
    """The tuner's part is given what the block's own makes of the tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.own(tokens)
        both: Tensor = found + self.added(found)
        return both


class WithBottleneck(Tuner):
    """Adds bottlenecks, one to each block."""

    scale: bool

    class Config(Tuner.Config):
        """How wide they are, and how drawn."""

        width: int | None = Field(default=None, ge=1)
        """r. None: LIFT's rule, 2^floor(log2(C / 2L)) for C classes and L blocks."""
        drawn: Literal["normal", "uniform"] = "normal"
        """How V begins: as in LIFT, or as in LIFT+."""

    def attach(self, network: Network, num_classes: int) -> None:
        blocks, depth = self.blocks(network)
        narrow = self.config.width or bottleneck_width(num_classes, depth)
        for block in unscaled(blocks, self.name):
            self.join(block, Bottleneck(block.width, narrow, self.config.drawn, scale=self.scale))

    def join(self, block: Block, bottleneck: Bottleneck) -> None:
        """Let it act in a block."""
        raise NotImplementedError


class AdaptFormer(WithBottleneck):
    """x + MLP(LN(x)) + a(x): beside the MLP, of its input before the norm, with a scale s that learns; LIFT's form."""

    name = "adaptformer"
    info = Info("a bottleneck beside every MLP", "Chen et al., NeurIPS 2022", 2022, cost="0.67x")
    scale = True

    def join(self, block: Block, bottleneck: Bottleneck) -> None:
        block.replace_mlp(Beside(block.take_mlp(), bottleneck))


class Adapter(WithBottleneck):
    """y + a(y) in the place of y = MLP(LN(x)): behind the MLP, without a scale."""

    name = "adapter"
    info = Info("a bottleneck behind every MLP", "Houlsby et al., ICML 2019", 2019, cost="0.67x")
    scale = False

    def join(self, block: Block, bottleneck: Bottleneck) -> None:
        block.replace_mlp(Behind(block.module.mlp, bottleneck))
