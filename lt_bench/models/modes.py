"""How a network normalises batches while it is looked at and must not notice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def looking(network: nn.Module, statistics: Literal["running", "batch"]) -> AbstractContextManager[None]:
    """The network in evaluation mode, or by statistics of the batch; the running ones stay as they are, bit for bit."""
    return evaluating(network) if statistics == "running" else still_statistics(network)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, and as it was again after."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def still_statistics(network: nn.Module) -> Iterator[None]:
    """The network as it is, but for running statistics that do not move."""
    # By a momentum of 0 and not by putting old ones back: a graph that saw them would refuse to run backwards.
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    kept = [(layer.momentum, _counted(layer)) for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, (momentum, batches) in zip(layers, kept, strict=True):
            layer.momentum = momentum
            if layer.num_batches_tracked is not None and batches is not None:
                layer.num_batches_tracked.copy_(batches)


def _counted(layer: _BatchNorm) -> Tensor | None:
    return None if layer.num_batches_tracked is None else layer.num_batches_tracked.clone()
