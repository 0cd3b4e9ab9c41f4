"""RandAugment: operations drawn at random, all of one magnitude (Cubuk et al., CVPR Workshops 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field

from lt_bench.data.augmentations import Augment, Draws
from lt_bench.data.augmentations.operations import FOURTEEN, USUAL, Operation, Operations, either_way
from lt_bench.registry import Info
from lt_bench.settings import added


class RandAugment(Operations):
    """`operations` of fourteen, drawn with replacement, at a magnitude of 30, as torchvision has it."""

    name = "rand-augment"
    info = Info("random operations of one magnitude", "Cubuk et al., CVPR Workshops 2020", 2020)
    fill = 0

    class Config(Augment.Config):
        """The defaults are torchvision's."""

        operations: int = Field(default=2, ge=1, le=14)
        """On every image."""
        magnitude: int = Field(default=9, ge=0, le=30)
        probability: float = added(1.0, ge=0, le=1)
        """Of each operation's being applied: 1/2 in the code that timm has and others took over."""

    config: Config

    def draw(self, size: int, height: int, width: int, rng: np.random.Generator, device: torch.device) -> Draws:
        chosen = rng.integers(0, 2 * len(FOURTEEN), (size, self.config.operations))
        if self.config.probability < 1:
            chosen[rng.random(chosen.shape) >= self.config.probability] = -1
        return (chosen,)

    def table(self, height: int, width: int) -> Sequence[Operation]:
        share = self.config.magnitude / 30
        values = {name: USUAL.value(name, share, height, width) for name in FOURTEEN}
        return [signed for name, value in values.items() for signed in either_way(name, value)]
