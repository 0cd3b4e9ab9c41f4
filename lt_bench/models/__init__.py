"""Backbones and heads."""

from __future__ import annotations

from typing import Any

import torch

from lt_bench.data.types import generator
from lt_bench.models.backbones import Backbone
from lt_bench.models.heads import Head
from lt_bench.models.network import Network

__all__ = ["Backbone", "Head", "Network", "build_network"]


def build_network(backbone: type[Any], head: Head, num_classes: int, seed: int) -> Network:
    """A network initialised from `seed` alone, leaving torch's global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, "initialisation").integers(2**63)))
        return head.build(backbone(), num_classes)
