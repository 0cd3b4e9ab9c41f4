"""The residual networks of CIFAR papers, 6n+2 layers of 16, 32 and 64 channels, for images of 32x32 pixels."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.models.backbones import Backbone, kaiming_normal
from lt_bench.models.network import Level
from lt_bench.models.norm import BatchNormReLU
from lt_bench.models.residual import ResidualBlock
from lt_bench.registry import Info


class CifarBlock(ResidualBlock):
    """Two 3x3 convolutions with a parameter-free shortcut (He et al., CVPR 2016, option A)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNormReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = BatchNormReLU(width)
        self.stride = stride
        self.new_channels = width - width_in

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.bn1(self.conv1(x)))
        y: Tensor = self.bn2(out, residual=self.shortcut(x) if self.new_channels else x)
        return y

    @property
    def end(self) -> nn.Module:
        return self.bn2

    @property
    def old_channels(self) -> slice:
        before = self.new_channels // 2
        return slice(before, before + self.conv1.in_channels)

    def shortcut(self, x: Tensor) -> Tensor:
        """Option A: subsampled in space; the new channels, half before and half behind, are zero."""
        half, stride = self.new_channels // 2, self.stride
        if x.is_contiguous(memory_format=torch.channels_last):
            # Sliced with the channels last, or the gradient would come back with the channels first. To add such a one
            # to the convolution's takes about ten times as long.
            return F.pad(x.permute(0, 2, 3, 1)[:, ::stride, ::stride], (half, half)).permute(0, 3, 1, 2)
        return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, half, half))


class CifarResNet(Backbone):
    """ResNet for 32x32 images with 6n+2 layers in stages of 16, 32 and 64 channels (He et al., CVPR 2016)."""

    feature_dim = 64
    largest_side = 64
    blocks: ClassVar[int]
    channels: ClassVar[tuple[int, int, int]] = (16, 32, 64)
    """Of the three stages; the stem has as many as the first, and the last are the features."""

    def trunk(self) -> nn.Module:
        first, second, _ = self.channels
        return kaiming_normal(nn.Sequential(self._stem(), self._stage(first, first, 1), self._stage(first, second, 2)))

    def last_stage(self) -> nn.Module:
        _, second, third = self.channels
        return kaiming_normal(self._stage(second, third, 2))

    def early_stages(self) -> nn.Module:
        """Stem and first stage."""
        first = self.channels[0]
        return kaiming_normal(nn.Sequential(self._stem(), self._stage(first, first, 1)))

    def late_stages(self, width: float = 1.0) -> nn.Module:
        """Second and third stage."""
        second, third = (int(channels * width) for channels in self.channels[1:])
        return kaiming_normal(nn.Sequential(self._stage(self.channels[0], second, 2), self._stage(second, third, 2)))

    def _stem(self) -> nn.Module:
        first = self.channels[0]
        return nn.Sequential(nn.Conv2d(3, first, 3, padding=1, bias=False), BatchNormReLU(first))

    def _stage(self, width_in: int, width: int, stride: int) -> Level:
        rest = [CifarBlock(width, width, 1) for _ in range(self.blocks - 1)]
        return Level(CifarBlock(width_in, width, stride), *rest)


class ResNet8(CifarResNet):
    """For tests and demonstrations."""

    name = "resnet8"
    info = Info("CIFAR ResNet, 1 block a stage", "He et al., CVPR 2016", 2016)
    blocks = 1


class ResNet20(CifarResNet):
    """0.27 million parameters at 10 classes."""

    name = "resnet20"
    info = Info("CIFAR ResNet, 3 blocks a stage", "He et al., CVPR 2016", 2016)
    blocks = 3


class ResNet32(CifarResNet):
    """0.46 million parameters at 10 classes: what long-tail papers mean by ResNet-32."""

    name = "resnet32"
    info = Info("CIFAR ResNet, 5 blocks a stage: the field's standard", "He et al., CVPR 2016", 2016)
    blocks = 5


class ResNet32W4(CifarResNet):
    """7.39 million parameters at 10 classes, 16 times those of ResNet-32, by whose name some papers call it."""

    name = "resnet32-w4"
    info = Info("ResNet-32 with four times the channels, as in GLMC", "Du et al., CVPR 2023", 2023)
    feature_dim = 256
    blocks = 5
    channels = (64, 128, 256)


class ResNet44(CifarResNet):
    """0.66 million parameters at 10 classes."""

    name = "resnet44"
    info = Info("CIFAR ResNet, 7 blocks a stage", "He et al., CVPR 2016", 2016)
    blocks = 7


class ResNet56(CifarResNet):
    """0.85 million parameters at 10 classes."""

    name = "resnet56"
    info = Info("CIFAR ResNet, 9 blocks a stage", "He et al., CVPR 2016", 2016)
    blocks = 9
