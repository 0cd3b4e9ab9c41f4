"""TrivialAugment: one operation of any magnitude (Müller and Hutter, ICCV 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lt_bench.data.augmentations import Draws
from lt_bench.data.augmentations.operations import FOURTEEN, WIDE, Operation, Operations, either_way
from lt_bench.registry import Info

MAGNITUDES = 31


class TrivialAugment(Operations):
    """One of fourteen operations, each with a magnitude of its own from 0 to 30, in the wide space of the paper."""

    name = "trivial-augment"
    info = Info("one random operation of a random magnitude", "Müller and Hutter, ICCV 2021", 2021)
    fill = 0

    def draw(self, size: int, height: int, width: int, rng: np.random.Generator, device: torch.device) -> Draws:
        return (rng.integers(0, 2 * MAGNITUDES * len(FOURTEEN), (size, 1)),)

    def table(self, height: int, width: int) -> Sequence[Operation]:
        shares = [magnitude / (MAGNITUDES - 1) for magnitude in range(MAGNITUDES)]
        return [
            signed
            for name in FOURTEEN
            for share in shares
            for signed in either_way(name, WIDE.value(name, share, height, width))
        ]
