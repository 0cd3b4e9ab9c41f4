"""Residual networks whose blocks have two branches, for images of 32x32 pixels: those of Shake-Shake."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.models.backbones import Residual, convolution, kaiming_normal
from lt_bench.models.norm import BatchNormReLU
from lt_bench.models.residual import ResidualBlock, last_of
from lt_bench.registry import Info


class Join(nn.Module):
    """The mean of two branches."""

    shake: Callable[[Tensor, Tensor], Tensor] | None = None
    """What is taken of the two in training instead."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        if self.training and self.shake is not None:
            return self.shake(first, second)
        return torch.lerp(first, second, 0.5)


class TwoBranchBlock(ResidualBlock):
    """shortcut + join of two branches, the same layers twice, of relu(x) or, not `activated`, of x.

    Nothing follows the sum. Where the shape changes the shortcut is that of `Halves`.
    """

    def __init__(
        self, width_in: int, width: int, stride: int, branch: Callable[[], nn.Sequential], *, activated: bool
    ) -> None:
        super().__init__()
        self.activated = activated
        self.first, self.second = branch(), branch()
        self.join = Join()
        self.shortcut = None if width_in == width else Halves(width_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu(x) if self.activated else x
        y: Tensor = self.join(self.first(active), self.second(active))
        return y + (x if self.shortcut is None else self.shortcut(x))

    @property
    def end(self) -> nn.Module:
        return self.join

    @property
    def last(self) -> tuple[nn.Module, ...]:
        return last_of(self.first), last_of(self.second)


class Halves(nn.Module):
    """Two 1x1 convolutions of relu(x) to half of the channels each, at pixels that lie one apart, normalised."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = (convolution(width_in, width // 2, 1, stride) for _ in range(2))
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        # One pixel down and to the right: the stride then takes others.
        y: Tensor = self.norm(torch.cat((self.first(x), self.second(F.pad(x, (1, -1, 1, -1)))), 1))
        return y


class TwoBranchNetwork(Residual):
    """A 3x3 stem without ReLU, three stages, a ReLU behind the last block; Kaiming-normal weights by their fan out."""

    largest_side = 64

    def stages(self) -> list[nn.Sequential]:
        *early, last = (kaiming_normal(stage, "fan_out") for stage in super().stages())
        *blocks, block = last.children()
        return [*early, nn.Sequential(*blocks, nn.Sequential(block, nn.ReLU()))]


class ShakeShake26(TwoBranchNetwork):
    """26 layers in blocks whose branches are ReLU, 3x3 convolution, BN, ReLU, 3x3 convolution, BN (Gastaldi 2017)."""

    stem_width = 16
    blocks = (4, 4, 4)

    def stem(self) -> nn.Module:
        return nn.Sequential(convolution(3, self.stem_width, 3), nn.BatchNorm2d(self.stem_width))

    def block(self, width_in: int, width: int, stride: int) -> nn.Module:
        """Two branches of two 3x3 convolutions."""

        def branch() -> nn.Sequential:
            first = [convolution(width_in, width, 3, stride), BatchNormReLU(width)]
            return nn.Sequential(*first, convolution(width, width, 3), nn.BatchNorm2d(width))

        return TwoBranchBlock(width_in, width, stride, branch, activated=True)


class ShakeShake26x32d(ShakeShake26):
    """2.92 million parameters at 10 classes."""

    name = "shake-shake-26-2x32d"
    info = Info("26 layers, two branches of 32 channels and more a block", "Gastaldi 2017", 2017)
    feature_dim = 128
    widths = (32, 64, 128)


class ShakeShake26x64d(ShakeShake26):
    """11.65 million parameters at 10 classes."""

    name = "shake-shake-26-2x64d"
    info = Info("26 layers, two branches of 64 channels and more a block", "Gastaldi 2017", 2017)
    feature_dim = 256
    widths = (64, 128, 256)


class ShakeShake26x96d(ShakeShake26):
    """26.19 million parameters at 10 classes."""

    name = "shake-shake-26-2x96d"
    info = Info("26 layers, two branches of 96 channels and more a block", "Gastaldi 2017", 2017)
    feature_dim = 384
    widths = (96, 192, 384)


class ShakeShake29(TwoBranchNetwork):
    """ResNeXt-29 2x4x64d: branches are bottlenecks whose 3x3 convolution has 4 groups, 64 channels each and more.

    34.53 million parameters at 100 classes. As in the PyTorch code that is not the author's, whose own has CIFAR-10's
    networks only.
    """

    name = "shake-shake-29-2x4x64d"
    info = Info("ResNeXt of 29 layers, two branches a block", "Gastaldi 2017", 2017)
    feature_dim = 1024
    stem_width = 64
    widths = (256, 512, 1024)
    blocks = (3, 3, 3)
    groups: ClassVar[int] = 4

    def stem(self) -> nn.Module:
        return convolution(3, self.stem_width, 3)

    def block(self, width_in: int, width: int, stride: int) -> nn.Module:
        """Two branches of a bottleneck each, as wide inside as outside."""

        def branch() -> nn.Sequential:
            return nn.Sequential(
                *(convolution(width_in, width, 1), BatchNormReLU(width)),
                *(convolution(width, width, 3, stride, self.groups), BatchNormReLU(width)),
                *(convolution(width, width, 1), nn.BatchNorm2d(width)),
            )

        return TwoBranchBlock(width_in, width, stride, branch, activated=False)
