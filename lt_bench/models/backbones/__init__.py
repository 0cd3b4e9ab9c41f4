"""Backbones, one family a file, each cut before its last stage, so that a head may give branches a stage of their own.

This page holds their common base.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn

from lt_bench.errors import UserError
from lt_bench.models.network import Level
from lt_bench.models.norm import BatchNormReLU
from lt_bench.registry import Component
from lt_bench.settings import Settings

M = TypeVar("M", bound=nn.Module)


class Provenance(NamedTuple):
    """Which trained weights a backbone starts from."""

    network: str
    """Whose they are."""
    source: str
    """Where they were had from."""
    data: str
    """What they were trained on, as their name says it."""
    sha256: str
    """Of the file that holds them."""


class Backbone(Component, ABC):
    """Builds the parts of a network; `feature_dim` is the width D of the pooled features."""

    feature_dim: int
    reads_text: ClassVar[bool] = False
    """Whether it comes with an encoder of text, and so with `text_vectors`."""
    largest_side: ClassVar[int | None] = None
    """Pixels on a side of the largest images that it is made for, None for any."""

    class Config(Settings):
        """No settings: a recipe names such a backbone by a bare word."""

    def __init__(self, config: Config | None = None, **settings: Any) -> None:
        self.config: Backbone.Config = self.settled(config, settings)

    @classmethod
    def fitted(cls, config: Any, side: int) -> Any:
        """The settings for images of `side` pixels: what they leave open, filled in when a recipe is read.

        Raises UserError, which begins with the field, where that cannot be.
        """
        return config

    def check_images(self, side: int) -> None:
        """Raise UserError, which begins with the field, if it cannot take images of `side` pixels."""
        if self.largest_side is not None and side > self.largest_side:
            known = f"images of up to {self.largest_side} pixels"
            raise UserError(f"model.backbone: {self.name} is made for {known}, found {side}")

    def untrained(self) -> Self:
        """The same without weights from elsewhere, for a network that gets its weights anyway."""
        return self

    def check_source(self) -> None:
        """Raise UserError where there can be no such weights as it is to start from. Downloads nothing."""

    def provenance(self) -> Provenance | None:
        """Which trained weights it starts from, None for none. Raises UserError where they cannot be had."""
        return None

    def text_vectors(self, prompts: Sequence[Sequence[str]], device: torch.device | str = "cpu") -> Tensor:
        """Directions of unit length, float32 [C, D], that features of a class have, from several sentences of each."""
        raise UserError(f"model.start: the backbone {self.name} reads no text; take one that does, such as clip/NAME")

    @abstractmethod
    def trunk(self) -> nn.Module:
        """Everything before the last stage: images [B, 3, H, W] to feature maps.

        Raises UserError where a backbone has no last stage that can be cut off.
        """

    @abstractmethod
    def last_stage(self) -> nn.Module:
        """A freshly initialised last stage: the trunk's feature maps to maps of width D.

        A head that splits it, such as `bilateral`, asks for a torch.nn.Sequential of blocks.
        """

    def whole(self) -> tuple[nn.Module, nn.Module]:
        """Trunk and last stage for a network of one branch, which needs no cut."""
        return self.trunk(), self.last_stage()

    def early_stages(self) -> nn.Module:
        """What several experts share: images to feature maps. The trunk, unless a backbone can be cut earlier."""
        return self.trunk()

    def late_stages(self, width: float = 1.0) -> nn.Module:
        """The freshly initialised rest behind `early_stages`, its channels, D at the end, multiplied by `width`.

        Raises UserError where the backbone has no narrower form.
        """
        self._refuse_width(width)
        return self.last_stage()

    def _refuse_width(self, width: float) -> None:
        if width != 1:
            raise UserError(f"model.head.reduce_dimension: {self.name} has no narrower late stages; set it to false")


class Staged(Backbone):
    """A backbone that says its stages one by one: the last is a branch's own, the last two an expert's."""

    @abstractmethod
    def stages(self) -> list[nn.Sequential]:
        """All stages in order, freshly initialised, two at least; the stem belongs to the first."""

    def trunk(self) -> nn.Module:
        return nn.Sequential(*self._levels()[:-1])

    def last_stage(self) -> nn.Module:
        return self._levels()[-1]

    def whole(self) -> tuple[nn.Module, nn.Module]:
        *early, last = self._levels()
        return nn.Sequential(*early), last

    def early_stages(self) -> nn.Module:
        return nn.Sequential(*self._levels()[:-2])

    def late_stages(self, width: float = 1.0) -> nn.Module:
        self._refuse_width(width)
        return nn.Sequential(*self._levels()[-2:])

    def _levels(self) -> list[Level]:
        return [Level(*stage) for stage in self.stages()]


class Residual(Staged):
    """A stem, then stages of like blocks, of which all but the first stage halve the sides of the maps."""

    stem_width: ClassVar[int] = 64
    widths: ClassVar[tuple[int, ...]]
    """Channels behind each stage; the last are the features."""
    blocks: ClassVar[tuple[int, ...]]
    """Of each stage."""

    def stages(self) -> list[nn.Sequential]:
        widths = (self.stem_width, *self.widths)
        first, *rest = (
            [self.block(width_in, width, 1 + bool(index)), *(self.block(width, width, 1) for _ in range(count - 1))]
            for index, (count, width_in, width) in enumerate(zip(self.blocks, widths, widths[1:], strict=False))
        )
        return [nn.Sequential(self.stem(), *first), *(nn.Sequential(*blocks) for blocks in rest)]

    def stem(self) -> nn.Module:
        """Images to maps of `stem_width` channels and the same sides."""
        return nn.Sequential(convolution(3, self.stem_width, 3), BatchNormReLU(self.stem_width))

    @abstractmethod
    def block(self, width_in: int, width: int, stride: int) -> nn.Module:
        """A freshly initialised block: maps of `width_in` channels to maps of `width`, the sides divided by stride."""


def convolution(width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the sides of maps, of odd kernel, or divides them by its stride."""
    return nn.Conv2d(width_in, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


def kaiming_normal(module: M, mode: Literal["fan_in", "fan_out"] = "fan_in") -> M:
    """The module, its convolutions initialised as in the field's CIFAR code."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode=mode)
    return module
