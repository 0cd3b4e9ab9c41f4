"""torchvision's residual networks, for images of 64 pixels and more."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from lt_bench.models.backbones import Backbone
from lt_bench.models.network import Level
from lt_bench.registry import Info

if TYPE_CHECKING:
    from torchvision.models import ResNet


class ImageNetResNet(Backbone):
    """torchvision's ResNet family, for images of 64 pixels and more, with torchvision's initialisation."""

    layers: ClassVar[tuple[int, int, int, int]]
    bottleneck: ClassVar[bool] = False
    groups: ClassVar[int] = 1
    width_per_group: ClassVar[int] = 64

    def trunk(self) -> nn.Module:
        net = self._whole()
        return nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, *_levels(net.layer1, net.layer2, net.layer3))

    def last_stage(self) -> nn.Module:
        return Level(*self._whole().layer4)

    def early_stages(self) -> nn.Module:
        """Stem and first two stages."""
        net = self._whole()
        return nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, *_levels(net.layer1, net.layer2))

    def late_stages(self, width: float = 1.0) -> nn.Module:
        """Third and fourth stage."""
        self._refuse_width(width)
        net = self._whole()
        return nn.Sequential(*_levels(net.layer3, net.layer4))

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


class ResNet34(ImageNetResNet):
    """21.8 million parameters at 1000 classes."""

    name = "resnet34"
    info = Info("ImageNet ResNet, 3-4-6-3 basic blocks", "He et al., CVPR 2016", 2016)
    feature_dim = 512
    layers = (3, 4, 6, 3)


class ResNet50(ImageNetResNet):
    """25.6 million parameters at 1000 classes."""

    name = "resnet50"
    info = Info("ImageNet ResNet, 3-4-6-3 bottlenecks", "He et al., CVPR 2016", 2016)
    feature_dim = 2048
    layers = (3, 4, 6, 3)
    bottleneck = True


class ResNet101(ImageNetResNet):
    """44.5 million parameters at 1000 classes."""

    name = "resnet101"
    info = Info("ImageNet ResNet, 3-4-23-3 bottlenecks", "He et al., CVPR 2016", 2016)
    feature_dim = 2048
    layers = (3, 4, 23, 3)
    bottleneck = True


class ResNet152(ImageNetResNet):
    """60.2 million parameters at 1000 classes."""

    name = "resnet152"
    info = Info("ImageNet ResNet, 3-8-36-3 bottlenecks", "He et al., CVPR 2016", 2016)
    feature_dim = 2048
    layers = (3, 8, 36, 3)
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


def _levels(*stages: nn.Sequential) -> list[Level]:
    return [Level(*stage) for stage in stages]
