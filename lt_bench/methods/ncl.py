"""NCL: whole networks that learn from each other, on all classes and on the hard ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.errors import UserError
from lt_bench.methods import Method, Task
from lt_bench.methods.experts import cross_entropies
from lt_bench.methods.standard import Standard
from lt_bench.models.heads.experts import Ensemble
from lt_bench.models.network import Network
from lt_bench.registry import Info


class NCL(Standard):
    """Of b_k = z_k + log n and of b_k * mask: the sum of CE(b_k, y) plus factor * D(b). The mean of the z_k predicts.

    D, the mutual divergence, is the sum of KL(softmax b_j || softmax b_i) over all pairs, divided by the networks but
    one, with gradients through both sides. The mask keeps the true class and those that network 0 finds hardest. Each
    network sees the same images under an augmentation of its own.

    Paper: Li et al., Nested Collaborative Learning for Long-Tailed Visual Recognition, CVPR 2022, arXiv 2203.15359;
    the plain form of its code, without the contrastive term.
    """

    name = "ncl"
    info = Info("whole networks that learn from each other", "Li et al., CVPR 2022", 2022, cost="3x")
    uses = frozenset({"sampler"})
    heads = frozenset({"ensemble"})

    class Config(Method.Config):
        """How many networks and hard classes, and how much the networks learn from each other."""

        num_networks: int = Field(default=3, ge=2)
        """As many as the head has."""
        hard_classes: int | None = Field(default=None, ge=2)
        """Classes that the mask keeps, the true one included: 30 on CIFAR-100-LT, 300 on ImageNet-LT. None: three
        in ten, as on these two, but at least 2."""
        divergence_factor: FiniteFloat = Field(default=0.6, ge=0)
        """Weight of the mutual divergence. 0: the networks share nothing but the mask."""

    config: Config
    log_counts: Tensor

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.views = [f"view-{k}" for k in range(self.config.num_networks)]
        self.hard_classes = self.config.hard_classes or max(2, round(0.3 * task.stats.num_classes))
        # Not the log prior: a masked class has logit 0, so a constant over the others matters.
        self.register_buffer("log_counts", task.stats.counts.double().log().float(), persistent=False)

    @classmethod
    def check(cls, config: Config, head: Ensemble.Config, num_classes: int) -> None:
        if config.num_networks != head.num_networks:
            raise UserError(f"method.num_networks: is {config.num_networks}, but the head has {head.num_networks}")
        if config.hard_classes is not None and config.hard_classes > num_classes:
            raise UserError(f"method.hard_classes: is {config.hard_classes}, but there are {num_classes} classes")

    def streams(self, epoch: Epoch) -> Mapping[str, IntArray]:
        order = self.phase(epoch)[0].order(epoch, epoch.rng("sampler"))
        return dict.fromkeys(self.views, order)

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        logits = [network.branch_logits(batches[view].images, k) for k, view in enumerate(self.views)]
        return self.nested_loss(torch.stack(logits).float(), batches[self.views[0]].labels)

    def nested_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar, of raw float32 logits [K, B, C] and the labels [B]."""
        balanced = logits + self.log_counts
        mask = hard_mask(logits[0], labels, self.hard_classes)
        return self._collaborative_loss(balanced, labels) + self._collaborative_loss(balanced * mask, labels)

    def _collaborative_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        individual = cross_entropies(logits, labels).mean(1).sum()
        return individual + self.config.divergence_factor * mutual_divergences(logits).mean()


def hard_mask(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """1 for the true class and the others of the largest logits [B, C], `count` in all, 0 elsewhere; float32 [B, C]."""
    true_first = logits.detach().scatter(1, labels[:, None], torch.inf)
    return torch.zeros_like(true_first).scatter(1, true_first.topk(count, dim=1).indices, 1.0)


def mutual_divergences(logits: Tensor) -> Tensor:
    """Sum over i, j of KL(softmax_j || softmax_i), divided by K - 1, [B] of the logits [K, B, C] of K networks."""
    log_p = F.log_softmax(logits, dim=2)
    # [i, j, B, C]; where i = j it is 0, and so is its gradient.
    pairs = F.kl_div(log_p[:, None], log_p[None], reduction="none", log_target=True)
    return pairs.sum((0, 1, 3)) / (len(logits) - 1)
