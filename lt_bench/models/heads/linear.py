"""One linear layer: the head of most methods."""

from __future__ import annotations

from lt_bench.models.backbones import Backbone
from lt_bench.models.heads import Head, linear_classifier
from lt_bench.models.network import Branch, Network
from lt_bench.registry import Info


class Linear(Head):
    """One linear layer with bias."""

    name = "linear"
    info = Info("one linear classifier with bias")
    gives_features = True

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk, last_stage = backbone.whole()
        return Network(trunk, [Branch(last_stage, linear_classifier(backbone.feature_dim, num_classes))])
