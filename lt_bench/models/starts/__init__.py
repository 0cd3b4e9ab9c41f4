"""What a classifier on a pretrained network begins as: directions of the classes. This page holds their common base."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.models.backbones import Backbone
from lt_bench.registry import Component
from lt_bench.settings import Settings

Features = Callable[[int | None], tuple[Tensor, Tensor]]
"""Features float32 [N, D] and labels int64 [N] of training images that nothing varies, so many of a class or all."""


@dataclass(frozen=True)
class Given:
    """What is there before the training."""

    backbone: Backbone
    """As it was pretrained."""
    class_names: Sequence[str]
    features: Features
    device: torch.device


class Start(Component, ABC):
    """Says where the weights of a classifier begin. Bias there may be is left as it is."""

    reads_text: ClassVar[bool] = False
    """Whether it needs a backbone that reads text."""

    class Config(Settings):
        """No settings."""

    def __init__(self, config: Config | None = None, **settings: Any) -> None:
        self.config: Any = self.settled(config, settings)

    def check(self, class_names: Sequence[str]) -> None:
        """Raise UserError where nothing can be made of classes of these names."""

    @abstractmethod
    def directions(self, given: Given) -> Tensor:
        """Unit vectors float32 [C, D]. Raises UserError where they cannot be had."""


@torch.no_grad()
def begin(classifier: nn.Module, directions: Tensor) -> None:
    """Give a classifier, whose `weight` is [C, D], these rows."""
    weight: Any = classifier.get_parameter("weight")
    weight.copy_(directions)


def unit_means(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """unit(mean of f) of each class, from features [N, D] and labels [N]."""
    sums = torch.zeros(num_classes, features.shape[1]).index_add_(0, labels.cpu(), features.float().cpu())
    return F.normalize(sums, dim=1)
