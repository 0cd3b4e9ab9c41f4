"""NCM: the class whose mean feature is nearest."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.registry import Info
from lt_bench.stages import NoTraining, Stage


class NearestClassMean(Stage):
    """z_c = -|h - m_c|^2, with features centred by the mean of all training images, then of length 1 (`cl2n`).

    The means m_c [D] of the classes are taken over features treated so, and not normalised again.
    """

    name = "ncm"
    info = Info(
        "nearest class mean of centred, normalised features, no training", "Kang et al., ICLR 2020", 2020, cost="none"
    )
    needs_features: ClassVar[bool] = True
    scores_are_probabilities: ClassVar[bool] = False

    class Config(NoTraining):
        """No settings: nothing is trained."""

    centre: Tensor
    means: Tensor

    def prepare(self, trained: nn.Linear) -> None:
        self.register_buffer("centre", torch.zeros(trained.in_features))
        self.register_buffer("means", torch.zeros(trained.out_features, trained.in_features))

    def fit(self, features: Tensor, labels: Tensor) -> None:
        self.centre.copy_(features.mean(0))
        sums = torch.zeros_like(self.means).index_add_(0, labels, self._normalised(features))
        self.means.copy_(sums / torch.bincount(labels, minlength=len(sums))[:, None])

    def forward(self, features: Tensor) -> Tensor:
        return -(torch.cdist(self._normalised(features), self.means) ** 2)

    def _normalised(self, features: Tensor) -> Tensor:
        return F.normalize(features.float() - self.centre)
