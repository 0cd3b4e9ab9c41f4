"""The residual network of mixRnet: normalisation before a convolution, GELU behind it, for images of 32x32 pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.models.backbones import Residual, convolution
from lt_bench.models.residual import ResidualBlock
from lt_bench.registry import Info


class Bottleneck(ResidualBlock):
    """gelu(main(x) + shortcut(x)), in which every convolution stands behind a normalisation and before a GELU.

    Not the standard pre-activation block: the activation follows the convolution, and the sum. Where the shape changes
    the shortcut is a normalisation of its own and a 1x1 convolution.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        inner = width // 4
        self.main = nn.Sequential(
            *(nn.BatchNorm2d(width_in), convolution(width_in, inner, 1), nn.GELU()),
            *(nn.BatchNorm2d(inner), convolution(inner, inner, 3, stride), nn.GELU()),
            *(nn.BatchNorm2d(inner), convolution(inner, width, 1)),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.BatchNorm2d(width_in), convolution(width_in, width, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.main(x) + self.shortcut(x))

    @property
    def end(self) -> nn.Module:
        return self.main


class ResNet50PreActGELU(Residual):
    """ResNet50PreAct of mixRnet (Pallakonda 2021): 23,512,906 parameters at 10 classes.

    It begins with torch's own initialisation.
    """

    name = "resnet50-preact-gelu"
    info = Info("ResNet-50 of mixRnet, batch normalisation, convolution, GELU", "Pallakonda 2021", 2021)
    feature_dim = 2048
    largest_side = 64
    widths = (256, 512, 1024, 2048)
    blocks = (3, 4, 6, 3)

    def block(self, width_in: int, width: int, stride: int) -> nn.Module:
        """A bottleneck of a quarter of the channels."""
        return Bottleneck(width_in, width, stride)
