"""Shifts of the logits by the log class prior: balanced softmax and logit adjustment."""

from __future__ import annotations

from typing import Any

from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.types import ClassStats
from lt_bench.losses.cross_entropy import SoftmaxLoss
from lt_bench.registry import Info
from lt_bench.settings import added


class BalancedSoftmax(SoftmaxLoss):
    """CE(z + log n, y) in training, plain z at test time."""

    name = "balanced-softmax"
    info = Info("cross entropy on logits shifted by the log class size", "Ren et al., NeurIPS 2020", 2020)

    class Config(SoftmaxLoss.Config):
        """Smoothing of the labels, as in cross entropy."""

        label_smoothing: float = added(0.0, ge=0, le=1)
        """Share of every label that is spread over all C classes, the true one included."""

    config: Config
    log_prior: Tensor

    def prepare(self, stats: ClassStats) -> None:
        self.register_buffer("log_prior", log_prior(stats), persistent=False)

    def trained(self, logits: Tensor) -> Tensor:
        # log(n / N) instead of log n: a constant over classes leaves the loss as it is.
        return logits + self.log_prior

    @classmethod
    def adjusts(cls, config: Any) -> bool:
        return True


class LogitAdjustment(SoftmaxLoss):
    """CE(z + tau log prior, y) with plain z at test time; or plain CE with z - tau log prior at test time.

    The released code has log(prior^tau + 1e-12), against classes without images; here every class has some, and the
    formula is the paper's. The two differ by log(1 + 1e-12 / prior^tau): on CIFAR-100-LT, for the rarest class, by 2e-9
    at tau = 1, 5e-6 at tau = 2 and 0.01 at tau = 3.
    """

    name = "logit-adjustment"
    info = Info("the log prior times tau, in the loss or after training", "Menon et al., ICLR 2021", 2021)

    class Config(SoftmaxLoss.Config):
        """Strength and place of the shift."""

        tau: FiniteFloat = Field(default=1.0, ge=0)
        """0 is cross entropy, 1 the Fisher-consistent value (then the loss equals balanced softmax)."""
        post_hoc: bool = False
        """Train with cross entropy and shift at test time. The shift is never applied twice."""

    config: Config
    shift: Tensor

    def prepare(self, stats: ClassStats) -> None:
        self.register_buffer("shift", self.config.tau * log_prior(stats), persistent=False)

    def trained(self, logits: Tensor) -> Tensor:
        return logits if self.config.post_hoc else logits + self.shift

    @classmethod
    def changes_scores(cls, config: Config) -> bool:
        return config.post_hoc and config.tau != 0

    @classmethod
    def adjusts(cls, config: Config) -> bool:
        return not config.post_hoc and config.tau != 0

    def scores(self, logits: Tensor) -> Tensor:
        """Logits [B, C], less tau log prior when post-hoc."""
        return logits.float() - self.shift if self.config.post_hoc else logits


def log_prior(stats: ClassStats) -> Tensor:
    """Logarithm of the class frequencies, float32 [C]."""
    counts = stats.counts.double()
    return (counts / counts.sum()).log().float()
