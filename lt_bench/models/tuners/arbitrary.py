"""Arbitrary light tuning: a random share of the weights learns, chosen without a look at any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lt_bench.models.network import Network
from lt_bench.models.tuners import Tuner
from lt_bench.registry import Info


class Chosen(nn.Module):
    """A tensor of which the entries at some places are parameters, beginning as what they were."""

    places: Tensor

    def __init__(self, tensor: Tensor, places: Tensor) -> None:
        super().__init__()
        self.register_buffer("places", places.to(tensor.device), persistent=False)
        self.values = nn.Parameter(tensor.detach().flatten()[self.places].clone())

    def forward(self, tensor: Tensor) -> Tensor:
        return tensor.flatten().index_copy(0, self.places, self.values).view_as(tensor)


class Arbitrary(Tuner):
    """The same share of every linear layer of the blocks, biases included, drawn with a seed of its own, as in LIFT."""

    name = "arbitrary"
    info = Info("a random share of the blocks' weights learns", "Shi et al., ICML 2024", 2024, cost="0.67x")

    class Config(Tuner.Config):
        """How many learn, and which."""

        share: float = Field(default=0.01, gt=0, le=1)
        """LIFT's best: 0.01 on ImageNet-LT, 0.005 on Places-LT."""
        mask_seed: int = Field(default=0, ge=0, lt=2**63)
        """Chooses them, whatever the seed of the training."""

    def attach(self, network: Network, num_classes: int) -> None:
        generator = torch.Generator(device="cpu").manual_seed(self.config.mask_seed)
        for block in self.blocks(network)[0]:
            for layer in list(_layers(block.module)):
                for name, places in layer.drawn(self.config.share, generator):
                    chosen = Chosen(getattr(layer.module, name), places)
                    parametrize.register_parametrization(layer.module, name, chosen, unsafe=True)


class Layer(NamedTuple):
    """A linear layer: the module that holds its weight [out, in] and bias [out], and their names in it."""

    module: nn.Module
    weight: str
    bias: str

    def drawn(self, share: float, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Places of a share of its parameters, of the weight and of the bias, where there are any."""
        rows, columns = getattr(self.module, self.weight).shape
        entries = rows * (columns + 1)
        chosen = torch.randperm(entries, generator=generator, device="cpu")[: int(entries * share)].sort().values
        row, column = chosen // (columns + 1), chosen % (columns + 1)
        of_weight = column < columns
        parts = ((self.weight, (row * columns + column)[of_weight]), (self.bias, row[~of_weight]))
        return ((name, places) for name, places in parts if len(places))


def _layers(block: nn.Module) -> Iterator[Layer]:
    for module in block.modules():
        if isinstance(module, nn.MultiheadAttention):
            yield Layer(module, "in_proj_weight", "in_proj_bias")
        elif isinstance(module, nn.Linear) and module.bias is not None:
            yield Layer(module, "weight", "bias")
