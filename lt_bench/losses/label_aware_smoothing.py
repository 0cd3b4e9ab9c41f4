"""Label-aware smoothing: the more images a class has, the softer its labels."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import ClassStats
from lt_bench.losses import Loss
from lt_bench.registry import Info

Epsilon = Annotated[float, Field(ge=0, le=1)]


class LabelAwareSmoothing(Loss):
    """(1 - e[y]) (-log p[y]) + e[y] mean_c(-log p[c]), e growing from the rarest class to the largest.

    The second stage of MiSLAS, here as a loss like any other. The smoothed mass is spread over all C
    classes as in the released code, the true one included; the paper spreads it over the C - 1 others.
    """

    name = "label-aware-smoothing"
    info = Info("label smoothing that grows with the class size", "Zhong et al., CVPR 2021", 2021)

    class Config(Loss.Config):
        """Smoothing at both ends, and how it grows between them."""

        epsilon_head: Epsilon = 0.3
        """Of the class with most images. The authors take 0.1 to 0.4, by data set and factor."""
        epsilon_tail: Epsilon = 0.0
        """Of the class with fewest images, and of all classes where their sizes are equal."""
        form: Literal["concave", "linear", "convex", "exponential"] = "concave"
        """Over r = (n - n_min) / (n_max - n_min): sin(pi r / 2), r, 1 - cos(pi r / 2) or r^power."""
        power: FiniteFloat = Field(default=1.0, gt=0)
        """Exponent of the form `exponential`; the others do not read it."""

    config: Config
    epsilon: Tensor

    def prepare(self, stats: ClassStats) -> None:
        self.register_buffer("epsilon", smoothing(self.config, stats), persistent=False)

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        surprise = -F.log_softmax(logits, dim=1)  # [B, C]
        true = surprise.gather(1, labels[:, None]).squeeze(1)
        return true + self.epsilon[labels] * (surprise.mean(dim=1) - true)


def smoothing(config: LabelAwareSmoothing.Config, stats: ClassStats) -> Tensor:
    """The smoothing factor of every class, float32 [C]."""
    above = (stats.counts - stats.counts.min()).double()
    size = above / above.max().clamp_min(1)  # 0 for the rarest class, 1 for the largest
    growth = {
        "concave": (math.pi / 2 * size).sin(),
        "linear": size,
        "convex": 1 - (math.pi / 2 * size).cos(),
        "exponential": size**config.power,
    }[config.form]
    return (config.epsilon_tail + (config.epsilon_head - config.epsilon_tail) * growth).float()
