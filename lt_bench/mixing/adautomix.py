"""AdAutoMix: masks for two or three images, learned against the classifier in every second step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mixed, Objective, Term
from lt_bench.mixing.feature_maps import uncompiled
from lt_bench.mixing.mix_block import attention, with_channel
from lt_bench.mixing.momentum_mix import MomentumMix, is_last
from lt_bench.ranks.division import order_of
from lt_bench.registry import Info


class Blend(NamedTuple):
    """Which n images of a batch meet in each place, and how much of them is to be seen."""

    orders: tuple[Tensor, ...]
    """n of int64 [B], places in the batch."""
    shares: tuple[float, ...]
    """n, which sum to 1."""

    def mixed(self, images: Tensor, masks: Tensor | None) -> Tensor:
        """Images [B, 3, H, W] by masks [B, n, H, W], or without any by the shares."""
        seen = [images[order] for order in self.orders]
        if masks is None:
            return torch.stack([share * image for share, image in zip(self.shares, seen, strict=True)]).sum(0)
        return torch.stack([mask[:, None] * image for mask, image in zip(masks.unbind(1), seen, strict=True)]).sum(0)

    def terms(self, labels: Tensor) -> tuple[Term, ...]:
        """What such images are made of, by the shares."""
        return tuple((labels[order], share) for order, share in zip(self.orders, self.shares, strict=True))


class AdaptiveMask(nn.Module):
    """Masks [B, n, H, W] that sum to 1: softmax over the images of softmax(q_i sum_{j != i} k_j / sqrt(d)) v_i.

    Features are [B, C, h, w] of any type, behind queries and keys stands a ReLU; with `concat` each image's share is a
    channel more, with `normalised` queries and keys are batch-normalised before it.
    """

    def __init__(self, channels: int, *, concat: bool = False, normalised: bool = False) -> None:
        super().__init__()
        self.concat = concat
        self.query, self.key = (self._projection(channels + concat, max(1, channels // 2), normalised) for _ in "qk")
        self.value = nn.Conv2d(channels + concat, 1, 1)

    @staticmethod
    def _projection(width_in: int, width: int, normalised: bool) -> nn.Sequential:
        norm = [nn.BatchNorm2d(width)] if normalised else []
        return nn.Sequential(nn.Conv2d(width_in, width, 1, bias=not normalised), *norm, nn.ReLU())

    def forward(self, features: Tensor, blend: Blend, size: Sequence[int]) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            maps = [features[order].float() for order in blend.orders]
            if self.concat:
                maps = [with_channel(own, share) for own, share in zip(maps, blend.shares, strict=True)]
            keys = [self.key(own) for own in maps]
            total = torch.stack(keys).sum(0)
            attended = [
                attention(self.query(own), total - key, self.value(own)) for own, key in zip(maps, keys, strict=True)
            ]
            # Before the softmax: between two pixels the masks are not their means.
            return F.interpolate(torch.cat(attended, 1), size, mode="bilinear", align_corners=False).softmax(1)


class AdAutoMix(MomentumMix):
    """L = L_classifier + L_generator; the generator of masks learns by the momentum network's answer to its mixtures.

    L_generator = loss(mixed) in odd steps and -beta loss(mixed) + (1 - beta) s in even ones, where s is the mean cosine
    of the mixtures' logits with those of the images in them, by their shares. So the released code makes them less
    alike, though s is described as a guard of their meaning; `guard: alike` has the other sign.
    L_classifier is the loss of other mixtures and, of three images, (1 - plain) loss(clean) + plain loss(mixed by the
    shares alone); of two, loss(clean). There are no masks for the network where the first share comes near 0 or 1. The
    released code begins with an even step again when it is resumed. What is evaluated is the momentum network with the
    classifier of clean images. The generator's rate is the network's. Paper: Qin et al., ICLR 2024, arXiv 2312.11954;
    read from the released code, whose settings for CIFAR are these.
    """

    name = "adautomix"
    info = Info("masks learned against the classifier", "Qin et al., ICLR 2024", 2024, cost="5x")

    class Config(MomentumMix.Config):
        """Those of the momentum network, and of the generator."""

        alpha: float = Field(default=1.0, gt=0, allow_inf_nan=False)
        """Both parameters of the Beta law of the shares; of three images the draws are divided by their sum."""
        samples: Literal[2, 3] = 3
        """Images in a mixture; 2 on ImageNet."""
        beta: float = Field(default=0.3, ge=0, le=1)
        """Of the loss against the likeness in an even step: 0.4 on Tiny-ImageNet, 0.1 on ImageNet."""
        plain: float = Field(default=0.5, ge=0, le=1)
        """Of mixtures without masks, of three images, against clean images."""
        guard: Literal["apart", "alike"] = "apart"
        """Whether an even step makes mixtures less alike the images in them, as the released code does, or more."""
        lambda_margin: float = Field(default=0.03, ge=0, lt=0.5)
        """Where the first share comes so close to 0 or 1 the network's masks are the shares."""
        normalised: bool = False
        """Whether queries and keys are batch-normalised: on ImageNet."""

    config: Config

    def fresh_block(self, channels: int) -> nn.Module:
        """What makes masks [B, n, H, W] of features [B, C, h, w]."""
        return AdaptiveMask(channels, concat=self.config.lambda_concat, normalised=self.config.normalised)

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        with uncompiled(objective.network):  # its last stage is gone through with two classifiers, one of them ours
            return self._loss(objective, batch, step)

    def _loss(self, objective: Objective, batch: Batch, step: Step) -> Tensor:
        images, labels, size = batch.images, batch.labels, batch.images.shape[-2:]
        to_learn, to_teach = self.blends(batch, step)
        features = self.features(images)
        masks = self.block(features, to_learn, size)
        self.kept = kept(images, to_learn, masks) if is_last(step) else {}
        by_mixed, by_momentum = self.of_mixed(objective)
        seen = to_teach.mixed(images, self.given_masks(features, to_teach, size))
        loss = by_mixed.of(Mixed(seen, to_teach.terms(labels))) + self.generator_loss(
            by_momentum, batch, to_learn, masks, step
        )
        clean = objective.of(Mixed.plain(batch))
        if self.config.samples == 2:
            return loss + clean
        plain = by_mixed.of(Mixed(to_teach.mixed(images, None), to_teach.terms(labels)))
        return loss + (1 - self.config.plain) * clean + self.config.plain * plain

    def blends(self, batch: Batch, step: Step) -> tuple[Blend, Blend]:
        """What the generator learns from, and what the network does: three permutations and the same shares for both;
        of two images one permutation each, beside the batch as it is, and shares of their own.
        """
        drawn = step.rng.beta(self.config.alpha, self.config.alpha, self.config.samples)
        size, device = len(batch.labels), batch.labels.device

        def orders() -> tuple[Tensor, ...]:
            found = [order_of(size, step.rng) for _ in range(self.config.samples)]
            if self.config.samples == 2:
                found[0] = np.arange(size)
            return tuple(torch.from_numpy(order).to(device, non_blocking=True) for order in found)

        if self.config.samples == 2:
            first, second = ((float(share), 1 - float(share)) for share in drawn)
        else:
            first = second = tuple((drawn / drawn.sum()).tolist())
        return Blend(orders(), first), Blend(orders(), second)

    @torch.no_grad()
    def given_masks(self, features: Tensor, blend: Blend, size: Sequence[int]) -> Tensor | None:
        """What the network sees of each image, [B, n, H, W]; None for the shares."""
        margin, share = self.config.lambda_margin, blend.shares[0]
        if share <= margin or 1 - share < margin:
            return None
        masks: Tensor = self.block(features, blend, size)
        return masks

    def generator_loss(self, by_momentum: Objective, batch: Batch, blend: Blend, masks: Tensor, step: Step) -> Tensor:
        """By what the generator learns in a step, a scalar; the momentum network sees the images in any."""
        answer = by_momentum.answer(blend.mixed(batch.images, masks))
        loss = by_momentum.loss(answer, blend.terms(batch.labels))
        likeness = torch.zeros(())
        for order, share in zip(blend.orders, blend.shares, strict=True):
            with torch.no_grad():
                clean = by_momentum.answer(batch.images[order]).prediction.float()
            likeness = likeness + share * F.cosine_similarity(answer.prediction.float(), clean, dim=1).mean()
        if (step.epoch.index * step.total + step.index) % 2:
            return loss
        sign = 1 if self.config.guard == "apart" else -1
        return sign * (1 - self.config.beta) * likeness - self.config.beta * loss


def kept(images: Tensor, blend: Blend, masks: Tensor, most: int = 8) -> Mapping[str, Tensor]:
    """The first K mixtures of a batch: images [K, n, 3, H, W] as in training, masks [K, n, H, W] and shares [n]."""
    seen = torch.stack([images[order] for order in blend.orders], 1)
    return {"images": seen[:most].clone(), "masks": masks.detach()[:most].clone(), "shares": torch.tensor(blend.shares)}
