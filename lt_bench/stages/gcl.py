"""GCL, second stage: the trained cosine classifier trained on from balanced batches, under noise and a margin."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.models.heads import CosineClassifier
from lt_bench.registry import Info
from lt_bench.stages import Stage


class GaussianCloudedClassifier(Stage):
    """Cosines of the trained classifier, which goes on from where it is; batch normalisation stands still.

    As in the released code: classes are drawn with equal probability, and mixup goes on in this stage. Its script
    sets a rate of 0.1 * 0.1 * lr (1 + cos(pi t / 30)), for the README's lr of 0.1 half a cosine from 0.002.
    """

    name = "gcl"
    info = Info(
        "the cosine classifier trained on, with noise and margin, from balanced batches",
        "Li et al., CVPR 2022",
        2022,
        cost="0.3x",
    )
    defaults = Stage.defaults | {
        "sampler": "class-balanced",
        "mix": {"name": "mixup", "alpha": 1.0},
        "loss": {"name": "gcl", "noise": 0.5, "margin": 0.1, "scale": 20.0, "gamma": 1.0},
    }
    heads: ClassVar[frozenset[str]] = frozenset({"cosine"})

    class Config(Stage.Config):
        """Settings of the training."""

        epochs: int = Field(default=30, ge=1)
        lr: FiniteFloat = Field(default=0.002, gt=0)

    def prepare(self, trained: CosineClassifier) -> None:
        self.cosine = trained

    def forward(self, features: Tensor) -> Tensor:
        cosines: Tensor = self.cosine(features)
        return cosines
