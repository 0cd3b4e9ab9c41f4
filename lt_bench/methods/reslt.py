"""ResLT: what all classes share, with residuals for the medium and for the rare ones."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import ClassStats, Epoch
from lt_bench.methods import Method, Task
from lt_bench.methods.experts import MultiExpert, cross_entropies
from lt_bench.mixing import Share
from lt_bench.ranks.division import over_batch
from lt_bench.registry import Info


class ResLT(MultiExpert):
    """beta * L_ice + (1 - beta) * CE(z_H + z_M + z_T, y); the sum of the three logits predicts.

    L_ice, of the branches each by itself, is the mean of all the CE(z_H, y), the CE(z_M, y) of medium and rare
    classes, and the CE(z_T, y) of rare classes, every such term counting the same.

    Paper: Cui et al., ResLT: Residual Learning for Long-tailed Recognition, TPAMI 2023, arXiv 2101.10633; the form of
    its code for CIFAR. The form for ImageNet-LT, with convolutions as branches, is left out.
    """

    name = "reslt"
    info = Info("residual branches for medium and rare classes", "Cui et al., TPAMI 2023", 2023)
    heads = frozenset({"residual-fusion"})

    class Config(Method.Config):
        """Weight of the branches' own loss, and which classes each of them sees."""

        beta: float = Field(default=0.995, ge=0, le=1)
        """Of the branches' own loss: on CIFAR-100-LT 0.995, 0.99, 0.72 for factor 100, 50, 10; on CIFAR-10-LT 0.998,
        0.998, 0.96."""
        medium_from: float = Field(default=0.35, ge=0, le=1)
        """Where the classes of z_M begin, as a share of all in order of size: behind the 35 largest of 100."""
        tail_from: float = Field(default=0.7, ge=0, le=1)
        """Where those of z_T begin: behind the 70 largest of 100."""

    config: Config
    trained: Tensor

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        shares = (0.0, self.config.medium_from, self.config.tail_from)
        trained = torch.stack([behind(share, task.stats) for share in shares])
        self.register_buffer("trained", trained, persistent=False)  # [3, C]

    def criterion(self, logits: Tensor, labels: Tensor, share: Share, epoch: Epoch) -> Tensor:
        # Every image is a term of z_H: there is always something to divide by.
        terms = self.trained[:, labels]  # [3, B]
        ice = (share * terms * cross_entropies(logits, labels)).sum() / over_batch(terms.sum())
        fused = (share * F.cross_entropy(logits.sum(0), labels, reduction="none")).mean()
        return self.config.beta * ice + (1 - self.config.beta) * fused


def behind(share: float, stats: ClassStats) -> Tensor:
    """1 for the classes behind the given share of the largest ones, 0 for those; float32 [C].

    Classes of one size are in order of their index.
    """
    order = stats.counts.argsort(descending=True, stable=True)
    found = torch.zeros(stats.num_classes)
    found[order[round(share * stats.num_classes) :]] = 1
    return found
