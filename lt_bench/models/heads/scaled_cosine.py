"""Cosines times a fixed scale: logits that every loss takes."""

from __future__ import annotations

from pydantic import Field, FiniteFloat

from lt_bench.models.backbones import Backbone
from lt_bench.models.heads import Head, ScaledCosineClassifier
from lt_bench.models.network import Branch, Network
from lt_bench.registry import Info


class ScaledCosine(Head):
    """s cos(f, w_k), without bias, as in LIFT (Shi et al., ICML 2024); rows begin uniform, scaled to unit length."""

    name = "scaled-cosine"
    info = Info("cosines between features and class weights, times a scale", "Shi et al., ICML 2024", 2024)
    gives_features = True

    class Config(Head.Config):
        """How far apart logits can be."""

        scale: FiniteFloat = Field(default=25.0, gt=0)
        """s. With 1,000 classes and a lead of 0.1 over all other cosines, 25 makes a probability of 0.012."""

    config: Config

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        trunk, last_stage = backbone.whole()
        classifier = ScaledCosineClassifier(backbone.feature_dim, num_classes, self.config.scale)
        return Network(trunk, [Branch(last_stage, classifier)])
