"""The training loop against a second, plain implementation of what papers call the classic protocol.

Network, losses and schedule are written once more in benchmarks/plain.py, from the papers' formulas, and given the same
batches. In float64 both must arrive at the same weights: nothing in between may differ by more than rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_cases import options
from torch import Tensor

from lt_bench.data.opening import open_split
from lt_bench.data.types import Batch, Epoch
from lt_bench.recipe import load_recipe
from lt_bench.training.loop import Job, train_epoch
from lt_bench.training.run import build_job, initial_state

CLASSES = 10
EPOCHS = 200
SMALL = ("data.n_max=12", "data.factor=4")


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are computed in float32 by calling `float`, which here leaves float64 alone."""
    real = Tensor.float
    monkeypatch.setattr(Tensor, "float", lambda self: self if self.dtype == torch.float64 else real(self))


def recorded(job: Job, monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The batches of the epochs to come, in float64."""
    batches = []
    stream = job.sets.train.stream

    def watched(*arguments: Any) -> Iterator[Batch]:
        for batch in stream(*arguments):
            batches.append(dataclasses.replace(batch, images=batch.images.double()))
            yield batches[-1]

    monkeypatch.setattr(job.sets.train, "stream", watched)
    return batches


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("epoch", [0, 7, 165, 190])
@pytest.mark.parametrize("name", ["ce", "ce-drw", "ldam-drw", "balanced-softmax"])
def test_an_epoch_is_that_of_a_plain_implementation(
    name: str, epoch: int, script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(f"digits-lt/{name}", ["protocol=cifar-200ep", "protocol.batch_size=16", *SMALL])
    split = open_split(recipe.data)
    job = build_job(recipe, split, 0, options(tmp_path, precision="float32", compile="off"), epochs=EPOCHS)
    job.network.double(), job.method.double()
    reference = script("plain")
    plain = reference.ResNet(1, CLASSES, cosine=name == "ldam-drw").double()
    ours = job.network.state_dict().values()
    plain.load_state_dict({key: value.clone() for key, value in zip(plain.state_dict(), ours, strict=True)})

    batches = recorded(job, monkeypatch)
    train_epoch(job, initial_state(job), Epoch(epoch, EPOCHS, 0), lambda _: None)

    optimizer = torch.optim.SGD(plain.parameters(), reference.rate(epoch), momentum=0.9, weight_decay=2e-4)
    counts = torch.from_numpy(np.bincount(split.train.labels)).double()
    plain.train()
    for batch in batches:
        optimizer.zero_grad()
        reference.LOSSES[name.replace("-", "_")](plain(batch.images), batch.labels, counts, epoch).backward()
        optimizer.step()

    assert [len(batch.labels) for batch in batches] == [16] * 3 + [14]
    for value, (key, expected) in zip(job.network.state_dict().values(), plain.state_dict().items(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-8, atol=1e-8, msg=lambda text, key=key: f"{key}: {text}")
