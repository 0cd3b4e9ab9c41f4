"""Mixes whose masks are learned through a momentum copy of the classifier: the networks that they have in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lt_bench.data.types import Batch, Step
from lt_bench.errors import UserError
from lt_bench.mixing import Mix, Mixed, Objective, permuted
from lt_bench.mixing.feature_maps import check_one_branch
from lt_bench.mixing.mix_block import initialised
from lt_bench.mixing.mixup import mixup_pair
from lt_bench.models.network import Branch, Network


class MomentumMix(Mix):
    """A block that makes masks of a momentum network's features before its last stage, and a second classifier.

    That is the third of four stages, of a CIFAR ResNet the second of three. The momentum network keeps batch statistics
    of its own, and is what is evaluated and saved.
    """

    refuses_partners = "it mixes the features of one batch"
    evaluates_its_own = True
    one_branch = True

    class Config(Mix.Config):
        """Hyper-parameters under the names of the released code where it has one."""

        alpha: FiniteFloat = Field(default=2.0, gt=0)
        """Both parameters of the Beta law of the shares of a step."""
        momentum: float = Field(default=0.999, ge=0, lt=1)
        """Share that the momentum network retains of its weights in a step, until it begins to rise."""
        momentum_end: float = Field(default=0.999999, ge=0, le=1)
        """The same at the end of the training, 0.99999 on ImageNet and iNaturalist."""
        momentum_from: float = Field(default=0.1, ge=0, le=1)
        """Part of the training after which it rises, as half a cosine counted from the start; 0.25 for DeiT."""
        lambda_concat: bool = False
        """Whether the block sees the shares, as a channel of the features: on ImageNet, iNaturalist and CUB."""

    config: Config
    block: nn.Module
    head_mix: nn.Module
    momentum_network: Network
    momentum_head_mix: nn.Module
    kept: Mapping[str, Tensor] = {}
    """Of the last step of a training, for `diagnostics`."""

    def attach(self, network: Network) -> None:
        check_one_branch(network, self.name)
        channels = width_before(network)
        self.block = initialised(lambda: self.fresh_block(channels))
        self.head_mix = deepcopy(network.classifiers[0])
        self.momentum_network = deepcopy(network).requires_grad_(False)
        self.momentum_head_mix = deepcopy(self.head_mix).requires_grad_(False)

    @abstractmethod
    def fresh_block(self, channels: int) -> nn.Module:
        """What makes masks of features [B, C, h, w]."""

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        """Plain mixup, where nothing is trained: masks are `loss`'s, which has the networks."""
        return mixup_pair(batch, partner or permuted(batch, step.rng), self.config.alpha, step.rng)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """[B, C, h, w], by the momentum network; its last stage too sees the images, for its batch statistics."""
        features: Tensor = self.momentum_network.trunk(images)
        self.momentum_network.branches[0].get_submodule("stage")(features)
        return features

    def of_mixed(self, objective: Objective) -> tuple[Objective, Objective]:
        """The objective of mixed images: of the trained network, and of the momentum network."""
        return (
            replace(objective, network=with_classifier(objective.network, self.head_mix)),
            replace(objective, network=with_classifier(self.momentum_network, self.momentum_head_mix)),
        )

    def after_step(self, network: Network, step: Step) -> None:
        config = self.config
        momentum = momentum_at(progress(step), config.momentum, config.momentum_end, config.momentum_from)
        follow = get_ema_multi_avg_fn(momentum)  # type: ignore[no-untyped-call]
        follow(list(self.momentum_network.parameters()), list(network.parameters()), 0)
        follow(list(self.momentum_head_mix.parameters()), list(self.head_mix.parameters()), 0)

    def evaluated(self, network: Network) -> Network:
        return self.momentum_network

    def diagnostics(self) -> Mapping[str, Tensor]:
        """After the training, images of its last step with their masks."""
        return self.kept


def progress(step: Step) -> float:
    """The part of the training, in [0, 1), that lies behind a step."""
    return (step.epoch.index + step.index / step.total) / step.epoch.total


def is_last(step: Step) -> bool:
    """Whether a training ends with this step."""
    return (step.index + 1, step.epoch.index + 1) == (step.total, step.epoch.total)


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
