"""Heads: what stands behind the trunk and turns its features into logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.models.backbones import Backbone
from lt_bench.models.network import Branch, Network
from lt_bench.registry import Component, Info
from lt_bench.settings import Settings


class Head(Component, ABC):
    """Completes a backbone to a network for `num_classes` classes."""

    gives_cosines: ClassVar[bool] = False
    """Whether the logits are cosines, which only a loss with a scale of its own can be trained on."""

    class Config(Settings):
        """No settings."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @abstractmethod
    def build(self, backbone: Backbone, num_classes: int) -> Network:
        """A freshly initialised network."""


class Linear(Head):
    """One linear layer with bias."""

    name = "linear"
    info = Info("one linear classifier with bias")

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk = backbone.trunk()
        return Network(trunk, [Branch(backbone.last_stage(), linear_classifier(backbone.feature_dim, num_classes))])


class Cosine(Head):
    """Cosines between features and class weights, the classifier of LDAM (Cao et al., NeurIPS 2019)."""

    name = "cosine"
    info = Info("cosines between normalised features and class weights", "Cao et al., NeurIPS 2019", 2019)
    gives_cosines = True

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk = backbone.trunk()
        return Network(trunk, [Branch(backbone.last_stage(), CosineClassifier(backbone.feature_dim, num_classes))])


class DualBranch(Head):
    """Two branches, each with a last stage and a linear classifier of its own.

    The network of DBN-Mix (Baik et al., Pattern Recognition 2024): branch 0 is the conventional, branch 1
    the re-balancing one; prediction averages their logits.
    """

    name = "dual-branch"
    info = Info("two last stages with a linear classifier each, logits averaged", "Baik et al., PR 2024", 2024)

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk = backbone.trunk()
        branches = [
            Branch(backbone.last_stage(), linear_classifier(backbone.feature_dim, num_classes)) for _ in range(2)
        ]
        return Network(trunk, branches)


class CosineClassifier(nn.Module):
    """cos(features, class weight) in [-1, 1], without bias."""

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        weight = torch.empty(num_classes, feature_dim).uniform_(-1, 1)
        self.weight = nn.Parameter(F.normalize(weight, dim=1))  # [C, D]

    def forward(self, features: Tensor) -> Tensor:
        # A scale of 30 follows in the loss: in bfloat16 a cosine near 1 would be off by up to 0.1 logits.
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(F.normalize(features.float()), F.normalize(self.weight))


def linear_classifier(feature_dim: int, num_classes: int) -> nn.Linear:
    """A linear layer with Kaiming-normal weights, as in the field's CIFAR code."""
    layer = nn.Linear(feature_dim, num_classes)
    nn.init.kaiming_normal_(layer.weight)
    return layer
