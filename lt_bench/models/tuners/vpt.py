"""VPT: tokens that learn, among those of the image."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from lt_bench.models.network import Network
from lt_bench.models.transformer import blocks_of
from lt_bench.models.tuners import Tuner, once, power_of_two
from lt_bench.registry import Info


class Prompted(nn.Module):
    """A block that is given prompts [P, D] among its tokens [B, N, D], and gives them back or keeps them to itself."""

    def __init__(self, block: nn.Module, prompts: Tensor, start: int | None, *, given_back: bool) -> None:
        super().__init__()
        self.block, self.prompts = block, nn.Parameter(prompts)
        self.start, self.given_back = start, given_back

    def forward(self, tokens: Tensor) -> Tensor:
        start = tokens.shape[1] if self.start is None else self.start
        prompts = self.prompts.to(tokens.dtype).expand(len(tokens), -1, -1)
        found: Tensor = self.block(torch.cat([tokens[:, :start], prompts, tokens[:, start:]], 1))
        return found if self.given_back else without(found, start, prompts.shape[1])


class Unprompted(nn.Module):
    """A block behind which prompts that came in earlier are left out."""

    def __init__(self, block: nn.Module, start: int | None, count: int) -> None:
        super().__init__()
        self.block, self.start, self.count = block, start, count

    def forward(self, tokens: Tensor) -> Tensor:
        start = tokens.shape[1] - self.count if self.start is None else self.start
        return without(self.block(tokens), start, self.count)


def without(tokens: Tensor, start: int, count: int) -> Tensor:
    """Tokens [B, N, D] but `count` of them from `start` on."""
    return torch.cat([tokens[:, :start], tokens[:, start + count :]], 1)


class VPT(Tuner):
    """Visual prompt tuning (Jia et al., ECCV 2022): prompts of each block's own (deep), or of the first (shallow)."""

    name = "vpt"
    info = Info("tokens that learn, among those of the image", "Jia et al., ECCV 2022", 2022, cost="0.7x")

    class Config(Tuner.Config):
        """How many prompts there are, where, and how drawn. The defaults are LIFT's."""

        deep: bool = True
        prompts: int | None = Field(default=10, ge=1)
        """To a block. None: the rule of LIFT+, 2^floor(log2(C / L)) for C classes and L blocks."""
        place: Literal["end", "after-class-token"] = "end"
        drawn: Literal["uniform", "normal"] = "uniform"
        """Uniform up to sqrt(6 / (3 p^2 + D)) for patches of p by p pixels, or normal of deviation 0.02 (LIFT+)."""

    def attach(self, network: Network, num_classes: int) -> None:
        blocks, depth = self.blocks(network)
        count = self.config.prompts or power_of_two(num_classes / depth)
        start = None if self.config.place == "end" else 1
        patch = next(part.kernel_size[0] for part in network.modules() if isinstance(part, nn.Conv2d))
        paths = blocks_of(network)
        for block in blocks if self.config.deep else once(path[0] for path in paths):
            prompts = self._drawn(count, block.width, patch)
            block.replace(Prompted(block.module, prompts, start, given_back=not self.config.deep))
        for block in () if self.config.deep else once(path[-1] for path in paths):
            block.replace(Unprompted(block.module, start, count))

    def _drawn(self, count: int, width: int, patch: int) -> Tensor:
        if self.config.drawn == "normal":
            return torch.empty(count, width).normal_(std=0.02)
        bound = prompt_bound(patch, width)
        return torch.empty(count, width).uniform_(-bound, bound)


def prompt_bound(patch: int, width: int) -> float:
    """sqrt(6 / (3 p^2 + D))."""
    return math.sqrt(6 / (3 * patch**2 + width))
