"""Backbones and heads, tuners of pretrained networks, and what classifiers begin as."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lt_bench.data.types import generator
from lt_bench.models.backbones import Backbone
from lt_bench.models.heads import Head, all_stages
from lt_bench.models.network import Network
from lt_bench.models.tuners import Tuner
from lt_bench.registry import lookup, named

__all__ = ["Backbone", "Head", "Network", "Tuner", "build_backbone", "build_network", "place_tuner"]

AnyBackbone = str | Backbone | type[Backbone]
"""Its name as in a recipe, one with settings, or a class without."""


def build_network(backbone: AnyBackbone, head: str | Head, num_classes: int, seed: int = 0, **settings: Any) -> Network:
    """A network initialised from `seed` alone, leaving torch's global random state as it was.

    Backbone and head may be named as in a recipe, a head with its `settings`. Raises UserError for an unknown name, a
    wrong setting, and a head that cannot complete the backbone.
    """
    if settings and not isinstance(head, str):
        raise ValueError(f"{type(head).__name__}: built already, without {', '.join(settings)}")
    made: Head = lookup("head", head)(**settings) if isinstance(head, str) else head
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_initialisation(seed))
        return made.build(_made(backbone), num_classes)


def place_tuner(tuner: Tuner, network: Network, num_classes: int, seed: int = 0) -> None:
    """Let a tuner act in a network, what it adds drawn from `seed` alone. Raises UserError as its `place` does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, "tuner").integers(2**63)))
        tuner.place(network, num_classes)


def build_backbone(backbone: AnyBackbone, seed: int = 0) -> nn.Module:
    """A backbone alone, initialised from `seed`: images [B, 3, H, W] to pooled features [B, D]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_initialisation(seed))
        return nn.Sequential(all_stages(_made(backbone)), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))


def _made(backbone: AnyBackbone) -> Backbone:
    if not isinstance(backbone, str):
        return backbone() if isinstance(backbone, type) else backbone
    settings = named(backbone)
    made: Backbone = lookup("backbone", settings.pop("name"))(**settings)
    return made


def _initialisation(seed: int) -> int:
    return int(generator(seed, "initialisation").integers(2**63))
