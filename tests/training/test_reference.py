"""The training loop against a second, plain implementation of what papers call the classic protocol.

Network, losses and schedule are written here once more, from the papers' formulas and in the usual form, and given the
same batches. In float64 both must arrive at the same weights: nothing in between may differ by more than rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from run_cases import options
from torch import Tensor, nn

from lt_bench.data.opening import open_split
from lt_bench.data.types import Batch, Epoch
from lt_bench.recipe import load_recipe
from lt_bench.training.checkpoint import State
from lt_bench.training.loop import Job, train_epoch
from lt_bench.training.run import build_job, build_optimizer

CLASSES = 10
EPOCHS = 200
SMALL = ("data.n_max=12", "data.factor=4")


class Block(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.grows = stride, width > width_in

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.grows:
            smaller = x[:, :, :: self.stride, :: self.stride]
            nothing = torch.zeros_like(smaller)[:, : smaller.shape[1] // 2]
            x = torch.cat([nothing, smaller, nothing], 1)
        return F.relu(x + y)


class ResNet8(nn.Module):
    def __init__(self, cosine: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.fc = nn.Linear(64, CLASSES, bias=not cosine)
        self.cosine = cosine

    def forward(self, x: Tensor) -> Tensor:
        features = self.blocks(F.relu(self.bn(self.stem(x)))).mean((2, 3))
        return F.linear(F.normalize(features), F.normalize(self.fc.weight)) if self.cosine else self.fc(features)


def class_weights(counts: Tensor, beta: float) -> Tensor:
    """Of the effective number of samples, summing to C (Cui et al., CVPR 2019)."""
    weights = (1 - beta) / (1 - beta**counts)
    return weights * len(counts) / weights.sum()


def ce(logits: Tensor, labels: Tensor, counts: Tensor, epoch: int) -> Tensor:
    return -logits.log_softmax(1)[range(len(labels)), labels].mean()


def ce_drw(logits: Tensor, labels: Tensor, counts: Tensor, epoch: int) -> Tensor:
    """Cross entropy, weighted from epoch 160 on (Cao et al., NeurIPS 2019)."""
    weights = class_weights(counts, 0.9999 if epoch >= 160 else 0.0)[labels]
    losses = -logits.log_softmax(1)[range(len(labels)), labels]
    return (weights * losses).sum() / weights.sum()


def ldam_drw(cosines: Tensor, labels: Tensor, counts: Tensor, epoch: int) -> Tensor:
    """Margins ~ n^(-1/4), the largest 0.5, on the cosine of the true class; scale 30 (Cao et al., NeurIPS 2019)."""
    margins = counts**-0.25
    margins = 0.5 * margins / margins.max()
    return ce_drw(30 * (cosines - margins * F.one_hot(labels, CLASSES)), labels, counts, epoch)


def balanced_softmax(logits: Tensor, labels: Tensor, counts: Tensor, epoch: int) -> Tensor:
    """Softmax over n_k * exp(z_k) (Ren et al., NeurIPS 2020)."""
    scaled = counts * (logits - logits.max(1, keepdim=True).values).exp()
    return -(scaled[range(len(labels)), labels] / scaled.sum(1)).log().mean()


def rate(epoch: int) -> float:
    if epoch < 5:
        return 0.1 * (epoch + 1) / 5
    return 0.1 if epoch < 160 else 0.001 if epoch < 180 else 0.00001


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
@pytest.mark.parametrize("loss", [ce, ce_drw, ldam_drw, balanced_softmax], ids=lambda loss: loss.__name__)
def test_an_epoch_is_that_of_a_plain_implementation(
    loss: Callable[..., Tensor], epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = loss.__name__.replace("_", "-")
    recipe = load_recipe(f"digits-lt/{name}", ["protocol=cifar-200ep", "protocol.batch_size=16", *SMALL])
    split = open_split(recipe.data)
    job = build_job(recipe, split, 0, options(tmp_path, precision="float32", compile="off"), epochs=EPOCHS)
    job.network.double(), job.method.double()
    plain = ResNet8(cosine=loss is ldam_drw).double()
    ours = job.network.state_dict().values()
    plain.load_state_dict({key: value.clone() for key, value in zip(plain.state_dict(), ours, strict=True)})

    batches = recorded(job, monkeypatch)
    train_epoch(job, State(job.network, job.method, build_optimizer(job)), Epoch(epoch, EPOCHS, 0), lambda: None)

    optimizer = torch.optim.SGD(plain.parameters(), rate(epoch), momentum=0.9, weight_decay=2e-4)
    counts = torch.from_numpy(np.bincount(split.train.labels)).double()
    plain.train()
    for batch in batches:
        optimizer.zero_grad()
        loss(plain(batch.images), batch.labels, counts, epoch).backward()
        optimizer.step()

    assert [len(batch.labels) for batch in batches] == [16] * 3 + [14]
    for value, (key, expected) in zip(job.network.state_dict().values(), plain.state_dict().items(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-8, atol=1e-8, msg=lambda text, key=key: f"{key}: {text}")
