"""TAET: epochs of clean cross entropy, then adversarial training with a loss of the classes' losses.

Paper: Wang et al., TAET: Two-Stage Adversarial Equalization Training on Long-Tailed Distributions, CVPR 2025, arXiv
2503.01924.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.adversary import Attack
from lt_bench.adversary.objectives import cross_entropy
from lt_bench.data.types import Batch, Step
from lt_bench.methods.pgd_at import PGDAT
from lt_bench.models.network import Network
from lt_bench.registry import Info, between


class TAET(PGDAT):
    """Cross entropy on clean images first; then `harl` on perturbed ones, by class and not by image.

    As in its code, a clean batch passes in training mode before every loss of the second part: the running statistics
    are half those of clean images.
    """

    name = "taet"
    info = Info("clean epochs, then a loss of class losses on perturbed images", "Wang et al., CVPR 2025", 2025, "8x")
    uses = frozenset({"sampler"})
    divisible = False

    class Config(PGDAT.Config):
        """Length of the first part, and the weights of the three terms of the second."""

        attack: Attack = Attack(radius=7.905, step=0.765, start="normal")
        clean_share: float = Field(default=0.4, ge=0, le=1)
        """Part of the epochs that is trained on clean images: 40 of 100."""
        alpha: FiniteFloat = Field(default=0.1, ge=0)
        """Of the mean over the classes."""
        beta: FiniteFloat = Field(default=0.1, ge=0)
        """Of the variance over the classes."""
        gamma: FiniteFloat = Field(default=0.1, ge=0)
        """Of the squared parts of the sum."""

    config: Config
    acts = "train on perturbed images"
    timing = "clean_share {clean_share}"

    @classmethod
    def active_epochs(cls, config: Config, epochs: range, total: int) -> range:
        return between(epochs, round(config.clean_share * total), total)

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        batch, config = batches["main"], self.config
        if step.epoch.index < round(config.clean_share * step.epoch.total):
            return F.cross_entropy(network(batch.images).float(), batch.labels)
        found = self.attacked(network, batch.images, self.objective(step, network, batch), step.rng)
        with torch.no_grad():
            network(batch.images)
        losses = cross_entropy(network(found), batch.labels)
        return harl(losses, batch.labels, self.stats.num_classes, config.alpha, config.beta, config.gamma)


def harl(losses: Tensor, labels: Tensor, num_classes: int, alpha: float, beta: float, gamma: float) -> Tensor:
    """The sum alpha mean + beta variance + gamma sum of squared parts, of the classes' mean losses in a batch.

    A class without an image in the batch counts as one without a loss, as in the released code: the fewer classes a
    batch has, the more its variance costs those that are there.
    """
    members = F.one_hot(labels, num_classes).to(losses.dtype)
    # No matrix product, which autocast would round.
    by_class = (losses[:, None] * members).sum(0) / members.sum(0).clamp(min=1)
    parts = by_class / by_class.sum().clamp(min=1e-12)
    return alpha * by_class.mean() + beta * by_class.var(unbiased=False) + gamma * parts.square().sum()
