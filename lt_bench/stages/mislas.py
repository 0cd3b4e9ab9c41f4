"""MiSLAS: the classifier trained on, slowly, behind a learned factor per class."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor, nn

from lt_bench.registry import Info
from lt_bench.stages import Stage


class MiSLAS(Stage):
    """z = f (W h + b): W and b go on from where they are at a small rate, f [C] from 1 at the full one.

    The second stage of Zhong et al., CVPR 2021; the first is mixup, the loss of the second label-aware smoothing.
    The released code scales the bias too. Weight decay acts on f as well. Its epochs are a batch longer than here,
    where they pass as many images as the training set has. The defaults are the authors' for CIFAR-100-LT, factor 100.
    """

    name = "mislas"
    info = Info(
        "classifier and a factor per class trained on from balanced batches",
        "Zhong et al., CVPR 2021",
        2021,
        cost="0.3x",
    )
    defaults = Stage.defaults | {
        "sampler": "class-aware",
        "loss": {"name": "label-aware-smoothing", "epsilon_head": 0.4, "epsilon_tail": 0.1},
    }

    class Config(Stage.Config):
        """The classifier's rate; the authors choose it, and the smoothing, by data set and factor."""

        lr_factor: FiniteFloat = Field(default=0.2, gt=0)
        """Rate of W and b over that of f."""
        shifted_batch_norm: bool = True

    config: Config

    def prepare(self, trained: nn.Linear) -> None:
        self.linear = trained
        self.scale = nn.Parameter(torch.ones(trained.out_features))

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.scale * self.linear(features)
        return logits

    def rates(self) -> Mapping[Tensor, float]:
        return {self.linear.weight: self.config.lr_factor, self.linear.bias: self.config.lr_factor, self.scale: 1.0}
