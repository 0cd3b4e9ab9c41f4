"""PADDLES with semi-supervision: images whose label is not confirmed serve without it, by MixMatch.

Papers: Huang et al., PADDLES, ICCV 2023, arXiv 2212.03462; Berthelot et al., MixMatch: A Holistic Approach to
Semi-Supervised Learning, NeurIPS 2019, arXiv 1905.02249.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.samplers import PURPOSE, dealt
from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.methods import Task
from lt_bench.methods.early_stopping import EarlyStopping, sooner, stops
from lt_bench.models.network import Network
from lt_bench.registry import Info

FIRST, SECOND = "first", "second"
"""Two views of the same images."""


class PaddlesSemi(EarlyStopping):
    """Learns the classifier anew, then all but it by MixMatch: confirmed images with their label, others without.

    A batch holds images of both kinds in two views each. What the network makes of the two views of an image without
    label, sharpened, is its target; all are mixed with each other. The loss of the first 2 b_x is cross entropy by
    class, whose weight is at most 3; of the others it is the squared difference, times a weight that rises to
    `unlabelled_weight`.

    In the authors' code the epoch T_P also has a first pass of MixMatch, here the next epoch.
    """

    name = "paddles-semi"
    info = Info(
        "early stopping by spectrum, MixMatch on labels not confirmed", "Huang et al., ICCV 2023", 2023, cost="2.3x"
    )
    refined = ("classifier",)
    cap = 3.0
    arranges_batches = True

    class Config(EarlyStopping.Config):
        """How the classifier is learned anew, and MixMatch."""

        amplitude_stop: int = Field(default=30, ge=0)
        """T_A, the first epoch without gradient through amplitudes."""
        phase_stop: int = Field(default=35, ge=1)
        """T_P, the epoch in which late layers are learned anew."""
        classifier_passes: int = Field(default=5, ge=1)
        """T_2, passes over all images for the classifier."""
        unlabelled_weight: FiniteFloat = Field(default=150.0, ge=0)
        """lambda_u: 150 by default, 50, 75 and 100 on CIFAR-100 under symmetric noise of 0.2, 0.5 and 0.8; 5 on
        CIFAR-10N and 75 on CIFAR-100N."""
        ramp: int = Field(default=16, ge=0)
        """How many epochs that weight rises."""
        ramp_start: int | None = Field(default=None, ge=0)
        """From which epoch on it rises. None: from T_A on."""
        sharpening: FiniteFloat = Field(default=0.5, gt=0)
        """T: predictions to the power 1 / T, normalised."""
        beta_early: FiniteFloat = Field(default=4.0, gt=0)
        """Both parameters of the law of the mixing weight in the first half of the training."""
        beta_late: FiniteFloat = Field(default=0.75, gt=0)
        """In the second half."""

    config: Config

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.batch_size = task.batch_size
        self.labelled = task.batch_size
        """Images of a batch, the first ones, whose label is used."""

    def streams(self, epoch: Epoch) -> Mapping[str, IntArray]:
        stop = stops(self.config, epoch.total)[1]
        if epoch.index < stop:
            return {"main": self.shuffled(epoch)}
        if epoch.index == stop:
            return {"main": self.shuffled(epoch, times=1 + self.config.classifier_passes)}
        order = self.arranged(epoch.rng(PURPOSE))
        return {FIRST: order, SECOND: order}

    def arranged(self, rng: np.random.Generator) -> IntArray:
        """An epoch of whole batches, each with confirmed images first and others behind them."""
        used, size = self.chosen(), self.batch_size
        left = np.setdiff1d(np.arange(len(self.labels)), used)
        unlabelled = unlabelled_size(len(used), len(left), size)
        self.labelled, steps = size - unlabelled, max(1, len(self.labels) // size)
        parts = [(used, self.labelled), *([(left, unlabelled)] if unlabelled else [])]
        columns = [dealt(pack, steps * width, rng).reshape(steps, width) for pack, width in parts]
        return np.concatenate(columns, axis=1).ravel()

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        epoch, stop = step.epoch, stops(self.config, step.epoch.total)[1]
        if epoch.index > stop:
            self.release(network, step)
            return self.mixmatch(network, batches[FIRST], batches[SECOND], step)
        if epoch.index < stop:
            return self.given_loss(network, batches["main"], epoch)
        # With both spectra stopped nothing reaches the trunk: as good as if it learned nothing.
        first_pass = round(step.total / (1 + self.config.classifier_passes))
        if step.index == 0:
            network.trunk.requires_grad_(False)
        if step.index == first_pass:
            self.begin_refinement(network, self.refined)
        if step.index < first_pass:
            return self.given_loss(network, batches["main"], epoch)
        return self.refinement_loss(network, batches["main"])

    def mixmatch(self, network: Network, first: Batch, second: Batch, step: Step) -> Tensor:
        """The loss, a scalar, of two views of a batch."""
        known = min(self.labelled, len(first.labels))
        target = F.one_hot(first.labels[:known], self.num_classes).float()
        guess = self.guessed(network, first.images[known:], second.images[known:])
        images = [view.images[part] for part in (slice(known), slice(known, None)) for view in (first, second)]
        mixed, targets = self.mixed(torch.cat(images), torch.cat([target, target, guess, guess]), step)
        logits = network(mixed).float()
        used = 2 * known
        loss = weighted_cross_entropy(logits[:used], targets[:used], self.class_weights)
        if used == len(logits):
            return loss
        apart = (logits[used:].softmax(1) - targets[used:]).square().mean()
        whole: Tensor = loss + self.weight(step) * apart
        return whole

    @torch.no_grad()
    def guessed(self, network: Network, first: Tensor, second: Tensor) -> Tensor:
        """Targets [B, C] of images without label, in training mode as in the authors' code."""
        if not len(first):
            return torch.zeros(0, self.num_classes, device=first.device)
        mean = torch.stack([network(view).float().softmax(1) for view in (first, second)]).mean(0)
        return sharpened(mean, self.config.sharpening)

    def mixed(self, images: Tensor, targets: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """All images and targets mixed with a random order of themselves, by one weight of at least a half."""
        config, epoch = self.config, step.epoch
        beta = config.beta_early if epoch.index < epoch.total / 2 else config.beta_late
        drawn = float(step.rng.beta(beta, beta))
        share = max(drawn, 1 - drawn)
        other = torch.from_numpy(step.rng.permutation(len(images))).to(images.device)
        return torch.lerp(images[other], images, share), torch.lerp(targets[other], targets, share)

    def weight(self, step: Step) -> float:
        """Of the loss of images without label, at a step."""
        config, total = self.config, step.epoch.total
        start = stops(config, total)[0] if config.ramp_start is None else sooner(config, total, config.ramp_start)
        at = step.epoch.index + step.index / step.total
        return config.unlabelled_weight * ramp(at, start, sooner(config, total, config.ramp))


def unlabelled_size(used: int, left: int, size: int) -> int:
    """Images without label in a batch of `size`: half of it where they are the most, else in proportion."""
    return size // 2 if left > used else int(left / (used + left) * size)


def ramp(at: float, start: float, length: float) -> float:
    """From 0 at epoch `start` to 1 after `length` epochs."""
    return float(np.clip((at - start) / max(length, 1e-9), 0, 1))


def sharpened(probability: Tensor, temperature: float) -> Tensor:
    """Probabilities [B, C] to the power 1 / temperature, normalised."""
    power = probability.pow(1 / temperature)
    return power / power.sum(1, keepdim=True)


def weighted_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """The sum over classes, by their weights [C], of the mean over images of -target * log softmax, of [B, C] both."""
    return -(weights * (target * logits.log_softmax(1)).mean(0)).sum()
