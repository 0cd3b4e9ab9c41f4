"""A plug-in for the tests: networks so small that a run takes a moment."""

from __future__ import annotations

from torch import nn

from lt_bench.models.backbones import Backbone
from lt_bench.models.backbones.shake_shake import ShakeShake26
from lt_bench.registry import Info


class Tiny(Backbone):
    """Two convolutions with batch normalisation, and a dropout, which draws from torch's global generator."""

    name = "tiny"
    info = Info("two convolutions, for tests")
    feature_dim = 8

    def trunk(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.BatchNorm2d(4), nn.ReLU())

    def last_stage(self) -> nn.Module:
        block = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1))
        return nn.Sequential(block)


class TinyShakeShake(ShakeShake26):
    """It has a place for every regulariser."""

    name = "tiny-shake-shake"
    info = Info("three blocks of two branches, for tests")
    feature_dim = 8
    stem_width = 2
    widths = (2, 4, 8)
    blocks = (1, 1, 1)
