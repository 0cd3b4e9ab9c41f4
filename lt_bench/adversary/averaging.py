"""The average of a network's parameters over its training, for robust overfitting (Rebuffi et al., NeurIPS 2021)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from lt_bench.models.network import Network


class AveragedNetwork(nn.Module):
    """A copy of a network whose parameters follow the trained ones, with the running statistics that those have now.

    After step t, counted from 0, average <- d * average + (1 - d) * parameters with d = min(decay, (1 + t) / (10 + t)):
    the first steps do not weigh on the average for a thousand others.
    """

    updates: Tensor

    def __init__(self, network: Network, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros(()))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """After a step of the optimizer on `network`."""
        weight = 1 - decay_at(self.updates, self.decay)
        for average, parameter in zip(self.network.parameters(), network.parameters(), strict=True):
            average.lerp_(parameter, weight.to(average.dtype))
        for own, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(buffer)
        self.updates += 1


def decay_at(updates: Tensor, decay: float) -> Tensor:
    """That of the update behind so many others."""
    return ((1 + updates) / (10 + updates)).clamp(max=decay)
