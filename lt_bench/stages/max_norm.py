"""Weight balancing: strong weight decay and a common bound on the norms of the classifier's weights."""

from __future__ import annotations

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor, nn

from lt_bench.registry import Info
from lt_bench.stages import Stage, row_norms


class MaxNorm(Stage):
    """The trained classifier trained on, every |w_c| brought back to at most a radius after each step.

    The radius is |w|_min + threshold * (|w|_max - |w|_min) of the trained norms; the bias has none. The authors'
    first stage has a tuned weight decay (5e-3 on CIFAR-100-LT), a rate of 0.01, batches of 64 and a larger
    network than the field's ResNet-32; under a shared protocol the first stage, and the batches of both, are the
    protocol's.
    """

    name = "max-norm"
    info = Info(
        "classifier trained on with weight decay and bounded norms", "Alshammari et al., CVPR 2022", 2022, cost="0.3x"
    )
    scores_are_probabilities = False
    defaults = Stage.defaults | {"loss": {"name": "class-balanced", "form": "binary-softmax"}}

    class Config(Stage.Config):
        """Decay and bound."""

        lr: FiniteFloat = Field(default=0.01, gt=0)
        weight_decay: FiniteFloat | None = Field(default=0.1, ge=0)
        threshold: float = Field(default=0.1, ge=0, le=1)
        """Where the radius lies between the smallest trained norm (0) and the largest (1)."""

    config: Config
    radius: Tensor

    def prepare(self, trained: nn.Linear) -> None:
        self.linear = trained
        norms = row_norms(trained.weight.detach())
        self.register_buffer("radius", torch.lerp(norms.min(), norms.max(), self.config.threshold))

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)
        return logits

    @torch.no_grad()
    def after_step(self) -> None:
        # Not renorm_: it leaves norms a little below the bound, by an epsilon of its own.
        self.linear.weight.mul_((self.radius / row_norms(self.linear.weight)).clamp_max(1))
