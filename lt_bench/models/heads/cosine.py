"""Cosines between features and class weights."""

from __future__ import annotations

from lt_bench.models.backbones import Backbone
from lt_bench.models.heads import CosineClassifier, Head
from lt_bench.models.network import Branch, Network
from lt_bench.registry import Info


class Cosine(Head):
    """Cosines between features and class weights, the classifier of LDAM (Cao et al., NeurIPS 2019)."""

    name = "cosine"
    info = Info("cosines between normalised features and class weights", "Cao et al., NeurIPS 2019", 2019)
    gives_cosines = True
    gives_features = True

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk, last_stage = backbone.whole()
        return Network(trunk, [Branch(last_stage, CosineClassifier(backbone.feature_dim, num_classes))])
