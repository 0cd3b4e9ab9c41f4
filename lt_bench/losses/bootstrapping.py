"""Bootstrapping: a label that is partly the network's own prediction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from lt_bench.losses import Loss
from lt_bench.registry import Info


class Bootstrapping(Loss):
    """Cross entropy with (1 - w) y + w z, where z is what the network predicts, seen as a constant.

    Paper: Reed et al., Training Deep Neural Networks on Noisy Labels with Bootstrapping, ICLR Workshops 2015,
    arXiv 1412.6596; the weights as in Arazo et al., ICML 2019.
    """

    name = "bootstrapping"
    info = Info("labels mixed with the network's own predictions", "Reed et al., ICLR Workshops 2015", 2015)

    class Config(Loss.Config):
        """What the prediction is, and its weight."""

        target: Literal["hard", "soft"] = "hard"
        """The predicted class, or the predicted probabilities."""
        weight: float | None = Field(default=None, ge=0, le=1)
        """w. None: 0.2 of a hard target, 0.05 of a soft one."""

    config: Config

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        hard = self.config.target == "hard"
        weight = self.config.weight if self.config.weight is not None else (0.2 if hard else 0.05)
        given = F.cross_entropy(logits, labels, reduction="none")
        if hard:
            own = F.cross_entropy(logits, logits.argmax(1), reduction="none")
        else:
            own = -(logits.detach().softmax(1) * logits.log_softmax(1)).sum(1)
        return (1 - weight) * given + weight * own
