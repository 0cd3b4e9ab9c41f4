"""BalPoE: experts with differently strong logit adjustment, whose average is unbiased."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.types import Epoch
from lt_bench.errors import UserError
from lt_bench.methods import Method, Task
from lt_bench.methods.experts import MultiExpert, cross_entropies, safe_log
from lt_bench.mixing import Share
from lt_bench.models.heads.experts import Experts
from lt_bench.registry import Info


class BalPoE(MultiExpert):
    """Mean over experts of CE(z_e + tau_e log prior, y); the mean of the raw logits predicts.

    Paper: Sanchez Aimar et al., Balanced Product of Calibrated Experts for Long-Tailed Recognition, CVPR 2023,
    arXiv 2206.05260. Its argument wants the tau to average 1 and the experts to be calibrated, which is what mixup,
    a setting of the recipe, is there for.
    """

    name = "balpoe"
    info = Info("experts of different logit adjustment, averaged", "Sanchez Aimar et al., CVPR 2023", 2023, cost="2.3x")

    class Config(Method.Config):
        """Strengths of the adjustment."""

        tau: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)] | None = None
        """One weight of the log prior for each expert. None: in equal steps from 0 to 2, and 1 for a single expert."""

    config: Config
    log_prior: Tensor

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.register_buffer("log_prior", safe_log(task.stats.prior), persistent=False)

    @classmethod
    def check(cls, config: Config, head: Experts.Config, num_classes: int) -> None:
        if config.tau is not None and len(config.tau) != head.num_experts:
            raise UserError(f"method.tau: has {len(config.tau)} values for the {head.num_experts} experts of the head")

    def criterion(self, logits: Tensor, labels: Tensor, share: Share, epoch: Epoch) -> Tensor:
        shifts = [tau * self.log_prior for tau in self.taus(len(logits))]
        shift = torch.stack(shifts)[:, None]  # [E, 1, C]
        return (share * cross_entropies(logits + shift, labels)).mean()

    def taus(self, experts: int) -> tuple[float, ...]:
        """The weight of each of so many experts."""
        if self.config.tau is not None:
            return self.config.tau
        return tuple(2 * e / (experts - 1) for e in range(experts)) if experts > 1 else (1.0,)
