"""Backbones and heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lt_bench.data.types import generator
from lt_bench.models.backbones import Backbone
from lt_bench.models.heads import Head, all_stages
from lt_bench.models.network import Network
from lt_bench.registry import lookup

__all__ = ["Backbone", "Head", "Network", "build_backbone", "build_network"]


def build_network(
    backbone: str | type[Any], head: str | Head, num_classes: int, seed: int = 0, **settings: Any
) -> Network:
    """A network initialised from `seed` alone, leaving torch's global random state as it was.

    Backbone and head may be named as in a recipe, a head with its `settings`. Raises UserError for an unknown name, a
    wrong setting, and a head that cannot complete the backbone.
    """
    if settings and not isinstance(head, str):
        raise ValueError(f"{type(head).__name__}: built already, without {', '.join(settings)}")
    made: Head = lookup("head", head)(**settings) if isinstance(head, str) else head
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_initialisation(seed))
        return made.build(_named(backbone)(), num_classes)


def build_backbone(backbone: str | type[Any], seed: int = 0) -> nn.Module:
    """A backbone alone, initialised from `seed`: images [B, 3, H, W] to pooled features [B, D]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_initialisation(seed))
        return nn.Sequential(all_stages(_named(backbone)()), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))


def _named(backbone: str | type[Any]) -> type[Any]:
    return lookup("backbone", backbone) if isinstance(backbone, str) else backbone


def _initialisation(seed: int) -> int:
    return int(generator(seed, "initialisation").integers(2**63))
