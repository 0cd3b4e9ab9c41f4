"""Small batches and moments of training for the tests of mixes."""

from __future__ import annotations

from typing import Any

import torch

from lt_bench.data.types import Batch, ClassStats, Epoch, Step, generator
from lt_bench.mixing import Mix
from lt_bench.registry import lookup

STATS = ClassStats(torch.tensor([100, 10, 1]))


def build(name: str, stats: ClassStats = STATS, **settings: Any) -> Mix:
    component = lookup("mix", name)
    mix: Mix = component(stats, **settings)
    return mix


def step_at(index: int = 10, total: int = 200, seed: int = 0) -> Step:
    epoch = Epoch(index, total, seed)
    return Step(epoch, 0, 8, epoch.rng("method"))


def batch_of(seed: int = 0, size: int = 4, height: int = 8, width: int = 8) -> Batch:
    rng = generator(seed, "test batch")
    images = torch.from_numpy(rng.normal(size=(size, 3, height, width))).float()
    return Batch(images, torch.from_numpy(rng.integers(0, 3, size)))


def constant(value: float, labels: list[int], height: int = 32, width: int = 32) -> Batch:
    """Images of one value."""
    return Batch(torch.full((len(labels), 3, height, width), float(value)), torch.tensor(labels))
