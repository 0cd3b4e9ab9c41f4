"""Dynamic bootstrapping: mixup on labels that are trusted by what a beta mixture makes of their losses.

Paper: Arazo, Ortego, Albert, O'Connor, McGuinness, Unsupervised Label Noise Modeling and Loss Correction, ICML 2019,
arXiv 1904.11238. Epochs are given as shares of the training; those of the paper are of 300 epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.samplers import PURPOSE, Instance
from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.methods import Method, Suspects, Task
from lt_bench.methods.beta_mixture import LOOKUP, BetaMixture
from lt_bench.models.network import Network
from lt_bench.ranks.division import order_of
from lt_bench.registry import Info, between

OUTLIERS = (5, 95)
"""Percentiles between which losses are fitted."""
LEAST, MOST = 0.001, 0.999
"""Of a normalised loss."""
DOUBT = 1e-4
"""How near to 0 and 1 the probability of a wrong label comes."""


class DynamicBootstrapping(Method):
    """Plain mixup until `start`; then each label counts for 1 - w and the network's own prediction for w.

    w is the probability that the label is wrong: after every epoch a beta mixture is fitted to the losses of all
    training images, and in a step it is asked about the loss of the image before mixing. A regulariser keeps the mean
    prediction of a batch near `prior`. `guided` mixup weighs the two images by 1 - w as well.

    M-DYR-H and M-DYR-S of the paper, and guided MD-DYR-SH, whose target hardens from `start` on.
    """

    name = "dynamic-bootstrapping"
    info = Info("mixup, labels corrected by a mixture of their losses", "Arazo et al., ICML 2019", 2019, cost="1.7x")
    acts = "correct labels"
    timing = "start {start}"

    class Config(Method.Config):
        """Epochs are shares of the training, rounded to whole ones."""

        target: Literal["hard", "soft", "soft-to-hard"] = "hard"
        """The prediction that replaces a label: its class, its probabilities, or those at a falling temperature."""
        guided: bool = False
        """Mix images by how far their labels are trusted, and labels by half."""
        beta: FiniteFloat = Field(default=32.0, gt=0)
        """Both parameters of the law of mixup's weight."""
        start: float = Field(default=0.35, gt=0, lt=1)
        """Until then plain mixup: 105 of 300 epochs, five behind the first step of the rate."""
        guided_before: float = Field(default=0.0167, ge=0, lt=1)
        """How long guided mixup comes without correction, 5 of 300 epochs, the correction following (guided only)."""
        hardening: float = Field(default=0.2967, ge=0, le=1)
        """How long the temperature falls, 89 of 300 epochs, from 1 to 0.001 (soft-to-hard only)."""
        regulariser: FiniteFloat = Field(default=1.0, ge=0)
        """Weight of KL(prior || mean prediction of the batch)."""
        prior: Literal["uniform", "training"] = "uniform"
        """What the mean prediction is kept near: all classes alike, as in the paper, or the class frequencies."""

    config: Config
    losses: Tensor
    lowest: Tensor
    highest: Tensor
    table: Tensor
    mixture: Tensor
    prior: Tensor

    def prepare(self, task: Task) -> None:
        self.labels, classes = task.labels, task.stats.num_classes
        self.sampler = Instance(task.labels, classes)
        prior = task.stats.prior if self.config.prior == "training" else torch.full((classes,), 1 / classes)
        self.register_buffer("prior", prior, persistent=False)
        self.register_buffer("losses", torch.zeros(len(task.labels)))  # of the last epoch that was looked at
        self.register_buffer("lowest", torch.tensor(0.0))
        self.register_buffer("highest", torch.tensor(1.0))
        self.register_buffer("table", torch.from_numpy(BetaMixture().table()).float())
        self.register_buffer("mixture", torch.zeros(3, 2))  # a, b and pi, to be looked at

    @classmethod
    def active_epochs(cls, config: Any, epochs: range, total: int) -> range:
        return between(epochs, corrects_from(config, total), total)

    def streams(self, epoch: Epoch) -> Mapping[str, IntArray]:
        return {"main": self.sampler.order(epoch, epoch.rng(PURPOSE))}

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        batch, config, epoch = batches["main"], self.config, step.epoch
        partner = torch.from_numpy(order_of(len(batch.labels), step.rng)).to(batch.labels.device)
        share = float(step.rng.beta(config.beta, config.beta))
        given = F.one_hot(batch.labels, len(self.prior)).float()
        if epoch.index < begins(config, epoch.total):
            return soft_cross_entropy(*self.mixed(network, batch, partner, share, given, share))
        wrong = self.wrong(network, batch)
        weight = guided_weight(wrong, wrong[partner])[:, None, None, None] if config.guided else share
        if epoch.index < corrects_from(config, epoch.total):
            return soft_cross_entropy(*self.mixed(network, batch, partner, weight, given, share))
        with torch.no_grad():  # in training mode: it moves the running statistics, as in the authors' code
            own = self.target(network(batch.images).float(), epoch)
        target = torch.lerp(given, own, wrong[:, None])
        logits, target = self.mixed(network, batch, partner, weight, target, 0.5 if config.guided else share)
        return soft_cross_entropy(logits, target) + config.regulariser * divergence(self.prior, logits)

    def mixed(
        self, network: Network, batch: Batch, partner: Tensor, weight: float | Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        """Logits of images mixed by `weight`, one number or [B, 1, 1, 1], and their targets [B, C] mixed by `share`."""
        images = weight * batch.images + (1 - weight) * batch.images[partner]
        return network(images).float(), share * target + (1 - share) * target[partner]

    def target(self, logits: Tensor, epoch: Epoch) -> Tensor:
        """What the network says of images, as a target [B, C], of logits [B, C]."""
        if self.config.target == "hard":
            return F.one_hot(logits.argmax(1), logits.shape[1]).float()
        soft_to_hard = self.config.target == "soft-to-hard"
        return (logits / (temperature(self.config, epoch) if soft_to_hard else 1.0)).softmax(1)

    @torch.no_grad()
    def wrong(self, network: Network, batch: Batch) -> Tensor:
        """Probabilities [B] that labels are wrong, by the losses of the images as they are."""
        network.eval()
        losses = F.cross_entropy(network(batch.images).float(), batch.labels, reduction="none")
        network.train()
        return self.doubt(losses)

    def doubt(self, losses: Tensor) -> Tensor:
        """Probability [N] that a label with such a loss [N] is wrong, by the mixture fitted last."""
        place = (LOOKUP * normalised(losses, self.lowest, self.highest)).long().clamp(0, LOOKUP - 1)
        return self.table[place].clamp(DOUBT, 1 - DOUBT)

    def look(self, epoch: Epoch, predict: Callable[[Tensor], Tensor], views: Callable[[str], Iterable[Batch]]) -> None:
        if epoch.index + 1 < begins(self.config, epoch.total):
            return  # Nobody will ask.
        found = [F.cross_entropy(predict(one.images), one.labels, reduction="none") for one in views("losses")]
        self.losses.copy_(torch.cat(found))
        losses = self.losses.double().cpu().numpy()
        low, high = np.percentile(losses, OUTLIERS)
        kept = losses[(losses >= low) & (losses <= high)]
        self.lowest.fill_(low + 1e-5)
        self.highest.fill_(high)
        x = normalised(torch.from_numpy(kept), self.lowest.double().cpu(), self.highest.double().cpu())
        fitted = BetaMixture().fitted(x.numpy())
        self.table.copy_(torch.from_numpy(fitted.table()))
        self.mixture.copy_(torch.tensor([fitted.a, fitted.b, fitted.pi]))

    def diagnostics(self, epoch: Epoch) -> Mapping[str, Tensor]:
        """The mixture fitted last, a, b and pi [2] of right and wrong labels, and the labels [C] it takes for wrong."""
        if epoch.index + 1 < begins(self.config, epoch.total):
            return {}
        wrong = self.labels[(self.doubt(self.losses) > 0.5).cpu().numpy()]
        doubted = torch.from_numpy(np.bincount(wrong, minlength=len(self.prior)))
        return {**dict(zip(("a", "b", "pi"), self.mixture, strict=True)), "doubted": doubted}

    def suspects(self, network: Network, clean: Callable[[], Iterable[Batch]]) -> Suspects:
        """Labels that are wrong rather than right by the losses and the mixture after the last epoch."""
        score = self.doubt(self.losses)
        return Suspects(score > 0.5, score)


def begins(config: DynamicBootstrapping.Config, total: int) -> int:
    """The first epoch that asks the mixture, fitted at the end of the one before."""
    return max(1, round(config.start * total))


def corrects_from(config: DynamicBootstrapping.Config, total: int) -> int:
    """The first epoch in which labels are corrected."""
    return begins(config, total) + (round(config.guided_before * total) if config.guided else 0)


def temperature(config: DynamicBootstrapping.Config, epoch: Epoch) -> float:
    """Of the soft target: from 1 down to 0.001 in equal steps, then constant."""
    steps = max(2, round(config.hardening * epoch.total))
    done = min(epoch.index - corrects_from(config, epoch.total), steps - 1)
    return float(np.linspace(1, 0.001, steps)[done])


def guided_weight(wrong: Tensor, partner: Tensor) -> Tensor:
    """Weight [B] of an image against its partner, by how far either label is trusted."""
    trusted, other = 1 - wrong, 1 - partner
    return trusted / (trusted + other)


def normalised(losses: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Losses between their lowest and highest as numbers in [0.001, 0.999].

    Of losses that are all alike, which say nothing, 0.001.
    """
    x = (losses - lowest) / (highest - lowest + 1e-6).clamp_min(1e-6)
    return x.where(x < 1, MOST).where(x > 0, LEAST)


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross entropy of logits with targets, [B, C] both."""
    return -(target * logits.log_softmax(1)).sum(1).mean()


def divergence(prior: Tensor, logits: Tensor) -> Tensor:
    """KL(prior [C] || mean of the softmax of logits [B, C])."""
    mean = logits.softmax(1).mean(0).clamp_min(torch.finfo(logits.dtype).tiny)
    return (prior * (prior.log() - mean.log())).sum()
