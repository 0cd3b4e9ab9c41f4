"""Cosines between features and class weights."""

from __future__ import annotations

from pydantic import FiniteFloat

from lt_bench.models.backbones import Backbone
from lt_bench.models.heads import CosineClassifier, Head
from lt_bench.models.network import Branch, Network
from lt_bench.registry import Info
from lt_bench.settings import added


class Cosine(Head):
    """Cosines between features and class weights, the classifier of LDAM (Cao et al., NeurIPS 2019)."""

    name = "cosine"
    info = Info("cosines between normalised features and class weights", "Cao et al., NeurIPS 2019", 2019)
    gives_cosines = True
    gives_features = True

    class Config(Head.Config):
        """What keeps small weights small."""

        gamma: FiniteFloat = added(0.0, ge=0)
        """Added to the length of each class weight before it divides: 1/32 or 1/16 in RoBal (Wu et al., CVPR 2021)."""

    config: Config

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk, last_stage = backbone.whole()
        return Network(
            trunk, [Branch(last_stage, CosineClassifier(backbone.feature_dim, num_classes, self.config.gamma))]
        )
