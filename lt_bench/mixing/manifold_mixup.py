"""Manifold mixup: what the network makes of two images is mixed, at a depth that is drawn anew for every batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import torch
from pydantic import AfterValidator, Field, FiniteFloat
from torch import Tensor, nn

from lt_bench.data.types import Batch, Step
from lt_bench.errors import UserError
from lt_bench.mixing import Mix, Mixed, Objective
from lt_bench.mixing.feature_maps import uncompiled
from lt_bench.mixing.mixup import draw_share
from lt_bench.models.network import Network
from lt_bench.ranks.division import order_of
from lt_bench.registry import Info


def _each_once(layers: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(layers)) != len(layers):
        raise ValueError("names a depth twice")
    return layers


Depth = Annotated[int, Field(ge=0)]
Layers = Annotated[tuple[Depth, ...], Field(min_length=1), AfterValidator(_each_once)]


class ManifoldMixup(Mix):
    """h = l h_i + (1 - l) h_j at one of several depths, and the same for the labels, with l ~ Beta(alpha, alpha).

    One depth, one l and one permutation for a batch; gradients reach everything before the depth. The loss is the
    recipe's, where the authors have binary cross entropy of the softmax, which is some C times smaller.
    """

    name = "manifold-mixup"
    info = Info("convex combination of two images' hidden features", "Verma et al., ICML 2019", 2019)
    refuses_partners = "it mixes what the network makes of one batch"

    class Config(Mix.Config):
        """Where, and how far."""

        alpha: FiniteFloat = Field(default=2.0, ge=0)
        """Both parameters of the Beta law: 2 on CIFAR, 0.2 on Tiny-ImageNet. 0 is no mixing."""
        layers: Layers = (0, 1, 2)
        """Depths, one of which is drawn for a batch: 0 the images, k the features behind the k-th stage."""

    config: Config

    def attach(self, network: Network) -> None:
        deepest, levels = max(self.config.layers), len(network.levels)
        if deepest > levels:
            raise UserError(f"mix.layers: {deepest} is too deep: the branches of this network share {levels} stages")

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        """Mixed images, which is what the mix does at depth 0."""
        order, share = self.draw(batch, step)
        return Mixed(self.mixing(order, share, step)(batch.images), terms(batch.labels, order, share))

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        order, share = self.draw(batch, step)
        depths, mixing = self.depths(objective.network), self.mixing(order, share, step)
        depth = depths[int(step.rng.integers(len(depths)))]
        if depth == 0:
            answer = objective.answer(mixing(batch.images))
        else:
            with mixed_behind(objective.network, objective.network.levels[depth - 1], mixing):
                answer = objective.answer(batch.images)
        return objective.loss(answer, terms(batch.labels, order, share))

    def depths(self, network: Network) -> Sequence[int]:
        """Those of which one is drawn."""
        return self.config.layers

    def mixing(self, order: Tensor, share: float, step: Step) -> Callable[[Tensor], Tensor]:
        """What becomes of images or features [B, ...]."""
        return partial(mixed, order=order, share=share)

    def draw(self, batch: Batch, step: Step) -> tuple[Tensor, float]:
        """A permutation int64 [B] of the batch and the share in [0, 1] that an image keeps."""
        order = torch.from_numpy(order_of(len(batch.labels), step.rng))
        return order.to(batch.labels.device, non_blocking=True), draw_share(self.config.alpha, step.rng)


def mixed(features: Tensor, order: Tensor, share: float) -> Tensor:
    """Features [B, ...], each in its share with that at its place of the order int64 [B]."""
    return torch.lerp(features[order], features, share)


def terms(labels: Tensor, order: Tensor, share: float) -> tuple[tuple[Tensor, float], ...]:
    """What such mixtures are made of."""
    return (labels, share), (labels[order], 1 - share)


@contextmanager
def mixed_behind(network: Network, stage: nn.Module, mixing: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Mix what comes out of a part of a network, as often as it runs."""
    hook = stage.register_forward_hook(lambda _, __, features: mixing(features))
    try:
        with uncompiled(network):
            yield
    finally:
        hook.remove()
