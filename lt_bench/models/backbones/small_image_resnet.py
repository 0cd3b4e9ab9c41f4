"""ImageNet's residual networks for images of 32x32 pixels: a 3x3 stem of stride 1 and no max pooling."""

from __future__ import annotations

from torch import Tensor, nn

from lt_bench.models.backbones import Residual, convolution
from lt_bench.models.norm import BatchNormReLU
from lt_bench.models.residual import ResidualBlock
from lt_bench.registry import Info


class Block(ResidualBlock):
    """relu(bn(main(x)) + shortcut(x)), the shortcut projected where the shape changes (option B)."""

    def __init__(self, width_in: int, width: int, stride: int, main: nn.Module) -> None:
        super().__init__()
        self.main = main
        self.norm = BatchNormReLU(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(convolution(width_in, width, 1, stride), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.main(x), residual=self.shortcut(x))
        return y

    @property
    def end(self) -> nn.Module:
        return self.norm


class SmallImageResNet(Residual):
    """ResNet of basic blocks for images of 32x32 pixels (He et al., CVPR 2016), with torch's own initialisation."""

    feature_dim = 512
    largest_side = 64
    widths = (64, 128, 256, 512)

    def block(self, width_in: int, width: int, stride: int) -> nn.Module:
        """Two 3x3 convolutions."""
        first = [convolution(width_in, width, 3, stride), BatchNormReLU(width)]
        return Block(width_in, width, stride, nn.Sequential(*first, convolution(width, width, 3)))


class CifarResNet18(SmallImageResNet):
    """11.17 million parameters at 10 classes: what papers outside the long-tail field mean by ResNet-18 on CIFAR."""

    name = "cifar-resnet18"
    info = Info("ResNet-18 with a 3x3 stem", "He et al., CVPR 2016", 2016)
    blocks = (2, 2, 2, 2)


class CifarResNet34(SmallImageResNet):
    """21.28 million parameters at 10 classes."""

    name = "cifar-resnet34"
    info = Info("ResNet-34 with a 3x3 stem", "He et al., CVPR 2016", 2016)
    blocks = (3, 4, 6, 3)


class CifarResNeXt50(Residual):
    """22.99 million parameters at 10 classes, with torch's own initialisation."""

    name = "cifar-resnext50"
    info = Info("ResNeXt-50 32x4d with a 3x3 stem", "Xie et al., CVPR 2017", 2017)
    feature_dim = 2048
    largest_side = 64
    widths = (256, 512, 1024, 2048)
    blocks = (3, 4, 6, 3)

    def block(self, width_in: int, width: int, stride: int) -> nn.Module:
        """A bottleneck whose 3x3 convolution has 32 groups, 4 channels each in the first stage."""
        inner = width // 2
        main = nn.Sequential(
            *(convolution(width_in, inner, 1), BatchNormReLU(inner)),
            *(convolution(inner, inner, 3, stride, groups=32), BatchNormReLU(inner)),
            convolution(inner, width, 1),
        )
        return Block(width_in, width, stride, main)
