"""An average of a network's weights over the steps of its training, beside the weights that train on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """The exponential moving average of a network's parameters and float buffers, from what they are now on.

    They stay in the network's own tensors, where compiled code looks for them, and change places with the average.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        learned = {name: one for name, one in network.named_parameters() if one.requires_grad}
        named = {**learned, **dict(network.named_buffers())}  # each once, unlike a state
        self.weights = {name: tensor.detach() for name, tensor in named.items() if tensor.is_floating_point()}
        self.average = {name: tensor.clone() for name, tensor in self.weights.items()}
        self._move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def update(self, *_: Any) -> None:
        """After a step: average <- decay * average + (1 - decay) * weights. Takes what a hook of an optimizer takes."""
        self._move(list(self.average.values()), list(self.weights.values()), 0)

    @torch.no_grad()
    def exchange(self) -> None:
        """The average into the network and the weights into its place, or back."""
        for one, other in zip(self.weights.values(), self.average.values(), strict=True):
            kept = one.clone()
            one.copy_(other)
            other.copy_(kept)

    @contextmanager
    def in_network(self) -> Iterator[None]:
        """The network with the average for weights, and as it was again after."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def load(self, average: dict[str, Tensor]) -> None:
        """Take over what `average` was. Raises an error for that of another network."""
        for name, tensor in self.average.items():
            tensor.copy_(average[name])
