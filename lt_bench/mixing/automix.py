"""AutoMix: the masks by which two images are mixed are learned, through a momentum copy of the classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lt_bench.data.types import Batch, Step
from lt_bench.errors import UserError
from lt_bench.mixing import Mix, Mixed, Objective, permuted
from lt_bench.mixing.mix_block import MixBlock, Pairing, excess, initialised
from lt_bench.mixing.mixup import draw_share, mixup_pair
from lt_bench.models.network import Branch, Network
from lt_bench.registry import Info


class AutoMix(Mix):
    """L = loss(clean) + loss(mixed) + loss(mixed, by the momentum network) + mask_weight * the masks' excess.

    The masks are a Mix Block's, of the momentum network's features before its last stage (the third of four; of a
    CIFAR ResNet the second of three). It learns by the third term, whose gradient goes through the frozen network, and
    the fourth; the network by the others, of which the second has a classifier of its own and other shares, partners
    and masks. The momentum network keeps batch statistics of its own, and is what is evaluated and saved. Paper: Liu
    et al., ECCV 2022, arXiv 2103.13027; read from the released code, whose settings for CIFAR are these.
    """

    name = "automix"
    info = Info("masks learned through a momentum network", "Liu et al., ECCV 2022", 2022, cost="3x")
    refuses_partners = "it mixes the features of one batch"
    evaluates_its_own = True

    class Config(Mix.Config):
        """Hyper-parameters under the names of the released code where it has one."""

        alpha: FiniteFloat = Field(default=2.0, gt=0)
        """Both parameters of the Beta law of the two shares of a step."""
        mask_weight: FiniteFloat = Field(default=0.1, ge=0)
        """Of the masks' excess in the loss."""
        mask_schedule: Literal["constant", "cosine"] = "constant"
        """`cosine`: the weight falls to 0 over the training, as on ImageNet and iNaturalist."""
        mask_margin: float = Field(default=0.1, ge=0, le=1)
        """By so much the mean of the masks may miss the share."""
        lambda_margin: float = Field(default=0.08, ge=0, lt=0.5)
        """Where a share comes so close to 0 or 1 the network learns from plain mixup."""
        momentum: float = Field(default=0.999, ge=0, lt=1)
        """Share that the momentum network retains of its weights in a step, until it begins to rise."""
        momentum_end: float = Field(default=0.999999, ge=0, le=1)
        """The same at the end of the training, 0.99999 on ImageNet and iNaturalist."""
        momentum_from: float = Field(default=0.1, ge=0, le=1)
        """Part of the training after which it rises, as half a cosine counted from the start; 0.25 for DeiT."""
        lambda_concat: bool = False
        """Whether the Mix Block sees the shares, as a channel of the features: on ImageNet, iNaturalist and CUB."""

    config: Config
    block: nn.Module
    head_mix: nn.Module
    momentum_network: Network
    momentum_head_mix: nn.Module
    kept: Mapping[str, Tensor] = {}

    def attach(self, network: Network) -> None:
        if type(network) is not Network or len(network.branches) != 1:
            raise UserError(f"mix: {self.name} needs a head of one branch, such as linear or cosine")
        channels = width_before(network)
        self.block = initialised(lambda: self.fresh_block(channels))
        self.head_mix = deepcopy(network.classifiers[0])
        self.momentum_network = deepcopy(network).requires_grad_(False)
        self.momentum_head_mix = deepcopy(self.head_mix).requires_grad_(False)

    def fresh_block(self, channels: int) -> nn.Module:
        """What makes masks [B, 1, H, W] of features [B, C, h, w]."""
        return MixBlock(channels, concat=self.config.lambda_concat)

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        """Plain mixup, where nothing is trained: masks are `loss`'s, which has the networks."""
        return mixup_pair(batch, partner or permuted(batch, step.rng), self.config.alpha, step.rng)

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        images, labels = batch.images, batch.labels
        to_learn, to_teach = self.pairings(batch, step)
        features = self.features(images)
        masks = self.block(features, to_learn, images.shape[-2:])
        self.kept = kept(images, to_learn, masks) if is_last(step) else {}
        shown = to_teach.mixed(images, self.given_masks(features, (to_learn, to_teach), images.shape[-2:], step))
        by_momentum = replace(objective, network=with_classifier(self.momentum_network, self.momentum_head_mix))
        by_mixed = replace(objective, network=with_classifier(objective.network, self.head_mix))
        return (
            objective.of(Mixed.plain(batch))
            + by_mixed.of(Mixed(shown, to_teach.terms(labels)))
            + by_momentum.of(Mixed(to_learn.mixed(images, masks), to_learn.terms(labels)))
            + self.mask_weight(step) * self.mask_loss(masks, to_learn.share)
        )

    def pairings(self, batch: Batch, step: Step) -> tuple[Pairing, Pairing]:
        """Shares and partners of the images that the Mix Block learns from, and of those that the network does."""
        shares = [draw_share(self.config.alpha, step.rng) for _ in range(2)]
        orders = [torch.from_numpy(step.rng.permutation(len(batch.labels))) for _ in range(2)]
        device = batch.labels.device
        first, second = map(Pairing, (order.to(device, non_blocking=True) for order in orders), shares)
        return first, second

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """[B, C, h, w], by the momentum network; its last stage too sees the images, for its batch statistics."""
        features: Tensor = self.momentum_network.trunk(images)
        self.momentum_network.branches[0].get_submodule("stage")(features)
        return features

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

    def after_step(self, network: Network, step: Step) -> None:
        config = self.config
        momentum = momentum_at(progress(step), config.momentum, config.momentum_end, config.momentum_from)
        follow = get_ema_multi_avg_fn(momentum)  # type: ignore[no-untyped-call]
        follow(list(self.momentum_network.parameters()), list(network.parameters()), 0)
        follow(list(self.momentum_head_mix.parameters()), list(self.head_mix.parameters()), 0)

    def evaluated(self, network: Network) -> Network:
        return self.momentum_network

    def diagnostics(self) -> Mapping[str, Tensor]:
        """After the training, pairs of its last step with their masks: see `kept`."""
        return self.kept


