"""RIDE: experts under margins, rewarded for differing from their mean."""

from __future__ import annotations

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import ClassStats, Epoch
from lt_bench.errors import UserError
from lt_bench.losses import Beta
from lt_bench.losses.ldam import LDAM
from lt_bench.methods import Method, Task
from lt_bench.methods.experts import MultiExpert
from lt_bench.mixing import Share
from lt_bench.models.heads.experts import Experts
from lt_bench.registry import Info, between


class RIDE(MultiExpert):
    """Sum over experts of LDAM(z_e, y) + factor * mean(T)^2 * KL(softmax(mean z / T) || softmax(z_e / T)).

    Paper: Wang et al., Long-tailed Recognition by Routing Diverse Distribution-Aware Experts, ICLR 2021,
    arXiv 2010.01809; settings as in its code, which differ from the paper's. The mean of the logits is a constant in
    the divergence. Late in training LDAM gets class weights and T depends on the class. The router, which stops early
    to save time, and the distillation from a larger network are left out.
    """

    name = "ride"
    info = Info("diverse experts under margins, no router", "Wang et al., ICLR 2021", 2021, cost="2.3x")

    class Config(Method.Config):
        """Margins, diversity, and when the rare classes begin to count more."""

        max_margin: FiniteFloat = Field(default=0.5, ge=0)
        """Margin of the rarest class, in units of the cosine."""
        scale: FiniteFloat = Field(default=30.0, gt=0)
        """Logits per unit of cosine: the `scale` of the head."""
        diversity_factor: FiniteFloat = -0.2
        """Weight of the divergence, negative to reward it; the released CIFAR-100-LT settings have -0.45."""
        diversity_temperature: FiniteFloat = Field(default=1.0, gt=0)
        """T of the largest class, and of all before the switch."""
        temperature_rho: float = Field(default=0.05, ge=0, lt=1)
        """Weight of the class sizes in T after the switch; 0.02 on ImageNet-LT."""
        beta: Beta = 0.9999
        """Of the effective number that the class weights follow after the switch."""
        reweight_from: float = Field(default=0.8, ge=0, le=1)
        """The switch, as a share of the epochs: epoch 160 of 200. 1 is never."""

    config: Config
    acts = "re-weight the rare classes"
    timing = "reweight_from {reweight_from}"
    temperature: Tensor
    late_temperature: Tensor

    @classmethod
    def active_epochs(cls, config: Config, epochs: range, total: int) -> range:
        """Those after the switch, without which only its first half is trained; all where no switch is asked for."""
        return epochs if config.reweight_from == 1 else between(epochs, switch(config, total), total)

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        max_margin, scale = self.config.max_margin, self.config.scale
        weights = {"name": "effective-number", "beta": self.config.beta}
        self.ldam = LDAM(task.stats, max_margin=max_margin, scale=scale)
        self.late_ldam = LDAM(task.stats, max_margin=max_margin, scale=scale, weights=weights)
        late = self.config.diversity_temperature * relative_temperature(task.stats, self.config.temperature_rho)
        self.register_buffer("temperature", torch.full_like(late, self.config.diversity_temperature), persistent=False)
        self.register_buffer("late_temperature", late, persistent=False)

    @classmethod
    def check(cls, config: Config, head: Experts.Config, num_classes: int) -> None:
        if config.scale != head.scale:
            raise UserError(f"method.scale: {config.scale:g} has to be the scale of the head, {head.scale:g}")

    def criterion(self, logits: Tensor, labels: Tensor, share: Share, epoch: Epoch) -> Tensor:
        late = epoch.index >= switch(self.config, epoch.total)
        ldam, temperature = (self.late_ldam, self.late_temperature) if late else (self.ldam, self.temperature)
        # LDAM scales by itself, so it wants the cosines back.
        margin_losses = [ldam(expert / self.config.scale, labels, share) for expert in logits]
        diversity = (share * divergences(logits, temperature)).mean(1).sum()
        return torch.stack(margin_losses).sum() + self.config.diversity_factor * temperature.mean() ** 2 * diversity


def switch(config: RIDE.Config, total: int) -> int:
    """The first epoch of `total` in which the rare classes count more; `total` if there is none."""
    return round(config.reweight_from * total)


def relative_temperature(stats: ClassStats, rho: float) -> Tensor:
    """Factors float32 [C] on T: 1 for the largest class, smaller for rarer ones.

    With s_c = rho * C * n_c / N + 1 - rho, d_c = s_c / max_j s_j.
    """
    counts = stats.counts.double()
    size = rho * stats.num_classes * counts / counts.sum() + 1 - rho
    return (size / size.max()).float()


def divergences(logits: Tensor, temperature: Tensor) -> Tensor:
    """KL(softmax(mean / T) || softmax(expert / T)) [E, B] of logits [E, B, C], without gradient through the mean."""
    mean = F.softmax(logits.mean(0).detach() / temperature, dim=1)
    log_p = F.log_softmax(logits / temperature, dim=2)
    return F.kl_div(log_p, mean.expand_as(log_p), reduction="none").sum(2)
