"""Noisy feature mixup: manifold mixup whose mixtures are multiplied with noise, and have noise added."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench import ranks
from lt_bench.data.types import Step
from lt_bench.errors import UserError
from lt_bench.mixing.manifold_mixup import Layers, ManifoldMixup, mixed
from lt_bench.models.network import Network
from lt_bench.registry import Info

STRENGTH = (2, 5)
"""Of the Beta law of a noise's strength, which is 2/7 on average."""


class NoisyFeatureMixup(ManifoldMixup):
    """h = (1 + m b U) (l h_i + (1 - l) h_j) + a b' N at a depth that is drawn for the batch, labels as in mixup.

    U ~ U(-1, 1) and N ~ N(0, 1) are drawn for every entry of the images or features, b and b' ~ Beta(2, 5) and
    l ~ Beta(alpha, alpha) once for the batch. Paper: Lim et al., ICLR 2022, arXiv 2110.02180; read from the released
    code, which trains with the cross entropy of both labels.
    """

    name = "noisy-feature-mixup"
    info = Info("manifold mixup with noise added and multiplied", "Lim et al., ICLR 2022", 2022)

    class Config(ManifoldMixup.Config):
        """As in the authors' commands for CIFAR."""

        alpha: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law. 0 is no mixing."""
        layers: Layers | None = None  # type: ignore[assignment]
        """Depths, as in manifold mixup. None: the images and all stages that the branches share."""
        additive: FiniteFloat = Field(default=0.4, ge=0)
        """Largest standard deviation of what is added, of normalised pixels or of features as they are."""
        multiplicative: FiniteFloat = Field(default=0.2, ge=0)
        """Largest part by which an entry grows or shrinks."""

    config: Config

    def attach(self, network: Network) -> None:
        if self.config.layers is not None:
            super().attach(network)
        elif not network.levels:
            raise UserError("mix.layers: the branches of this network share no stages; [0] mixes images")

    def depths(self, network: Network) -> Sequence[int]:
        return range(len(network.levels) + 1) if self.config.layers is None else self.config.layers

    def mixing(self, order: Tensor, share: float, step: Step) -> Callable[[Tensor], Tensor]:
        return lambda features: self.noisy(mixed(features, order, share), step)

    def noisy(self, features: Tensor, step: Step) -> Tensor:
        """Images or features [B, ...] with noise of this step, which they are given no gradient for."""
        added, factor = (
            strength * step.rng.beta(*STRENGTH) for strength in (self.config.additive, self.config.multiplicative)
        )
        source = torch.Generator(features.device).manual_seed(int(step.rng.integers(2**62)) + ranks.rank())
        normal, uniform = (torch.empty_like(features, dtype=torch.float32) for _ in range(2))
        in_a_row(normal).normal_(generator=source)
        in_a_row(uniform).uniform_(-1, 1, generator=source)
        return (features * (1 + factor * uniform) + added * normal).to(features.dtype)


def in_a_row(fresh: Tensor) -> Tensor:
    """The entries of a tensor that was just made, as they lie in memory.

    On a processor normal numbers are drawn eight times as fast into these as into a tensor whose channels come last.
    """
    return fresh.as_strided((fresh.numel(),), (1,))
