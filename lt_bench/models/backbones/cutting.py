"""How timm's networks come apart into four stages, whose composition gives the pooled features.

A network is cut where its own `forward_features` goes from one module to the next; what is of no family below stays
whole. The stages of a transformer of equal blocks are quarters of its depth, which is this suite's own choice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container
from itertools import chain, pairwise
from typing import Any

from torch import Tensor, nn

Blocks = list[nn.Module]


class Pooled(nn.Module):
    """A timm network without classifier: to pooled features, as a map [B, D, 1, 1]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.model(x)
        return features[:, :, None, None]


class Pooling(nn.Module):
    """What is left of a timm network behind its stages: their maps or tokens to pooled features [B, D, 1, 1]."""

    def __init__(self, model: nn.Module, moved: Container[nn.Module]) -> None:
        super().__init__()
        left = [name for name, child in model.named_children() if not any(part in moved for part in child.modules())]
        self.model: Any = _part(model, left, parameters=False)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.model.forward_head(x, pre_logits=True)
        return features[:, :, None, None]


class Tokens(nn.Module):
    """What stands before a vision transformer's blocks: images [B, 3, H, W] to tokens [B, N, D]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = _part(model, ("patch_embed", "pos_drop", "patch_drop", "norm_pre"), parameters=True)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that are no weights: positions and class token."""
        return {f"model.{name}" for name in self.model.no_weight_decay()}

    def forward(self, images: Tensor) -> Tensor:
        model = self.model
        tokens: Tensor = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
        return tokens


def stages_of(model: nn.Module) -> list[nn.Sequential] | None:
    """Four stages, each a torch.nn.Sequential of blocks, of a timm network without classifier; its modules move.

    What follows the last block, to the pooled features, belongs to that block. None where it does not come apart.
    """
    cut = _families().get(type(model))
    if cut is None:
        return None
    (*stages, blocks), behind = cut(model)
    moved = {part for block in chain(*stages, blocks, behind) for part in block.modules()}
    last = nn.Sequential(blocks[-1], *behind, Pooling(model, moved))
    return [*(nn.Sequential(*stage) for stage in stages), nn.Sequential(*blocks[:-1], last)]


def _families() -> dict[type[nn.Module], Callable[[Any], tuple[list[Blocks], Blocks]]]:
    """By class, what gives the blocks of the four stages, and what follows the last before the pooling."""
    from timm.models import ConvNeXt, RegNet, ResNet, SwinTransformer, VisionTransformer  # noqa: PLC0415 (3 s)

    return {
        ResNet: lambda net: (
            [[net.conv1, net.bn1, net.act1, net.maxpool, *net.layer1], [*net.layer2], [*net.layer3], [*net.layer4]],
            [],
        ),
        RegNet: lambda net: (
            [[net.stem, *net.s1.children()], *([*stage.children()] for stage in (net.s2, net.s3, net.s4))],
            [net.final_conv],
        ),
        ConvNeXt: lambda net: (_downsampled(net.stem, net.stages), [net.norm_pre]),
        SwinTransformer: lambda net: (_downsampled(net.patch_embed, net.layers), [net.norm]),
        VisionTransformer: lambda net: (_quarters(net), [net.norm]),
    }


def _downsampled(stem: nn.Module, stages: Any) -> list[Blocks]:
    """Stages that each begin with a layer that halves the maps, behind the stem."""
    first, *rest = ([stage.downsample, *stage.blocks] for stage in stages)
    return [[stem, *first], *rest]


def _quarters(net: Any) -> list[Blocks]:
    depth = len(net.blocks)
    ends = [round(quarter * depth / 4) for quarter in range(5)]
    first, *rest = ([*net.blocks[start:end]] for start, end in pairwise(ends))
    return [[Tokens(net), *first], *rest]


def _part(model: nn.Module, children: Container[str], *, parameters: bool) -> nn.Module:
    """The model with these children only, and with its own parameters or none, to call its methods on."""
    part = copy.copy(model)
    part._modules = {name: child for name, child in model._modules.items() if name in children}
    part._parameters = dict(model._parameters) if parameters else {}
    return part
