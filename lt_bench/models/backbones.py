"""Backbones, each cut before its last stage, so that a head may give several branches a stage of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.errors import UserError
from lt_bench.models.norm import BatchNormReLU
from lt_bench.registry import Component, Info

if TYPE_CHECKING:
    from torchvision.models import ResNet


class Backbone(Component, ABC):
    """Builds the parts of a network; `feature_dim` is the width D of the pooled features."""

    feature_dim: ClassVar[int]
    largest_side: ClassVar[int | None] = None
    """Pixels on a side of the largest images that it is made for, None for any."""

    @abstractmethod
    def trunk(self) -> nn.Module:
        """Everything before the last stage: images [B, 3, H, W] to feature maps."""

    @abstractmethod
    def last_stage(self) -> nn.Module:
        """A freshly initialised last stage: the trunk's feature maps to maps of width D.

        A head that splits it, such as `bilateral`, asks for a torch.nn.Sequential of blocks.
        """

    def early_stages(self) -> nn.Module:
        """What several experts share: images to feature maps. The trunk, unless a backbone can be cut earlier."""
        return self.trunk()

    def late_stages(self, width: float = 1.0) -> nn.Module:
        """The freshly initialised rest behind `early_stages`, its channels, D at the end, multiplied by `width`.

        Raises UserError where the backbone has no narrower form.
        """
        self._refuse_width(width)
        return self.last_stage()

    def _refuse_width(self, width: float) -> None:
        if width != 1:
            raise UserError(f"model.head.reduce_dimension: {self.name} has no narrower late stages; set it to false")


class CifarBlock(nn.Module):
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
        if self.new_channels:
            # Option A: subsample in space and let the new channels, half before and half behind, be zero.
            half = self.new_channels // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        y: Tensor = self.bn2(out, residual=x)
        return y


class CifarResNet(Backbone):
    """ResNet for 32x32 images with 6n+2 layers in stages of 16, 32 and 64 channels (He et al., CVPR 2016)."""

    feature_dim = 64
    largest_side = 64
    blocks: ClassVar[int]
    channels: ClassVar[tuple[int, int, int]] = (16, 32, 64)
    """Of the three stages; the stem has as many as the first, and the last are the features."""

    def trunk(self) -> nn.Module:
        first, second, _ = self.channels
        return _kaiming_normal(nn.Sequential(self._stem(), self._stage(first, first, 1), self._stage(first, second, 2)))

    def last_stage(self) -> nn.Module:
        _, second, third = self.channels
        return _kaiming_normal(self._stage(second, third, 2))

    def early_stages(self) -> nn.Module:
        """Stem and first stage."""
        first = self.channels[0]
        return _kaiming_normal(nn.Sequential(self._stem(), self._stage(first, first, 1)))

    def late_stages(self, width: float = 1.0) -> nn.Module:
        """Second and third stage."""
        second, third = (int(channels * width) for channels in self.channels[1:])
        return _kaiming_normal(nn.Sequential(self._stage(self.channels[0], second, 2), self._stage(second, third, 2)))

    def _stem(self) -> nn.Module:
        first = self.channels[0]
        return nn.Sequential(nn.Conv2d(3, first, 3, padding=1, bias=False), BatchNormReLU(first))

    def _stage(self, width_in: int, width: int, stride: int) -> nn.Module:
        rest = [CifarBlock(width, width, 1) for _ in range(self.blocks - 1)]
        return nn.Sequential(CifarBlock(width_in, width, stride), *rest)


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


class ImageNetResNet(Backbone):
    """torchvision's ResNet family, for images of 64 pixels and more, with torchvision's initialisation."""

    layers: ClassVar[tuple[int, int, int, int]]
    bottleneck: ClassVar[bool] = False
    groups: ClassVar[int] = 1
    width_per_group: ClassVar[int] = 64

    def trunk(self) -> nn.Module:
        net = self._whole()
        return nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3)

    def last_stage(self) -> nn.Module:
        stage: nn.Module = self._whole().layer4
        return stage

    def early_stages(self) -> nn.Module:
        """Stem and first two stages."""
        net = self._whole()
        return nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2)

    def late_stages(self, width: float = 1.0) -> nn.Module:
        """Third and fourth stage."""
        self._refuse_width(width)
        net = self._whole()
        return nn.Sequential(net.layer3, net.layer4)

    def _whole(self) -> ResNet:
        from torchvision.models import resnet  # noqa: PLC0415 (as slow to import as torch itself)

        block = resnet.Bottleneck if self.bottleneck else resnet.BasicBlock
        return resnet.ResNet(block, list(self.layers), groups=self.groups, width_per_group=self.width_per_group)


class ResNet10(ImageNetResNet):
    """The small network of ImageNet-LT papers."""

    name = "resnet10"
    info = Info("ImageNet ResNet, 1 basic block a stage, common on ImageNet-LT", "Liu et al., CVPR 2019", 2019)
    feature_dim = 512
    layers = (1, 1, 1, 1)


class ResNet18(ImageNetResNet):
    """11.7 million parameters at 1000 classes."""

    name = "resnet18"
    info = Info("ImageNet ResNet, 2 basic blocks a stage", "He et al., CVPR 2016", 2016)
    feature_dim = 512
    layers = (2, 2, 2, 2)


class ResNet50(ImageNetResNet):
    """25.6 million parameters at 1000 classes."""

    name = "resnet50"
    info = Info("ImageNet ResNet, 3-4-6-3 bottlenecks", "He et al., CVPR 2016", 2016)
    feature_dim = 2048
    layers = (3, 4, 6, 3)
    bottleneck = True


class ResNeXt50(ImageNetResNet):
    """25.0 million parameters at 1000 classes."""

    name = "resnext50"
    info = Info("ResNeXt-50 32x4d", "Xie et al., CVPR 2017", 2017)
    feature_dim = 2048
    layers = (3, 4, 6, 3)
    bottleneck = True
    groups = 32
    width_per_group = 4


def _kaiming_normal(module: nn.Module) -> nn.Module:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return module
