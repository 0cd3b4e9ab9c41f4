"""The residual branches of a network, whoever wrote it: where what regularises them acts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lt_bench.models.changes import Change, behind
from lt_bench.models.network import Network
from lt_bench.models.norm import BatchNormReLU

TIMM = ("drop_path", "drop_path1", "drop_path2")
"""What blocks of timm's networks call the ends of their branches."""


class ResidualBlock(nn.Module):
    """A block that adds a branch to a shortcut."""

    @property
    def end(self) -> nn.Module:
        """The part whose output is the branch's. Of a BatchNormReLU, which does the sum, it is what comes before it."""
        raise NotImplementedError

    @property
    def last(self) -> tuple[nn.Module, ...]:
        """The last layer of the branch; one for each part of a branch that is itself a sum."""
        return (last_of(self.end),)

    @property
    def old_channels(self) -> slice:
        """The channels of the sum that the shortcut brings; of others only the branch says anything."""
        return slice(None)


@dataclass(frozen=True)
class ResidualBranch:
    """What a residual block adds to its shortcut."""

    end: nn.Module
    """The part whose output it is."""
    norms: tuple[nn.Module, ...]
    """The normalisations that scale all of it; none where it ends in something else."""
    old_channels: slice
    """Those that the shortcut has as well."""

    def change(self, change: Change) -> None:
        """Let it be changed before the sum."""
        if isinstance(self.end, BatchNormReLU):
            self.end.changes = (*self.end.changes, change)
        else:
            behind(self.end, change)

    @property
    def dropped(self) -> bool:
        """Whether its network drops it at random by itself."""
        return bool(getattr(last_of(self.end), "drop_prob", 0))


def residual_branches(network: Network) -> list[tuple[ResidualBranch, float]]:
    """Every residual branch, with its depth l / L: it is in the l-th of the L residual blocks of its path.

    A path leads from the images through the trunk and one of the network's branches.
    """
    found: dict[int, tuple[ResidualBranch, float]] = {}
    shared = list(_blocks(network.trunk))
    for own in network.branches:
        path = [*shared, *_blocks(own)]
        for place, block in enumerate(path, 1):
            found |= {id(branch.end): (branch, place / len(path)) for branch in block}
    return list(found.values())


def last_of(part: nn.Module) -> nn.Module:
    """The last layer of a sequence, which may end in sequences."""
    while isinstance(part, nn.Sequential) and len(part):
        part = part[-1]
    return part


def _blocks(part: nn.Module) -> Iterator[tuple[ResidualBranch, ...]]:
    """The residual blocks in a part of a network, each as its branches: a transformer's has two."""
    yield from filter(None, map(_branches, part.modules()))


def _branches(block: Any) -> tuple[ResidualBranch, ...]:
    home = type(block).__module__
    if isinstance(block, ResidualBlock):
        return (_branch(block.end, block.last, block.old_channels),)
    if home == "torchvision.models.resnet" and hasattr(block, "downsample"):
        end = getattr(block, "bn3", block.bn2)
        return (_branch(end, [end]),)
    if home.startswith("timm."):
        ends = (_timm_end(block, name) for name in TIMM if hasattr(block, name))
        return tuple(_branch(end, [getattr(block, "bn3", getattr(block, "bn2", None))]) for end in ends)
    return ()


def _timm_end(block: Any, name: str) -> nn.Module:
    """The end of a branch. Some have none where nothing is dropped: they get one."""
    if getattr(block, name) is None:
        setattr(block, name, nn.Identity())
    end: nn.Module = getattr(block, name)
    return end


def _branch(end: nn.Module, last: Any, old_channels: slice = slice(None)) -> ResidualBranch:
    return ResidualBranch(end, tuple(layer for layer in last if isinstance(layer, _BatchNorm)), old_channels)
