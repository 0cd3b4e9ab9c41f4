"""What a mix sees of a network's last feature maps, besides its answer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.errors import UserError
from lt_bench.models.network import Branch, Network


class Maps(nn.Module):
    """The last stage of a network, which keeps the maps [B, D, h, w] that come out of it."""

    found: Tensor

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, features: Tensor) -> Tensor:
        self.found = self.stage(features)
        return self.found

    @property
    def pooled(self) -> Tensor:
        """What the classifier sees of them, [B, D]."""
        return F.adaptive_avg_pool2d(self.found, 1).flatten(1)


def watched(network: Network) -> tuple[Network, Maps]:
    """The same network, and where its last feature maps will be once it has answered."""
    maps = Maps(network.branches[0].get_submodule("stage"))
    return Network(network.trunk, [Branch(maps, network.classifiers[0])]), maps


def uncompiled(network: Network) -> AbstractContextManager[object]:
    """Run what torch has compiled as it was written, in there.

    Compiled code passes hooks by that came later, and between a pass as written and its way back it would move the
    statistics that are kept for that.
    """
    compiled = any(part._compiled_call_impl is not None for part in (network.trunk, *network.branches))
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def untouched(module: nn.Module) -> Tensor:
    """Zero, with a gradient of zero for each parameter: fused optimizers want one in every step or in none."""
    return 0 * torch.stack([parameter.sum() for parameter in module.parameters()]).sum()


def check_one_branch(network: Network, name: str) -> None:
    """Raise UserError unless a mix of this name can take the network apart."""
    if type(network) is not Network or len(network.branches) != 1:
        raise UserError(f"mix: {name} needs a head of one branch, such as linear or cosine")
