"""Small relatives of the hand-written networks, and what tests of all of them need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lt_bench.models import Head, Network, build_network
from lt_bench.models.backbones.nexception import NEXcepTionT, NEXcepTionTP
from lt_bench.models.backbones.preact_resnet import PreActResNet18, PreActResNet50
from lt_bench.models.backbones.pyramidnet import PyramidNet20
from lt_bench.models.backbones.resnet50_mixed import ResNet50PreActGELU
from lt_bench.models.backbones.shake_shake import ShakeShake26x32d, ShakeShake29
from lt_bench.models.backbones.small_image_resnet import CifarResNet18, CifarResNeXt50
from lt_bench.models.backbones.wide_resnet import WRN28x8
from lt_bench.registry import lookup
from lt_bench.training.network import _Undrawn


class SmallResNet(CifarResNet18):
    feature_dim = 32
    stem_width = 8
    widths = (8, 16, 32)
    blocks = (1, 2, 1)


class SmallResNeXt(CifarResNeXt50):
    feature_dim = 256
    widths = (64, 128, 256)
    blocks = (1, 1, 2)


class SmallPreActResNet(PreActResNet18):
    feature_dim = 32
    stem_width = 8
    widths = (8, 16, 32)
    blocks = (1, 2, 1)


class SmallPreActBottleneck(PreActResNet50):
    feature_dim = 64
    stem_width = 16
    widths = (16, 32, 64)
    blocks = (2, 1, 2)


class SmallWideResNet(WRN28x8):
    feature_dim = 32
    stem_width = 8
    widths = (8, 16, 32)
    blocks = (1, 1, 2)


class SmallMixed(ResNet50PreActGELU):
    feature_dim = 64
    stem_width = 8
    widths = (16, 32, 64)
    blocks = (2, 1, 2)


class SmallShakeShake(ShakeShake26x32d):
    feature_dim = 32
    stem_width = 8
    widths = (8, 16, 32)
    blocks = (1, 2, 1)


class SmallShakeShakeBottleneck(ShakeShake29):
    feature_dim = 64
    stem_width = 8
    widths = (16, 32, 64)
    blocks = (2, 1, 1)


class SmallPyramidNet(PyramidNet20):
    feature_dim = 16 + 12
    blocks = 1
    alpha = 12


class SmallNEXcepTion(NEXcepTionT):
    width = 64


class SmallPyramid(NEXcepTionTP):
    feature_dim = 96
    widths = (24, 48, 48, 96)
    blocks = (1, 1, 1, 2)


WITH_KERNELS = [
    *(SmallResNet, SmallResNeXt, SmallPreActResNet, SmallPreActBottleneck, SmallWideResNet),
    *(SmallShakeShake, SmallShakeShakeBottleneck, SmallPyramidNet),
]
SMALL = [*WITH_KERNELS, SmallMixed, SmallNEXcepTion, SmallPyramid]
"""One of each kind of block."""


@contextmanager
def without_memory() -> Iterator[None]:
    """Networks made in here have shapes and no weights."""
    with torch.device("meta"), _Undrawn():
        yield


def network(backbone: str = "resnet8", head: str = "linear", num_classes: int = 10, seed: int = 0) -> Network:
    component = lookup("head", head)
    made: Head = component()
    return build_network(lookup("backbone", backbone), made, num_classes, seed)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def images(side: int = 32, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def multiply_adds(net: nn.Module, x: Tensor) -> int:
    """Those of the convolutions and linear layers for one image."""
    found: list[int] = []
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda m, _, y: found.append(m.weight.numel() * y[0, 0].numel()))
    net.eval()(x)
    return sum(found)
