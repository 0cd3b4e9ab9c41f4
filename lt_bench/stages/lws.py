"""LWS: one learned factor per class on the logits of the trained classifier."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from lt_bench.registry import Info
from lt_bench.stages import Stage, frozen


class LearnableWeightScaling(Stage):
    """z = f (W h + b) with W and b as trained and f [C] learned from class-aware batches, starting at 1.

    As in the released code, which scales the bias too; the paper's formula scales W only. Batch normalisation,
    rate and weight decay are those of `crt`.
    """

    name = "lws"
    info = Info("a learned factor per class on the trained logits", "Kang et al., ICLR 2020", 2020, cost="0.3x")
    defaults = Stage.defaults | {"sampler": "class-aware"}

    class Config(Stage.Config):
        """Settings of the training."""

        epochs: int = Field(default=5, ge=1)
        shifted_batch_norm: bool = True

    def prepare(self, trained: nn.Linear) -> None:
        self.linear = frozen(trained)
        self.scale = nn.Parameter(torch.ones(trained.out_features))

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.scale * self.linear(features)
        return logits
