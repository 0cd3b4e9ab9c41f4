"""RoBal: adversarial training with a cosine classifier, margins, and class priors in the loss or at test time.

Paper: Wu et al., Adversarial Robustness under Long-Tailed Distribution, CVPR 2021, arXiv 2104.02703. Its code does
four forward passes in training mode a step, one of them with weight 0; here the running statistics move twice.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.adversary import Attack
from lt_bench.adversary.objectives import divergence_from
from lt_bench.data.types import Batch, ClassStats, Step
from lt_bench.losses.logit_adjustment import log_prior
from lt_bench.methods import Task
from lt_bench.methods.pgd_at import PGDAT
from lt_bench.models.network import Network
from lt_bench.registry import Info


class RoBal(PGDAT):
    """CE(s (c(x') - margin of the label) + tau_b log prior, y) + beta KL(p(x) || p(x')), of cosines c.

    p is the softmax of bare cosines, nearly flat, so that beta is not that of TRADES; the adversary too ascends the
    cross entropy of bare cosines. The margin is m + tau_m log(n_y / n_min) / s. At test time s c - tau_p log prior.
    """

    name = "robal"
    info = Info("adversarial training with cosines, margins and class priors", "Wu et al., CVPR 2021", 2021, cost="5x")
    uses = frozenset({"sampler"})
    heads = frozenset({"cosine"})

    class Config(PGDAT.Config):
        """By default those for natural accuracy on CIFAR-10-LT."""

        attack: Attack = Attack(radius=7.905, step=1.989, steps=5, start="one-sided")
        scale: FiniteFloat = Field(default=10.0, gt=0)
        """s, of the cosines in the loss and at test time."""
        margin: FiniteFloat = Field(default=0.1, ge=0)
        """m, of every class."""
        margin_tau: FiniteFloat = Field(default=0.0, ge=0)
        """tau_m, by which larger classes have a larger margin."""
        prior_tau: FiniteFloat = Field(default=1.2, ge=0)
        """tau_b, of the log prior in the loss."""
        posterior_tau: FiniteFloat = Field(default=0.1, ge=0)
        """tau_p, of the log prior that is taken off at test time."""
        beta: FiniteFloat = Field(default=6.0, ge=0)
        """Weight of the divergence."""

    config: Config
    log_prior: Tensor
    margins: Tensor

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.register_buffer("log_prior", log_prior(task.stats), persistent=False)
        self.register_buffer("margins", class_margins(task.stats, self.config), persistent=False)

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        batch = batches["main"]
        found = self.attacked(network, batch.images, self.objective(step, network, batch), step.rng)
        perturbed, clean = network(found).float(), network(batch.images).float()
        return self.outer_loss(perturbed, batch.labels) + self.config.beta * divergence_from(clean, perturbed).mean()

    def outer_loss(self, cosines: Tensor, labels: Tensor) -> Tensor:
        """The cross entropy, a scalar, of cosines [B, C] behind margins and prior."""
        taken = F.one_hot(labels, cosines.shape[1]) * self.margins
        return F.cross_entropy(self.config.scale * (cosines - taken) + self.config.prior_tau * self.log_prior, labels)

    def scores(self, network: Network, images: Tensor) -> Tensor:
        cosines: Tensor = network(images).float()
        return self.config.scale * cosines - self.config.posterior_tau * self.log_prior


def class_margins(stats: ClassStats, config: RoBal.Config) -> Tensor:
    """The margin m + tau_m log(n_k / n_min) / s, float32 [C]."""
    above = (stats.counts.double() / stats.counts.min()).log()
    return (config.margin + config.margin_tau * above / config.scale).float()
