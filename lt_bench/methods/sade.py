"""SADE: three experts, trained for the training distribution, the uniform and the reversed one."""

from __future__ import annotations

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.types import Epoch
from lt_bench.errors import UserError
from lt_bench.methods import Method, Task
from lt_bench.methods.experts import MultiExpert, cross_entropies, reversed_prior, safe_log
from lt_bench.mixing import Share
from lt_bench.models.heads.experts import Experts
from lt_bench.registry import Info


class SADE(MultiExpert):
    """CE(z_1) + CE(z_2 + log prior) + CE(z_3 + log prior - tau log reversed prior); the mean of the z predicts.

    Paper: Zhang et al., Self-Supervised Aggregation of Diverse Experts for Test-Agnostic Long-Tailed Recognition,
    NeurIPS 2022, arXiv 2107.09249. Its second part, which learns on unlabelled test images how much to trust each
    expert under an unknown test distribution, is left out.
    """

    name = "sade"
    info = Info("experts for three class distributions, averaged", "Zhang et al., NeurIPS 2022", 2022, cost="2.3x")

    class Config(Method.Config):
        """Strength of the third expert."""

        tau: FiniteFloat = Field(default=2.0, ge=0)
        """Weight of the log reversed prior: 2 on CIFAR and ImageNet-LT, 1 on iNaturalist and Places-LT."""

    config: Config
    shifts: Tensor

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        uniform = safe_log(task.stats.prior)
        backward = uniform - self.config.tau * safe_log(reversed_prior(task.stats))
        shifts = torch.stack([torch.zeros_like(uniform), uniform, backward])
        self.register_buffer("shifts", shifts, persistent=False)  # [3, C]

    @classmethod
    def check(cls, config: Config, head: Experts.Config, num_classes: int) -> None:
        if head.num_experts != 3:
            raise UserError(f"model.head.num_experts: sade trains 3 experts, found {head.num_experts}")

    def criterion(self, logits: Tensor, labels: Tensor, share: Share, epoch: Epoch) -> Tensor:
        losses = cross_entropies(logits + self.shifts[:, None], labels)
        return (share * losses).mean(1).sum()
