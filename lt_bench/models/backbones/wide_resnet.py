"""Wide residual networks: few layers of many channels, for images of 32x32 pixels."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from lt_bench.models.backbones import kaiming_normal
from lt_bench.models.backbones.preact_resnet import PreActBlock, PreActivated, basic
from lt_bench.registry import Info


class WideResNet(PreActivated):
    """28 layers in three stages of pre-activation blocks (Zagoruyko and Komodakis, BMVC 2016).

    Convolutions begin with Kaiming-normal weights by their fan out, as in the authors' code.
    """

    class Config(PreActivated.Config):
        """What else regularises."""

        dropout: float = Field(default=0.0, ge=0, lt=1)
        """Probability of dropping an activation between the two convolutions of a block; 0.3 in Cutout's code."""

    config: Config
    stem_width = 16
    blocks = (4, 4, 4)

    def stages(self) -> list[nn.Sequential]:
        return [kaiming_normal(stage, "fan_out") for stage in super().stages()]

    def block(self, width_in: int, width: int, stride: int) -> nn.Module:
        """Two 3x3 convolutions, perhaps with a dropout between."""
        return PreActBlock(width_in, width, stride, basic(width_in, width, stride, self.config.dropout))


class WRN28x8(WideResNet):
    """23.35 million parameters at 10 classes."""

    name = "wrn-28-8"
    info = Info("wide ResNet of 28 layers, 8 times the channels", "Zagoruyko and Komodakis, BMVC 2016", 2016)
    feature_dim = 512
    widths = (128, 256, 512)


class WRN28x10(WideResNet):
    """36.48 million parameters at 10 classes."""

    name = "wrn-28-10"
    info = Info("wide ResNet of 28 layers, 10 times the channels", "Zagoruyko and Komodakis, BMVC 2016", 2016)
    feature_dim = 640
    widths = (160, 320, 640)


class WRN34x10(WideResNet):
    """34 layers, 46.16 million parameters at 10 classes: the network of much adversarial training."""

    name = "wrn-34-10"
    info = Info("wide ResNet of 34 layers, 10 times the channels", "Zagoruyko and Komodakis, BMVC 2016", 2016)
    feature_dim = 640
    widths = (160, 320, 640)
    blocks = (5, 5, 5)


class WRN40x2(WideResNet):
    """40 layers, 2.24 million parameters at 10 classes: AugMix's network."""

    name = "wrn-40-2"
    info = Info("wide ResNet of 40 layers, twice the channels", "Zagoruyko and Komodakis, BMVC 2016", 2016)
    feature_dim = 128
    widths = (32, 64, 128)
    blocks = (6, 6, 6)
