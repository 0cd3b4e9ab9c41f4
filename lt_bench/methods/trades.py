"""TRADES: accuracy on images as they are, and the same answer for all that lies around them.

Paper: Zhang et al., Theoretically Principled Trade-off between Robustness and Accuracy, ICML 2019, arXiv 1901.08573.
With CutMix and averaged weights: Rebuffi et al., Data Augmentation Can Improve Robustness, NeurIPS 2021, arXiv
2111.05328.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Literal

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.adversary import Attack
from lt_bench.adversary.ascent import Objective
from lt_bench.adversary.averaging import AveragedNetwork
from lt_bench.adversary.objectives import divergence, divergence_from
from lt_bench.data.types import Batch, Step
from lt_bench.methods.pgd_at import PGDAT
from lt_bench.mixing import Mixed
from lt_bench.mixing.cutmix import cutmix_pair
from lt_bench.models.modes import looking, still_statistics
from lt_bench.models.network import Network
from lt_bench.ranks.division import order_of
from lt_bench.registry import Info


class Trades(PGDAT):
    """The loss of the recipe on x, and beta KL(p(x) || p(x')), p being the prediction of test time.

    x' ascends the divergence from p(x), which the adversary sees as fixed; the loss has the gradient of both sides. The
    released code asks for p(x) twice in training mode, with one value, so that its statistics move three times a step;
    here they move twice.
    """

    name = "trades"
    info = Info("loss on clean images, divergence to perturbed ones", "Zhang et al., ICML 2019", 2019, cost="9x")

    class Config(PGDAT.Config):
        """The adversary, and how much its images count."""

        attack: Attack = Attack(start="normal")
        beta: FiniteFloat = Field(default=6.0, ge=0)
        """Weight of the divergence."""
        clean_statistics: Literal["moved", "kept"] = "moved"
        """What becomes of the running statistics as clean images pass: `kept`, they are those of perturbed ones."""

    config: Config

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        mixed = self.mixed(batches["main"], step)
        target = self.target(step, network, mixed)
        found = self.attacked(network, mixed.images, self.away_from(target, step, network), step.rng)
        with still_statistics(network) if self.config.clean_statistics == "kept" else nullcontext():
            clean = self.answer(step, network, mixed.images)
        perturbed = self.answer(step, network, found)
        apart = divergence_from(clean.prediction, perturbed.prediction).mean()
        return self.terms_loss(step, clean, mixed.terms) + self.config.beta * apart

    def mixed(self, batch: Batch, step: Step) -> Mixed:
        """The images that are trained on."""
        return Mixed.plain(batch)

    @torch.no_grad()
    def target(self, step: Step, network: Network, mixed: Mixed) -> Tensor:
        """The probabilities [B, C] that the adversary leads the network away from."""
        with looking(network, self.config.attack.statistics):
            return self.answer(step, network, mixed.images).prediction.float().softmax(1)

    def away_from(self, target: Tensor, step: Step, network: Network) -> Objective:
        """What the adversary ascends: the divergence of the prediction from probabilities [B, C]."""
        return lambda images: divergence(self.answer(step, network, images).prediction, target)


class TradesCutMix(Trades):
    """TRADES on images mixed by CutMix, with averaged weights for the network that predicts.

    Every batch is mixed, by one box and with partners from its own interleaved parts, as workers would mix theirs. The
    adversary leads away from the mixed labels, by Adam on the pixels; the weights' average is what is evaluated and
    saved, with the running statistics of the network that is trained.
    """

    name = "trades-cutmix-wa"
    info = Info("TRADES on CutMix images, weights averaged", "Rebuffi et al., NeurIPS 2021", 2021, cost="9x")
    averages_weights = True

    class Config(Trades.Config):
        """By default those of the paper's CIFAR experiments without further data; `decay` is not known for certain."""

        attack: Attack = Attack(ascent="adam", step=25.5, later_steps=((5, 2.55),), statistics="batch")
        clean_statistics: Literal["moved", "kept"] = "kept"
        cutmix_beta: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law of the share before clipping. 0 is no mixing."""
        parts: int = Field(default=4, ge=1)
        """How many parts of a batch have partners among themselves: image b is in part b modulo `parts`."""
        decay: float = Field(default=0.999, ge=0, lt=1)
        """Of the weights' average, which begins faster: min(decay, (1 + t) / (10 + t)) after step t."""

    config: Config

    def attach(self, network: Network) -> None:
        super().attach(network)
        self.average = AveragedNetwork(network, self.config.decay)

    def after_step(self, network: Network, step: Step) -> None:
        self.average.update(network)

    def evaluated(self, network: Network) -> Network:
        return self.average.network

    def mixed(self, batch: Batch, step: Step) -> Mixed:
        return cutmix_by_parts(batch, self.config.cutmix_beta, self.config.parts, step.rng)

    def target(self, step: Step, network: Network, mixed: Mixed) -> Tensor:
        (labels, share), (others, rest) = mixed.terms
        assert labels is not None and others is not None
        target = torch.zeros(len(labels), self.stats.num_classes, device=labels.device)
        rows = torch.arange(len(labels), device=labels.device)
        for classes, part in ((labels, share), (others, rest)):
            target.index_put_((rows, classes), torch.as_tensor(part), accumulate=True)
        return target


def cutmix_by_parts(batch: Batch, beta: float, parts: int, rng: np.random.Generator) -> Mixed:
    """CutMix by one box, partners being of one part, in one order for all: image b is in part b modulo `parts`.

    Where `parts` does not divide the batch, the few images that are left over are partners of their own.
    """
    order = torch.arange(len(batch.labels))
    rows = order[: len(order) // parts * parts].view(-1, parts)
    order[: rows.numel()] = rows[torch.from_numpy(order_of(len(rows), rng))].flatten()
    return cutmix_pair(batch, batch[order.to(batch.labels.device, non_blocking=True)], beta, rng)
