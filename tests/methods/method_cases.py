"""Tiny tasks, batches and networks for the tests of methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tiny_backbone import Tiny

from lt_bench.data.types import Batch, ClassStats, Epoch, IntArray, Step, Views, generator
from lt_bench.methods import Method, Task
from lt_bench.models import Network, build_network
from lt_bench.registry import Choice, Phase, lookup

LABELS = np.repeat(np.arange(3), [20, 6, 2])
LOGITS = torch.tensor(
    [
        [[2.0, 0.5, -1.0], [0.2, 1.0, 0.3], [1.5, 0.1, 0.9], [-0.5, 0.4, 1.2]],
        [[1.0, 0.7, -0.4], [0.5, 0.6, 0.1], [0.9, 0.3, 1.1], [0.1, 0.2, 0.8]],
        [[1.4, 0.0, 0.2], [-0.2, 0.9, 0.7], [0.6, 0.5, 1.0], [0.0, -0.3, 1.5]],
    ]
)
"""Logits [3, 4, 3] of three experts for four images."""
Y = torch.tensor([0, 1, 2, 2])


def choice(kind: str, name: str, **settings: Any) -> Choice:
    component = lookup(kind, name)
    return Choice(component, component.Config.read(settings))


def phase(until: int = 200, sampler: str = "instance", mix: str = "none", loss: str = "cross-entropy") -> Phase:
    return Phase(until, choice("sampler", sampler), choice("mix", mix), choice("loss", loss))


def build(name: str, phases: tuple[Phase, ...] = (), labels: IntArray = LABELS, **settings: Any) -> Method:
    task = Task(labels, ClassStats.of(labels, int(labels.max()) + 1), phases or (phase(),))
    chosen = choice("method", name, **settings)
    method: Method = chosen.component(task, chosen.config)
    return method


def tiny_network(head: str = "linear", num_classes: int = 3, seed: int = 0) -> Network:
    component = lookup("head", head)
    return build_network(Tiny, component(), num_classes, seed)


def step_at(index: int = 10, total: int = 200, seed: int = 0) -> Step:
    # As the loop does at the start of an epoch: the tiny network has a dropout.
    torch.manual_seed(seed)
    epoch = Epoch(index, total, seed)
    return Step(epoch, 0, 4, epoch.rng("method"))


def batch_of(seed: int = 0, size: int = 6, labels: list[int] | None = None) -> Batch:
    rng = generator(seed, "test batch")
    drawn = rng.integers(0, 3, size) if labels is None else np.array(labels)
    images = torch.from_numpy(rng.normal(size=(len(drawn), 3, 8, 8))).float()
    boxes = torch.tensor([[0.0, 0, 1, 1]]).repeat(len(drawn), 1)
    views = Views(torch.arange(len(drawn)), boxes, torch.zeros(len(drawn)).bool())  # of whole images
    return Batch(images, torch.from_numpy(drawn), views)