def progress(step: Step) -> float:
    """The part of the training, in [0, 1), that lies behind a step."""
    return (step.epoch.index + step.index / step.total) / step.epoch.total


def is_last(step: Step) -> bool:
    """Whether a training ends with this step."""
    return (step.index + 1, step.epoch.index + 1) == (step.total, step.epoch.total)


def kept(images: Tensor, pairing: Pairing, masks: Tensor, most: int = 8) -> Mapping[str, Tensor]:
    """The first images of a batch, normalised as in training, their partners, the masks, and the one share, [1]."""
    pairs = {"images": images, "partners": images[pairing.order], "masks": masks.detach()}
    return {name: tensor[:most].clone() for name, tensor in pairs.items()} | {"share": torch.tensor([pairing.share])}


def momentum_at(time: float, start: float, end: float, constant: float = 0.1) -> float:
    """The momentum after a part `time` of the training: `start` for a while, then rising to `end` by half a cosine."""
    return start if time < constant else end - (end - start) * (math.cos(math.pi * time) + 1) / 2


def with_classifier(network: Network, classifier: nn.Module) -> Network:
    """The same layers, with another classifier behind the one branch."""
    return Network(network.trunk, [Branch(network.branches[0].get_submodule("stage"), classifier)])


def width_before(network: Network) -> int:
    """Channels of what the last stage of a convolutional network takes. Raises UserError for another network."""
    stage = network.branches[0].get_submodule("stage")
    width = next((layer.in_channels for layer in stage.modules() if isinstance(layer, nn.Conv2d)), None)
    if width is None or not list(network.trunk.children()):
        raise UserError("mix: masks need a last stage of convolutions, to be cut off; this backbone has none")
    return width
