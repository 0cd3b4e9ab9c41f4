"""The blocks of a vision transformer, whoever wrote it: x + attention(norm(x)), then x + mlp(norm(x))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from lt_bench.models.network import Network

BLOCKS = {
    ("timm.models.vision_transformer", "Block"): "timm",
    ("open_clip.transformer", "ResidualAttentionBlock"): "open_clip",
}
"""The classes that are known to be such blocks, each with its library: others of like parts add them up otherwise."""
NORMS = {"timm": ("norm1", "norm2"), "open_clip": ("ln_1", "ln_2")}
"""What blocks call what stands before attention and MLP, by library."""
SCALES = ("ls1", "ls2", "drop_path1", "drop_path2", "ls_1", "ls_2")
"""What may stand between a branch and the sum."""


@dataclass
class Block:
    """A block in its place in a network. Only what it adds to its tokens [B, N, D] is changed, never its own code."""

    home: nn.Module
    key: str
    """The child of `home` that it is."""
    library: str

    @property
    def module(self) -> Any:
        return self.home.get_submodule(self.key)

    def replace(self, module: nn.Module) -> None:
        """Put another module in its place, which may contain it."""
        setattr(self.home, self.key, module)

    @property
    def width(self) -> int:
        """Of its tokens, D."""
        width: int = self.module.get_submodule(NORMS[self.library][0]).weight.numel()
        return width

    @property
    def scaled(self) -> bool:
        """Whether what a branch gives is scaled or dropped before the sum."""
        return any(not isinstance(getattr(self.module, name, None), nn.Identity | None) for name in SCALES)

    @property
    def qkv(self) -> tuple[nn.Module, str]:
        """The module that holds the weights [3D, D] of queries, keys and values, and their name in it."""
        attention = self.module.attn
        return (attention.qkv, "weight") if self.library == "timm" else (attention, "in_proj_weight")

    def replace_mlp(self, mlp: nn.Module) -> None:
        """Put another module in the place of the MLP alone, which is given normalised tokens."""
        self.module.mlp = mlp

    def take_mlp(self) -> nn.Module:
        """Its norm and MLP in one, which then have to be put back by `replace_mlp`, given tokens as they are."""
        norm, name = self.module.get_submodule(NORMS[self.library][1]), NORMS[self.library][1]
        setattr(self.module, name, nn.Identity())
        return nn.Sequential(norm, self.module.mlp)


def blocks_of(network: Network) -> list[list[Block]]:
    """The blocks on the way through each branch of a network, those of the trunk first in all of them."""
    shared = list(_blocks(network.trunk))
    return [[*shared, *_blocks(branch)] for branch in network.branches]


def _blocks(part: nn.Module) -> Iterator[Block]:
    for home in part.modules():
        for key, module in home.named_children():
            kind = type(module)
            library = BLOCKS.get((kind.__module__, kind.__name__))
            if library is not None:
                yield Block(home, key, library)
