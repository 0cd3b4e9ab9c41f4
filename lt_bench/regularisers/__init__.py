"""What keeps a network from overfitting, one file each. This page holds their common base.

They act in a network, on how it begins and on how it is trained; what varies images is an augmentation, what softens
labels a setting of the loss.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from lt_bench.corrections import settings_of
from lt_bench.data.types import Epoch
from lt_bench.errors import UserError
from lt_bench.lazy import lazily
from lt_bench.models.network import Network
from lt_bench.protocol import Protocol
from lt_bench.registry import Component, lookup
from lt_bench.settings import Settings

if TYPE_CHECKING:
    from lt_bench.regularisers.batch_augmentation import BatchAugmentation
    from lt_bench.regularisers.drop_block import DropBlock
    from lt_bench.regularisers.dropout import Dropout
    from lt_bench.regularisers.max_dropout import MaxDropout
    from lt_bench.regularisers.no_norm_decay import NoNormDecay
    from lt_bench.regularisers.shake_drop import ShakeDrop
    from lt_bench.regularisers.shake_shake import ShakeShake
    from lt_bench.regularisers.stochastic_depth import StochasticDepth
    from lt_bench.regularisers.zero_init import ZeroInit

__all__ = [
    "BatchAugmentation",
    "DropBlock",
    "Dropout",
    "MaxDropout",
    "NoNormDecay",
    "Regulariser",
    "ShakeDrop",
    "ShakeShake",
    "StochasticDepth",
    "ZeroInit",
    "by_name",
    "place_all",
]

__getattr__ = lazily(
    __name__,
    {
        "BatchAugmentation": "batch_augmentation",
        "DropBlock": "drop_block",
        "Dropout": "dropout",
        "MaxDropout": "max_dropout",
        "NoNormDecay": "no_norm_decay",
        "ShakeDrop": "shake_drop",
        "ShakeShake": "shake_shake",
        "StochasticDepth": "stochastic_depth",
        "ZeroInit": "zero_init",
    },
)


class Regulariser(Component, ABC):
    """Keeps a network from overfitting, under any sampler, mix, loss, head and method, where the network has a place.

    It adds no parameter and no buffer, so weights go with and without it. What it draws, it draws from torch's global
    generator, which the loop seeds before every epoch.
    """

    in_evaluation: ClassVar[bool] = False
    """Whether it changes what a trained network computes."""

    class Config(Settings):
        """Without settings."""

    def __init__(self, config: Any = None, **settings: Any) -> None:
        """From a `Config`, or from its settings one by one. Raises UserError for a wrong name or value."""
        self.config: Any = self.settled(config, settings)

    def initialise(self, network: Network) -> None:
        """Change the weights of a fresh network. Trained ones are loaded later and take their place.

        Raises UserError, as `refused` makes it, for a network without the place for it.
        """

    def place(self, network: Network) -> None:
        """Let it act in a network; called once, before training and before evaluation.

        Raises UserError, as `refused` makes it, for a network without the place for it.
        """

    def trained_under(self, protocol: Protocol) -> Protocol:
        """What a protocol becomes for a training with it. Raises UserError where it is that already."""
        return protocol

    def begin(self, epoch: Epoch) -> None:
        """Called before every epoch, for what changes with them."""

    def stages(self, network: Network, last: int = 0) -> list[nn.Module]:
        """The stages of a network, or the last so many on every way through it. Raises UserError where it has none."""
        found = {id(stage): stage for path in network.paths for stage in path[-last:]}
        if not found:
            raise self.refused("needs a network that comes in stages, and this one does not")
        return list(found.values())

    def refused(self, why: str) -> UserError:
        """The error of a network without the place for it."""
        return UserError(f"regularise.{self.name}: {why}")


def by_name(named: Mapping[str, Mapping[str, Any]]) -> Sequence[Regulariser]:
    """From names and settings, in the order of their names, in which they act on what is the same."""
    nodes = [{"name": name, **settings} for name, settings in sorted(named.items())]
    return [lookup("regularise", node["name"])(**settings_of("regularise", node)) for node in nodes]


def place_all(regularisers: Sequence[Regulariser], network: Network) -> None:
    """Let all of them act in a network. Raises UserError for one that has no place in it."""
    for regulariser in regularisers:
        regulariser.place(network)
    network.regularisers = (*network.regularisers, *regularisers)
