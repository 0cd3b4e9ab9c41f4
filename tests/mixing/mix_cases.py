"""Small batches and moments of training for the tests of mixes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lt_bench.data.types import Batch, ClassStats, Epoch, Step, Views, generator
from lt_bench.mixing import Mix
from lt_bench.mixing.teachers import Taught
from lt_bench.registry import lookup

STATS = ClassStats(torch.tensor([100, 10, 1]))


def build(name: str, stats: ClassStats = STATS, **settings: Any) -> Mix:
    if name == "saliencymix":
        pytest.importorskip("cv2", reason="the extra [saliency]")
    component = lookup("mix", name)
    mix: Mix = component(stats, **settings)
    return taught(mix)


def taught(mix: Mix) -> Mix:
    """The mix with maps of 64 images where it has a teacher."""
    for part in mix.modules():
        if isinstance(part, Taught):
            part.maps = torch.from_numpy(generator(0, "test maps").random((64, 5, 5))).float()
    return mix


def whole(size: int) -> Views:
    """Views of all of images 0, 1, ..."""
    return Views(torch.arange(size), torch.tensor([[0.0, 0, 1, 1]]).repeat(size, 1), torch.zeros(size).bool())


def step_at(index: int = 10, total: int = 200, seed: int = 0) -> Step:
    epoch = Epoch(index, total, seed)
    return Step(epoch, 0, 8, epoch.rng("method"))


def batch_of(seed: int = 0, size: int = 4, height: int = 8, width: int = 8) -> Batch:
    rng = generator(seed, "test batch")
    images = torch.from_numpy(rng.normal(size=(size, 3, height, width))).float()
    return Batch(images, torch.from_numpy(rng.integers(0, 3, size)), whole(size))


def constant(value: float, labels: list[int], height: int = 32, width: int = 32) -> Batch:
    """Images of one value."""
    images = torch.full((len(labels), 3, height, width), float(value))
    return Batch(images, torch.tensor(labels), whole(len(labels)))
