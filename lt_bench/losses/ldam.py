"""Label-distribution-aware margins: the rarer a class, the larger the margin its cosine must win by."""

from __future__ import annotations

from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import ClassStats
from lt_bench.losses import Loss
from lt_bench.registry import Info


class LDAM(Loss):
    """CE(s (cos - m[y] onehot(y)), y) with m[c] ~ n[c]^(-1/4), the rarest class at `max_margin`.

    With weights switched on late in training it is LDAM-DRW (a phase of the recipe).
    """

    name = "ldam"
    info = Info("cross entropy on cosines with larger margins for rarer classes", "Cao et al., NeurIPS 2019", 2019)
    takes_cosines = True

    class Config(Loss.Config):
        """Margin and temperature."""

        max_margin: FiniteFloat = Field(default=0.5, ge=0)
        """Margin of the rarest class, in units of the cosine."""
        scale: FiniteFloat = Field(default=30.0, gt=0)
        """Factor s on the cosines; a softmax over bare cosines could not become confident."""

    config: Config
    margins: Tensor

    def prepare(self, stats: ClassStats) -> None:
        counts = stats.counts.double()
        margins = self.config.max_margin * (counts.min() / counts) ** 0.25
        self.register_buffer("margins", margins.float(), persistent=False)

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        margins = F.one_hot(labels, logits.shape[1]) * self.margins
        return F.cross_entropy(self.config.scale * (logits - margins), labels, reduction="none")

    def scores(self, logits: Tensor) -> Tensor:
        """Scaled cosines without margin: their softmax is the confidence that the loss trains."""
        return self.config.scale * logits.float()
