"""PyramidNet: residual networks whose channels grow from block to block, for images of 32x32 pixels."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.models.backbones import Staged, convolution, kaiming_normal
from lt_bench.models.norm import BatchNormReLU
from lt_bench.models.residual import ResidualBlock
from lt_bench.registry import Info

STEM = 16
"""Channels of the stem."""


class PyramidBlock(ResidualBlock):
    """shortcut + BN, 3x3 convolution, BN, ReLU, 3x3 convolution, BN; nothing follows the sum.

    The shortcut has no parameters: the mean of 2x2 pixels where maps are halved, and zeros for the new channels.
    """

    expansion: ClassVar[int] = 1
    """Channels that it gives, over its width."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.BatchNorm2d(width_in), *self.convolutions(width_in, width, stride))
        self.new_channels = self.expansion * width - width_in
        self.width_in, self.stride = width_in, stride

    def convolutions(self, width_in: int, width: int, stride: int) -> list[nn.Module]:
        first = [convolution(width_in, width, 3, stride), BatchNormReLU(width)]
        return [*first, convolution(width, width, 3), nn.BatchNorm2d(width)]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x)
        shortcut = x if self.stride == 1 else F.avg_pool2d(x, self.stride, ceil_mode=True)
        return y + F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))

    @property
    def end(self) -> nn.Module:
        return self.main

    @property
    def old_channels(self) -> slice:
        return slice(self.width_in)


class PyramidBottleneck(PyramidBlock):
    """The same around 1x1, 3x3 and 1x1 convolutions, of which the last gives four times the block's width."""

    expansion = 4

    def convolutions(self, width_in: int, width: int, stride: int) -> list[nn.Module]:
        first = [convolution(width_in, width, 1), BatchNormReLU(width)]
        second = [convolution(width, width, 3, stride), BatchNormReLU(width)]
        return [*first, *second, convolution(width, 4 * width, 1), nn.BatchNorm2d(4 * width)]


class PyramidNet(Staged):
    """Three stages of as many blocks, each of them by alpha / L wider (Han et al., CVPR 2017).

    A last normalisation and ReLU follow the last of its L blocks. Convolutions begin with Kaiming-normal weights by
    their fan out.
    """

    largest_side = 64
    blocks: ClassVar[int]
    """Of each stage."""
    alpha: ClassVar[int]
    """By how much the last block is wider than the stem."""
    block: ClassVar[type[PyramidBlock]] = PyramidBlock

    def stages(self) -> list[nn.Sequential]:
        total = 3 * self.blocks
        widths = [STEM + round(self.alpha * place / total) for place in range(1, total + 1)]
        given = [STEM, *(self.block.expansion * width for width in widths)]
        made: list[nn.Module] = [
            self.block(given[place], width, 1 + (place in (self.blocks, 2 * self.blocks)))
            for place, width in enumerate(widths)
        ]
        # In one with the last block, as in pre-activated networks.
        made[-1] = nn.Sequential(made[-1], BatchNormReLU(self.feature_dim))
        stem = nn.Sequential(convolution(3, STEM, 3), nn.BatchNorm2d(STEM))
        first, second, third = (made[start : start + self.blocks] for start in range(0, total, self.blocks))
        return [kaiming_normal(nn.Sequential(*part), "fan_out") for part in ([stem, *first], second, third)]


class PyramidNet110(PyramidNet):
    """28.51 million parameters at 100 classes: the network of ShakeDrop's figures."""

    name = "pyramidnet-110-a270"
    info = Info("PyramidNet of 110 layers, alpha 270", "Han et al., CVPR 2017", 2017)
    feature_dim = STEM + 270
    blocks = 18
    alpha = 270


class PyramidNet200(PyramidNet):
    """26.84 million parameters at 100 classes: the network of CutMix's figures on CIFAR."""

    name = "pyramidnet-200-a240"
    info = Info("PyramidNet of 200 layers, alpha 240, bottlenecks", "Han et al., CVPR 2017", 2017)
    feature_dim = 4 * (STEM + 240)
    blocks = 22
    alpha = 240
    block = PyramidBottleneck


class PyramidNet20(PyramidNet):
    """0.22 million parameters at 100 classes, 0.8 times the arithmetic of ResNet-32: a relative for small machines."""

    name = "pyramidnet-20-a36"
    info = Info("PyramidNet of 20 layers, alpha 36, this project's", "Han et al., CVPR 2017", 2017)
    feature_dim = STEM + 36
    blocks = 3
    alpha = 36
