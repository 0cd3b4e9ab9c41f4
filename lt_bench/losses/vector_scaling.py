"""Logits divided by a temperature per class, with or without a shift by the log class prior."""

from __future__ import annotations

from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.types import ClassStats
from lt_bench.losses.cross_entropy import SoftmaxLoss
from lt_bench.losses.logit_adjustment import log_prior
from lt_bench.registry import Info


class CDT(SoftmaxLoss):
    """CE(z / a, y) with a[c] = (n_max / n[c])^gamma in training, plain z at test time.

    A rare class has to reach a larger logit for the same loss.
    """

    name = "cdt"
    info = Info("logits divided by temperatures that grow with rarity", "Ye et al., arXiv 2001.01385", 2020)

    class Config(SoftmaxLoss.Config):
        """How far the temperatures differ."""

        gamma: FiniteFloat = Field(default=0.2, ge=0)
        """0 is cross entropy; searched within 0 to 0.4 on CIFAR-10-LT, 0 to 0.2 on CIFAR-100-LT."""

    config: Config
    temperatures: Tensor

    def prepare(self, stats: ClassStats) -> None:
        counts = stats.counts.double()
        self.register_buffer("temperatures", ((counts.max() / counts) ** self.config.gamma).float(), persistent=False)

    def trained(self, logits: Tensor) -> Tensor:
        return logits / self.temperatures


class VectorScaling(CDT):
    """CE(z / a + tau log prior, y) with the temperatures a of CDT, plain z at test time.

    gamma = 0 is logit adjustment, tau = 0 is CDT. The released code can also begin with six epochs of cross entropy,
    which is a phase of a recipe here.
    """

    name = "vs"
    info = Info("temperatures of CDT and shift of logit adjustment together", "Kini et al., NeurIPS 2021", 2021)

    class Config(CDT.Config):
        """Strength of the two parts."""

        gamma: FiniteFloat = Field(default=0.3, ge=0)
        """Exponent of the temperatures (n_max / n)^gamma. 0 leaves the logits undivided."""
        tau: FiniteFloat = Field(default=1.0, ge=0)
        """Weight of the log prior. 0 leaves the logits unshifted."""

    config: Config
    shift: Tensor

    def prepare(self, stats: ClassStats) -> None:
        super().prepare(stats)
        self.register_buffer("shift", self.config.tau * log_prior(stats), persistent=False)

    def trained(self, logits: Tensor) -> Tensor:
        return super().trained(logits) + self.shift

    @classmethod
    def adjusts(cls, config: Config) -> bool:
        return config.tau != 0
