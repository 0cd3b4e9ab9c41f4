"""AutoMix: the masks by which two images are mixed are learned, through a momentum copy of the classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor, nn

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mixed, Objective
from lt_bench.mixing.mix_block import MixBlock, Pairing, excess
from lt_bench.mixing.mixup import draw_share
from lt_bench.mixing.momentum_mix import MomentumMix, is_last, progress
from lt_bench.ranks.division import order_of
from lt_bench.registry import Info


class AutoMix(MomentumMix):
    """L = loss(clean) + loss(mixed) + loss(mixed, by the momentum network) + mask_weight * the masks' excess.

    The masks are a Mix Block's, of the momentum network's features before its last stage (the third of four; of a
    CIFAR ResNet the second of three). It learns by the third term, whose gradient goes through the frozen network, and
    the fourth; the network by the others, of which the second has a classifier of its own and other shares, partners
    and masks. The momentum network keeps batch statistics of its own, and is what is evaluated and saved. Paper: Liu
    et al., ECCV 2022, arXiv 2103.13027; read from the released code, whose settings for CIFAR are these.
    """

    name = "automix"
    info = Info("masks learned through a momentum network", "Liu et al., ECCV 2022", 2022, cost="3x")

    class Config(MomentumMix.Config):
        """Those of the momentum network, and of the masks."""

        mask_weight: FiniteFloat = Field(default=0.1, ge=0)
        """Of the masks' excess in the loss."""
        mask_schedule: Literal["constant", "cosine"] = "constant"
        """`cosine`: the weight falls to 0 over the training, as on ImageNet and iNaturalist."""
        mask_margin: float = Field(default=0.1, ge=0, le=1)
        """By so much the mean of the masks may miss the share."""
        lambda_margin: float = Field(default=0.08, ge=0, lt=0.5)
        """Where a share comes so close to 0 or 1 the network learns from plain mixup."""

    config: Config

    def fresh_block(self, channels: int) -> nn.Module:
        """What makes masks [B, 1, H, W] of features [B, C, h, w]."""
        return MixBlock(channels, concat=self.config.lambda_concat)

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        images, labels = batch.images, batch.labels
        to_learn, to_teach = self.pairings(batch, step)
        features = self.features(images)
        masks = self.block(features, to_learn, images.shape[-2:])
        self.kept = kept(images, to_learn, masks) if is_last(step) else {}
        shown = to_teach.mixed(images, self.given_masks(features, (to_learn, to_teach), images.shape[-2:], step))
        by_mixed, by_momentum = self.of_mixed(objective)
        return (
            objective.of(Mixed.plain(batch))
            + by_mixed.of(Mixed(shown, to_teach.terms(labels)))
            + by_momentum.of(Mixed(to_learn.mixed(images, masks), to_learn.terms(labels)))
            + self.mask_weight(step) * self.mask_loss(masks, to_learn.share)
        )

    def pairings(self, batch: Batch, step: Step) -> tuple[Pairing, Pairing]:
        """Shares and partners of the images that the Mix Block learns from, and of those that the network does."""
        shares = [draw_share(self.config.alpha, step.rng) for _ in range(2)]
        orders = [torch.from_numpy(order_of(len(batch.labels), step.rng)) for _ in range(2)]
        device = batch.labels.device
        first, second = map(Pairing, (order.to(device, non_blocking=True) for order in orders), shares)
        return first, second

    @torch.no_grad()
    def given_masks(
        self, features: Tensor, drawn: tuple[Pairing, Pairing], size: torch.Size, step: Step
    ) -> Tensor | float:
        """How much the network sees of the partners: [B, 1, H, W], or one number for all pixels."""
        _, (_, share) = drawn
        if min(share, 1 - share) <= self.config.lambda_margin:
            return 1 - share
        masks: Tensor = self.block(features, drawn[1], size)
        return masks

    def mask_loss(self, masks: Tensor, share: float) -> Tensor:
        """What it costs, a scalar, that masks [B, 1, H, W] miss their share."""
        return excess(masks, share, self.config.mask_margin)

    def mask_weight(self, step: Step) -> float:
        """That of the masks' loss in a step."""
        falling = self.config.mask_schedule == "cosine"
        return self.config.mask_weight * ((math.cos(math.pi * progress(step)) + 1) / 2 if falling else 1)


def kept(images: Tensor, pairing: Pairing, masks: Tensor, most: int = 8) -> Mapping[str, Tensor]:
    """The first images of a batch, normalised as in training, their partners, the masks, and the one share, [1]."""
    pairs = {"images": images, "partners": images[pairing.order], "masks": masks.detach()}
    return {name: tensor[:most].clone() for name, tensor in pairs.items()} | {"share": torch.tensor([pairing.share])}
