"""SnapMix: a box of one image, resized into a box of another; labels by what the network sees of the classes there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, Step
from lt_bench.errors import UserError
from lt_bench.mixing import Mix, Mixed, Objective, with_maps
from lt_bench.mixing.boxes import Box, draw_box
from lt_bench.mixing.mixup import draw_share
from lt_bench.models.backbones.cutting import Pooled, Pooling
from lt_bench.models.network import Network
from lt_bench.registry import Info

SMALL = 1e-12
"""Added to maps before they divide: one that is the same everywhere is by area then."""


class SnapMix(Mix):
    """The share of y_i is what its map leaves outside of its box, that of y_j what its map has inside of its own.

    Maps are class activation maps: what the classifier says of the own class in every cell, enlarged, above its least,
    of sum 1. They are the trained network's, in training mode and without gradient, which moves its running statistics,
    as in the released code. The shares need not sum to 1. One pair of boxes a batch, each of a share ~ Beta(b, b).
    Paper: Huang et al., AAAI 2021, arXiv 2012.04846.
    """

    name = "snapmix"
    info = Info("a box resized into another, labels by activation maps", "Huang et al., AAAI 2021", 2021, cost="1.3x")
    of_two_labels = False

    class Config(Mix.Config):
        """As the authors' for fine-grained birds, cars and aircraft."""

        beta: FiniteFloat = Field(default=5.0, ge=0)
        """Both parameters of the Beta law of the two shares before clipping. 0 is no mixing."""
        probability: float = Field(default=1.0, ge=0, le=1)
        """Of mixing a batch."""
        same_class_twice: bool = False
        """Give both terms of a pair of one class the sum of their shares, as released, so that it counts twice."""

    config: Config

    def attach(self, network: Network) -> None:
        if any(isinstance(part, Pooled | Pooling) for part in network.modules()):
            raise UserError(
                "mix: snapmix asks what is in each cell of the last maps, and this backbone pools them itself"
            )

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        """By area, as a network that sees everything everywhere would have it: maps are `loss`'s, which has one."""
        return self.mixed(
            batch, partner, step, lambda seen: torch.ones_like(seen.images[:, 0]) / seen.images[0, 0].numel()
        )

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        return objective.of(self.mixed(batch, partner, step, partial(class_maps, objective.network)))

    def mixed(self, batch: Batch, partner: Batch | None, step: Step, maps_of: Callable[[Batch], Tensor]) -> Mixed:
        """The batch mixed, with labels by maps [B, H, W] of sum 1."""
        if step.rng.random() >= self.config.probability:
            return Mixed.plain(batch)
        height, width = batch.images.shape[2:]
        boxes = [draw_box(height, width, draw_share(self.config.beta, step.rng), step.rng) for _ in range(2)]
        if not all(box.area for box in boxes):
            return Mixed.plain(batch)
        into, cut = boxes
        maps, partner, others = with_maps(batch, partner, maps_of, step.rng)
        shares = self.shares(1 - inside(maps, into), inside(others, cut), batch.labels == partner.labels)
        images = resized_into(batch.images, partner.images, into, cut)
        return Mixed(images, ((batch.labels, shares[0]), (partner.labels, shares[1])))

    def shares(self, own: Tensor, other: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the two terms, [B] each; `same` is where the two labels are one."""
        if not self.config.same_class_twice:
            return own, other
        return own + same * other, other + same * own


def inside(maps: Tensor, box: Box) -> Tensor:
    """The part [B] of maps [B, H, W] of sum 1 that lies in a box."""
    return maps[:, box.top : box.bottom, box.left : box.right].sum((1, 2)).clamp(max=1)


def resized_into(images: Tensor, others: Tensor, into: Box, cut: Box) -> Tensor:
    """Copies of images [B, 3, H, W] with the box `cut` of other ones, resized bilinearly, in the box `into`."""
    content = others[..., cut.top : cut.bottom, cut.left : cut.right]
    mixed, sides = images.clone(), (into.bottom - into.top, into.right - into.left)
    mixed[..., into.top : into.bottom, into.left : into.right] = F.interpolate(
        content, sides, mode="bilinear", align_corners=True
    )
    return mixed


@torch.no_grad()
def class_maps(network: Network, batch: Batch) -> Tensor:
    """How much of its own class each pixel shows, by the mean of all branches: float32 [B, H, W], of sum 1."""
    shared, branches = network.trunk(batch.images), network.branches
    cells = torch.stack([own_logits(branch, shared, batch.labels) for branch in branches]).mean(0)
    maps = F.interpolate(cells[:, None], batch.images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    maps = maps - maps.amin((1, 2), keepdim=True) + SMALL
    return maps / maps.sum((1, 2), keepdim=True)


def own_logits(branch: Any, shared: Tensor, labels: Tensor) -> Tensor:
    """What a branch's classifier says of the own class in every cell, float32 [B, h, w]."""
    features = branch.stage(shared).movedim(1, -1)
    logits = branch.classifier(features.flatten(0, 2)).float().view(*features.shape[:3], -1)
    own: Tensor = logits.gather(3, labels.view(-1, 1, 1, 1).expand(*features.shape[:3], 1)).squeeze(3)
    return own
