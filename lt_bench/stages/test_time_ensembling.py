"""Test-time ensembling: the trained network as it is, evaluated on five crops of every image."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from lt_bench.data.augment import Augmentation
from lt_bench.registry import Info
from lt_bench.stages import NoTraining, Stage


class FiveCrops(Stage):
    """Images are made a little larger than the network takes, and the logits of five crops are averaged.

    The crops are the corners and the middle, as in LIFT (Shi et al., ICML 2024). Logits are read by the loss of before,
    where a recipe does not say another. It costs five evaluations, and is a
    row of its own: a figure with it says nothing about one without.
    """

    name = "test-time-ensembling"
    info = Info("evaluated on five crops, whose logits are averaged", "Shi et al., ICML 2024", 2024)
    goes_on_with = frozenset({"loss"})
    keeps_classifier = True
    heads: ClassVar[frozenset[str]] = frozenset({"linear", "cosine", "scaled-cosine"})

    class Config(NoTraining):
        """How much larger images are than crops."""

        expand: int | None = Field(default=None, ge=0, le=1024)
        """Pixels that the shorter side is longer than a crop. None: 3 in 28, LIFT's 24 for crops of 224. On networks of
        14-pixel patches LIFT takes 21."""

    config: Config

    @classmethod
    def sees(cls, config: Config, augmentation: Augmentation, side: int) -> Augmentation:
        resize = side + (round(side * 3 / 28) if config.expand is None else config.expand)
        views = {"kind": "resized-crop", "size": side, "test_resize": resize, "test_views": "five-crop"}
        return augmentation.model_copy(update=views)

    def prepare(self, trained: nn.Module) -> None:
        self.classifier = trained.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(features)
        return logits
