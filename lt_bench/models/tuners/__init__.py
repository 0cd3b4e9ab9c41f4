"""Tuners: what of a pretrained network learns. The rest stands still and is not saved. Their common base.

LIFT (Shi et al., ICML 2024, arXiv 2309.10019) compares them on long tails; all but `full` and `none` are light.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, FiniteFloat
from torch import Tensor, nn

from lt_bench.errors import UserError
from lt_bench.models.network import Network
from lt_bench.models.transformer import Block, blocks_of
from lt_bench.registry import Component
from lt_bench.settings import Settings


class Tuner(Component, ABC):
    """Lets a part of a pretrained network learn, or something new in it, beside the classifier."""

    learns: ClassVar[bool] = True
    """Whether anything does: without it nothing is trained."""

    class Config(Settings):
        """How fast it learns."""

        lr_factor: FiniteFloat = Field(default=1.0, gt=0)
        """Factor on the protocol's learning rate, for all that learns: tuners need rates of their own."""

    def __init__(self, config: Config | None = None, **settings: Any) -> None:
        self.config: Any = self.settled(config, settings)

    def place(self, network: Network, num_classes: int) -> None:
        """Freeze a network but for its classifiers, and let in it learn what this tuner says.

        Called once, with the pretrained weights in the network. Raises UserError for a network without the place.
        """
        parts = [network.trunk, *(branch.get_submodule("stage") for branch in network.branches)]
        for part in parts:
            part.requires_grad_(False)
        self.attach(network, num_classes)
        for part in parts:
            save_only_learned(part)
        network.lr_factor, network.tuned = self.config.lr_factor, tuple(parts)

    @abstractmethod
    def attach(self, network: Network, num_classes: int) -> None:
        """Make parameters of a frozen network learn, or add some that do."""

    def blocks(self, network: Network) -> tuple[list[Block], int]:
        """All blocks of a network, each once, and how many are on the way through it. Raises UserError without any."""
        paths = blocks_of(network)
        if not paths[0]:
            raise UserError(f"model.tuner: {self.name} needs the blocks of a vision transformer, timm's or open_clip's")
        return once(block for path in paths for block in path), len(paths[0])


def save_only_learned(part: nn.Module) -> None:
    """Leave what does not learn now out of a module's state, and keep what there is of it when a state is loaded."""
    frozen = {name for name, parameter in part.named_parameters() if not parameter.requires_grad}

    def leave_out(_: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
        for name in frozen:
            state.pop(prefix + name, None)

    def fill_in(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        own: Mapping[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
        state |= {prefix + name: own[name].detach() for name in frozen}

    part.register_state_dict_post_hook(leave_out)  # type: ignore[no-untyped-call]
    part.register_load_state_dict_pre_hook(fill_in)  # type: ignore[no-untyped-call]


def once(blocks: Iterable[Block]) -> list[Block]:
    """Those that several branches share, and all others, each once."""
    return list({(id(block.home), block.key): block for block in blocks}.values())


def power_of_two(value: float) -> int:
    """The largest power of two up to a value, 1 at least."""
    return 1 << max(0, math.floor(math.log2(value)))


def bottleneck_width(num_classes: int, depth: int) -> int:
    """Width r of LIFT's modules: 2^floor(log2(C / 2L)) for C classes and L blocks, 1 at least."""
    return power_of_two(num_classes / (2 * depth))


def unscaled(blocks: Sequence[Block], name: str) -> Sequence[Block]:
    """Blocks that add the output of their MLP as it is. Raises UserError for others."""
    if any(block.scaled for block in blocks):
        raise UserError(f"model.tuner: {name} adds to what an MLP gives, and this network scales or drops that")
    return blocks
