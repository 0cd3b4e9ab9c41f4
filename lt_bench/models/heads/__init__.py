"""Heads, and the networks that they make: what stands behind the trunk. This page holds their common base."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.models.backbones import Backbone
from lt_bench.models.network import Network
from lt_bench.registry import Component
from lt_bench.settings import Settings


class Head(Component, ABC):
    """Completes a backbone to a network for `num_classes` classes."""

    gives_cosines: ClassVar[bool] = False
    """Whether the logits are cosines, which only a loss with a scale of its own can be trained on."""
    gives_features: ClassVar[bool] = False
    """Whether the network has one branch, and so the features that a loss may ask for."""
    extends_stages: ClassVar[bool] = False
    """Whether branches have fresh layers before their features, which a tuner would take for pretrained ones."""
    has_training_layers: ClassVar[bool] = False
    """Whether it has layers on which no logit depends: only a method that names the head can train them."""

    class Config(Settings):
        """No settings."""

    def __init__(self, config: Config | None = None, **settings: Any) -> None:
        self.config: Head.Config = self.settled(config, settings)

    @property
    def cost(self) -> str:
        """That of `info` with these settings."""
        return self.info.cost

    @abstractmethod
    def build(self, backbone: Backbone, num_classes: int) -> Network:
        """A freshly initialised network."""


class CosineClassifier(nn.Module):
    """cos(features, class weight) in [-1, 1], without bias; with `gamma`, times |weight| / (|weight| + gamma)."""

    def __init__(self, feature_dim: int, num_classes: int, gamma: float = 0.0) -> None:
        super().__init__()
        self.gamma = gamma
        weight = torch.empty(num_classes, feature_dim).uniform_(-1, 1)
        self.weight = nn.Parameter(F.normalize(weight, dim=1))  # [C, D]

    def forward(self, features: Tensor) -> Tensor:
        # A scale of 30 follows in the loss: in bfloat16 a cosine near 1 would be off by up to 0.1 logits.
        with torch.autocast(features.device.type, enabled=False):
            weight = self.weight
            unit = weight / (weight.norm(dim=1, keepdim=True) + self.gamma) if self.gamma else F.normalize(weight)
            return F.linear(F.normalize(features.float()), unit)


class ScaledCosineClassifier(CosineClassifier):
    """scale * cos(features, class weight): logits that any loss can be trained on."""

    def __init__(self, feature_dim: int, num_classes: int, scale: float) -> None:
        super().__init__(feature_dim, num_classes)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * super().forward(features)


def linear_classifier(feature_dim: int, num_classes: int) -> nn.Linear:
    """A linear layer with Kaiming-normal weights, as in the field's CIFAR code."""
    layer = nn.Linear(feature_dim, num_classes)
    nn.init.kaiming_normal_(layer.weight)
    return layer


def all_stages(backbone: Backbone) -> nn.Module:
    """A whole fresh backbone: images [B, 3, H, W] to feature maps of width D."""
    return nn.Sequential(*backbone.whole())
