"""Residual networks whose normalisations and ReLUs stand before the convolutions, for images of 32x32 pixels."""

from __future__ import annotations

from torch import Tensor, nn

from lt_bench.models.backbones import Residual, convolution
from lt_bench.models.norm import BatchNormReLU
from lt_bench.models.residual import ResidualBlock
from lt_bench.registry import Info


class PreActBlock(ResidualBlock):
    """shortcut + main(relu(bn(x))); nothing follows the sum (He et al., ECCV 2016).

    The shortcut is x itself or, where the shape changes, a 1x1 convolution of relu(bn(x)).
    """

    def __init__(self, width_in: int, width: int, stride: int, main: nn.Module) -> None:
        super().__init__()
        self.norm = BatchNormReLU(width_in)
        self.main = main
        same = stride == 1 and width_in == width
        self.shortcut = None if same else convolution(width_in, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = self.norm(x)
        y: Tensor = self.main(active) + (x if self.shortcut is None else self.shortcut(active))
        return y

    @property
    def end(self) -> nn.Module:
        return self.main


class PreActivated(Residual):
    """Pre-activation blocks behind a bare 3x3 stem, a last normalisation and ReLU behind the last of them."""

    largest_side = 64

    def stages(self) -> list[nn.Sequential]:
        *early, last = super().stages()
        *blocks, block = last.children()
        # In one with the last block: a branch that begins with that block has a normalisation of its own.
        return [*early, nn.Sequential(*blocks, nn.Sequential(block, BatchNormReLU(self.feature_dim)))]

    def stem(self) -> nn.Module:
        return convolution(3, self.stem_width, 3)

    def block(self, width_in: int, width: int, stride: int) -> nn.Module:
        """Two 3x3 convolutions."""
        return PreActBlock(width_in, width, stride, basic(width_in, width, stride))


def basic(width_in: int, width: int, stride: int, dropout: float = 0.0) -> nn.Module:
    """What stands behind the first normalisation of a basic block; the dropout before the second convolution."""
    first = [convolution(width_in, width, 3, stride), BatchNormReLU(width)]
    return nn.Sequential(*first, *([nn.Dropout(dropout)] if dropout else []), convolution(width, width, 3))


class PreActResNet18(PreActivated):
    """11.17 million parameters at 10 classes, with torch's own initialisation."""

    name = "preact-resnet18"
    info = Info("pre-activation ResNet-18 with a 3x3 stem", "He et al., ECCV 2016", 2016)
    feature_dim = 512
    widths = (64, 128, 256, 512)
    blocks = (2, 2, 2, 2)


class PreActResNet34(PreActivated):
    """21.28 million parameters at 10 classes, with torch's own initialisation."""

    name = "preact-resnet34"
    info = Info("pre-activation ResNet-34 with a 3x3 stem", "He et al., ECCV 2016", 2016)
    feature_dim = 512
    widths = (64, 128, 256, 512)
    blocks = (3, 4, 6, 3)


class PreActResNet50(PreActivated):
    """23.51 million parameters at 10 classes, with torch's own initialisation."""

    name = "preact-resnet50"
    info = Info("pre-activation ResNet-50 with a 3x3 stem", "He et al., ECCV 2016", 2016)
    feature_dim = 2048
    widths = (256, 512, 1024, 2048)
    blocks = (3, 4, 6, 3)

    def block(self, width_in: int, width: int, stride: int) -> nn.Module:
        """A bottleneck of a quarter of the channels."""
        inner = width // 4
        main = nn.Sequential(
            *(convolution(width_in, inner, 1), BatchNormReLU(inner)),
            *(convolution(inner, inner, 3, stride), BatchNormReLU(inner)),
            convolution(inner, width, 1),
        )
        return PreActBlock(width_in, width, stride, main)
