"""GLMC: a mixup and a CutMix view of the same images, made consistent, with labels that drift to re-weighted ones.

Paper: Du et al., Global and Local Mixture Consistency Cumulative Learning for Long-tailed Visual
Recognitions, CVPR 2023, arXiv 2305.08661. Its second stage, MaxNorm, is optional and left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.samplers import Instance, Weighted
from lt_bench.data.types import Batch, ClassStats, Epoch, IntArray, Step
from lt_bench.methods import Method, Task
from lt_bench.mixing.boxes import Box, clipped_box, paste
from lt_bench.mixing.mixup import draw_share
from lt_bench.models.heads.twin_classifier import TwinClassifierNetwork
from lt_bench.models.network import Network
from lt_bench.registry import Info, between


class GLMC(Method):
    """a (CE + CE') + (1 - a) (CE_w + CE_w') + kappa (D(p, z') + D(p', z)), where ' marks the CutMix view.

    In both views an image of a natural stream is mixed with one of a re-sampled stream, augmented anew, and one lambda
    per step mixes images and labels alike. CE is the cross entropy of the conventional classifier with the mixed
    labels; CE_w that of the re-balanced one with the mixed labels times class weights, averaged over the images and
    not divided by the weights. a = 1 - (epoch / epochs)^2. The re-balanced classifier predicts.
    """

    name = "glmc"
    info = Info("consistent mixup and CutMix views, weights by epoch", "Du et al., CVPR 2023", 2023, cost="2x")
    heads = frozenset({"twin-classifier"})

    class Config(Method.Config):
        """Hyper-parameters, by default those of CIFAR-100-LT with factor 100."""

        q: FiniteFloat = Field(default=0.0, ge=0)
        """The re-sampled stream draws images with weight n ** -q: 0 is uniform over images, 1 over classes."""
        label_weighting: FiniteFloat = Field(default=1.2, ge=0)
        """Exponent of the class weights n ** -label_weighting, which sum to C; 1.0 on ImageNet-LT."""
        kappa: FiniteFloat = Field(default=4.0, ge=0)
        """Weight of the consistency of the views: 4 to 6 on CIFAR-100-LT, 1 to 2 on CIFAR-10-LT, 10 on ImageNet-LT."""

    config: Config
    acts = "train the classifier that predicts"
    timing = "its weight is 0 in the first"
    class_weights: Tensor

    @classmethod
    def active_epochs(cls, config: Config, epochs: range, total: int) -> range:
        return between(epochs, 1, total)

    def prepare(self, task: Task) -> None:
        self.natural = Instance(task.labels, task.stats.num_classes)
        self.resampled = Weighted(task.labels, task.stats.num_classes, exponent=self.config.q)
        weights = power_weights(task.stats, self.config.label_weighting)
        self.register_buffer("class_weights", weights, persistent=False)

    def streams(self, epoch: Epoch) -> Mapping[str, IntArray]:
        natural = self.natural.order(epoch, epoch.rng("natural"))
        resampled = self.resampled.order(epoch, epoch.rng("resampled"))
        # The same images twice: augmentation is drawn by the name of the stream.
        return {"natural-1": natural, "resampled-1": resampled, "natural-2": natural, "resampled-2": resampled}

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        assert isinstance(network, TwinClassifierNetwork)
        lam = draw_share(1.0, step.rng)
        mixup, cutmix = mix_views(batches, lam, step.rng)
        # Two passes, so that each view keeps batch statistics of its own; one would normalise them together.
        first, second = views = network.view(mixup), network.view(cutmix)

        target = soft_labels(batches["natural-1"].labels, batches["resampled-1"].labels, lam, len(self.class_weights))
        weighted_target = self.class_weights * target  # [B, C]
        plain = torch.stack([soft_cross_entropy(view.conventional, target) for view in views]).sum()
        weighted = torch.stack([soft_cross_entropy(view.rebalanced, weighted_target) for view in views]).sum()
        consistency = distance(first.predicted, second.projected) + distance(second.predicted, first.projected)
        a = cumulative_weight(step.epoch)
        return a * plain + (1 - a) * weighted + self.config.kappa * consistency

    def scores(self, network: Network, images: Tensor) -> Tensor:
        assert isinstance(network, TwinClassifierNetwork)
        return network.branch_logits(images, 1)


def power_weights(stats: ClassStats, exponent: float) -> Tensor:
    """Weights float32 [C] in proportion to n ** -exponent, summing to C."""
    counts = stats.counts.double()
    # Relative to the rarest class, so that no exponent can make all weights vanish.
    weights = (counts.min() / counts).pow(exponent)
    return (weights * stats.num_classes / weights.sum()).float()


def cumulative_weight(epoch: Epoch) -> float:
    """The weight a of the plain labels: 1 - (epochs done / epochs) ** 2, constant within an epoch."""
    return 1 - (epoch.index / epoch.total) ** 2


def mix_views(batches: Mapping[str, Batch], lam: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The mixup and the CutMix view [B, 3, H, W]; one box for all, and lam is not corrected where it is clipped."""
    mixup = torch.lerp(batches["resampled-1"].images, batches["natural-1"].images, lam)
    images, foreground = batches["natural-2"].images, batches["resampled-2"].images
    height, width = images.shape[-2:]
    box = box_around(int(rng.integers(height)), int(rng.integers(width)), height, width, lam)
    return mixup, paste(images, foreground, box)


def box_around(row: int, column: int, height: int, width: int, lam: float) -> Box:
    """The box around a pixel with sqrt(1 - lam) of the image's sides, rounded up to whole pixels and then clipped.

    CutMix's own rounds them down. In both an odd side then loses its last pixel.
    """
    rows, columns = (math.ceil(side * math.sqrt(1 - lam)) for side in (height, width))
    return clipped_box(row, column, rows, columns, height, width)


def soft_labels(natural: Tensor, resampled: Tensor, lam: float, num_classes: int) -> Tensor:
    """Lam * one-hot(natural) + (1 - lam) * one-hot(resampled), float32 [B, C], of labels [B]."""
    first, second = (F.one_hot(labels, num_classes).float() for labels in (natural, resampled))
    return torch.lerp(second, first, lam)


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Sum over classes of -target * log softmax(logits), averaged over the batch; logits and targets are [B, C].

    The targets need not sum to 1: with weighted ones an image of a rare class counts more.
    """
    return -(target * F.log_softmax(logits.float(), dim=1)).sum(1).mean()


def distance(predicted: Tensor, projected: Tensor) -> Tensor:
    """D(p, z) = -cos(p, z) in float32, the mean over a batch [B, P], without gradient through z."""
    return -F.cosine_similarity(predicted.float(), projected.detach().float(), dim=1).mean()
