"""Shake-Shake: two residual branches in random shares, other ones in the backward pass (Gastaldi 2017)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lt_bench.models.backbones.shake_shake import Join
from lt_bench.models.network import Network
from lt_bench.models.shaking import mixed, uniform
from lt_bench.registry import Info
from lt_bench.regularisers import Regulariser


class ShakeShake(Regulariser):
    """a F1 + (1 - a) F2 of the two branches of a block, with gradients as of b F1 + (1 - b) F2; in evaluation halves.

    a and b are uniform in (0, 1), drawn anew for each block and step. It needs the networks of its paper; without it
    these take the mean of the branches in training as well.
    """

    name = "shake-shake"
    info = Info("two residual branches in random shares, other ones for the gradient", "Gastaldi 2017", 2017)

    class Config(Regulariser.Config):
        """What is random."""

        backward: Literal["shake", "even"] = "shake"
        """`even`: b = 1/2, the paper's choice for CIFAR-100."""
        per: Literal["image", "batch"] = "image"
        """What shares a draw."""

    config: Config

    def place(self, network: Network) -> None:
        joins = [part for part in network.modules() if isinstance(part, Join)]
        if not joins:
            raise self.refused("needs blocks of two residual branches, such as those of shake-shake-26-2x32d")
        for join in joins:
            join.shake = self.shaken

    def shaken(self, first: Tensor, second: Tensor) -> Tensor:
        """Two branches [B, ...] in training."""
        forward = uniform(first, self.config.per)
        even = self.config.backward == "even"
        backward = torch.full_like(forward, 0.5) if even else uniform(first, self.config.per)
        return mixed(first, second, forward, backward)
