"""The field's classic protocol written once more, plainly: ResNet, losses and learning rate, from the papers' formulas.

Nothing here is of the suite, whose speed and results are compared with it. In float64 the suite's loop must arrive at
the same weights (tests/training/test_reference.py).

    python benchmarks/reference_run.py --data-root DATA --loss ldam_drw  # trains with it
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


class ResNet(nn.Module):
    """For images of 32 x 32, of 6 * `blocks` + 2 layers, shortcuts without parameters (He et al., CVPR 2016).

    With `cosine` the classifier gives cosines between features and weights instead of logits.
    """

    def __init__(self, blocks: int, classes: int, cosine: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        stages = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        self.blocks = nn.Sequential(
            *(
                Block(width_in, width, stride) if first else Block(width, width, 1)
                for width_in, width, stride in stages
                for first in [True] + [False] * (blocks - 1)
            )
        )
        self.fc = nn.Linear(64, classes, bias=not cosine)
        self.cosine = cosine
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        if cosine:
            with torch.no_grad():
                self.fc.weight.copy_(F.normalize(torch.empty_like(self.fc.weight).uniform_(-1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        features = self.blocks(F.relu(self.bn(self.stem(x)))).mean((2, 3))
        return F.linear(F.normalize(features), F.normalize(self.fc.weight)) if self.cosine else self.fc(features)


def class_weights(counts: Tensor, beta: float) -> Tensor:
    """Of the effective number of samples, summing to C (Cui et al., CVPR 2019)."""
    weights = (1 - beta) / (1 - beta**counts)
    return weights * len(counts) / weights.sum()


def ce(logits: Tensor, labels: Tensor, counts: Tensor, epoch: int) -> Tensor:
    return -_at(labels, logits.log_softmax(1)).mean()


def ce_drw(logits: Tensor, labels: Tensor, counts: Tensor, epoch: int) -> Tensor:
    """Cross entropy, weighted from epoch 160 on (Cao et al., NeurIPS 2019)."""
    weights = class_weights(counts, 0.9999 if epoch >= 160 else 0.0)[labels]
    losses = -_at(labels, logits.log_softmax(1))
    return (weights * losses).sum() / weights.sum()


def ldam_drw(cosines: Tensor, labels: Tensor, counts: Tensor, epoch: int) -> Tensor:
    """Margins ~ n^(-1/4), the largest 0.5, on the cosine of the true class; scale 30 (Cao et al., NeurIPS 2019)."""
    margins = counts**-0.25
    margins = 0.5 * margins / margins.max()
    return ce_drw(30 * (cosines - margins * F.one_hot(labels, len(counts))), labels, counts, epoch)


def balanced_softmax(logits: Tensor, labels: Tensor, counts: Tensor, epoch: int) -> Tensor:
    """Softmax over n_k * exp(z_k) (Ren et al., NeurIPS 2020)."""
    scaled = counts * (logits - logits.max(1, keepdim=True).values).exp()
    return -(_at(labels, scaled) / scaled.sum(1)).log().mean()


def _at(labels: Tensor, values: Tensor) -> Tensor:
    """The value [B] of each row at its label."""
    return values.gather(1, labels[:, None])[:, 0]


LOSSES = {loss.__name__: loss for loss in (ce, ce_drw, ldam_drw, balanced_softmax)}


def rate(epoch: int) -> float:
    """Learning rate of each epoch, from 0, of the 200."""
    if epoch < 5:
        return 0.1 * (epoch + 1) / 5
    return 0.1 if epoch < 160 else 0.001 if epoch < 180 else 0.00001
