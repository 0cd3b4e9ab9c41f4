"""Ways of varying training images beyond crop and flip, one file each. This page holds their common base."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from lt_bench.corrections import settings_of
from lt_bench.lazy import lazily
from lt_bench.registry import Component, lookup
from lt_bench.settings import Settings

if TYPE_CHECKING:
    from lt_bench.data.augmentations.auto_augment import AutoAugment
    from lt_bench.data.augmentations.color_jitter import ColorJitter
    from lt_bench.data.augmentations.cutout import Cutout
    from lt_bench.data.augmentations.gaussian_blur import GaussianBlur
    from lt_bench.data.augmentations.grayscale import Grayscale
    from lt_bench.data.augmentations.grid_mask import GridMask
    from lt_bench.data.augmentations.hide_and_seek import HideAndSeek
    from lt_bench.data.augmentations.rand_augment import RandAugment
    from lt_bench.data.augmentations.random_erasing import RandomErasing
    from lt_bench.data.augmentations.rotation import Rotation
    from lt_bench.data.augmentations.trivial_augment import TrivialAugment

__all__ = [
    "Augment",
    "AutoAugment",
    "ColorJitter",
    "Cutout",
    "GaussianBlur",
    "Grayscale",
    "GridMask",
    "HideAndSeek",
    "RandAugment",
    "RandomErasing",
    "Rotation",
    "TrivialAugment",
    "draw_all",
    "in_order",
    "vary",
]

__getattr__ = lazily(
    __name__,
    {
        "AutoAugment": "auto_augment",
        "ColorJitter": "color_jitter",
        "Cutout": "cutout",
        "GaussianBlur": "gaussian_blur",
        "Grayscale": "grayscale",
        "GridMask": "grid_mask",
        "HideAndSeek": "hide_and_seek",
        "RandAugment": "rand_augment",
        "RandomErasing": "random_erasing",
        "Rotation": "rotation",
        "TrivialAugment": "trivial_augment",
    },
)

C = TypeVar("C")
Draws = tuple[Any, ...]
"""Arrays or tensors whose first axis is the image."""
GEOMETRY, COLOUR, ERASING = range(3)
"""Places in the order of several."""


class Augment(Component, ABC):
    """Varies images by the batch, with draws of their own for every image; labels stay what they are.

    It comes after crop and flip. What the protocol asks for and what a recipe adds are applied in the order of their
    `place`, then of their names.
    """

    place: ClassVar[int]
    normalised: ClassVar[bool] = False
    """Whether it works on normalised float32 images. Others get uint8."""
    batches_at_once: ClassVar[int] = 1
    """How many batches to vary in one call, where a call costs about the same however many images there are."""

    class Config(Settings):
        """Without settings."""

    def __init__(self, config: Any = None, **settings: Any) -> None:
        """From a `Config`, or from its settings one by one. Raises UserError for a wrong name or value."""
        self.config: Any = self.settled(config, settings)

    def at(self, progress: float) -> Self:
        """As it is when a share `progress` in [0, 1] of the training is over: itself, unless it changes by epochs."""
        return self

    @abstractmethod
    def draw(self, size: int, height: int, width: int, rng: np.random.Generator, device: torch.device) -> Draws:
        """All that is random about `size` images of this height and width."""

    @abstractmethod
    def apply(self, images: Tensor, *draws: Any) -> Tensor:
        """The varied images [B, 3, H, W] for the draws of these B; the given ones stay as they are."""

    def __call__(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Draw and apply: images [B, 3, H, W], uint8 or, if it is `normalised`, float32."""
        height, width = images.shape[-2:]
        return self.apply(images, *self.draw(len(images), height, width, rng, images.device))


def rising(config: C) -> C:
    """For `model_validator`: settings whose `smallest` is not above their `largest`."""
    smallest, largest = (getattr(config, name) for name in ("smallest", "largest"))
    if smallest > largest:
        raise ValueError(f"smallest {smallest:g} is above largest {largest:g}")
    return config


def in_order(named: Mapping[str, Mapping[str, Any]]) -> Sequence[Augment]:
    """From names and settings: geometry before colour before erasing, and by name among those of one place."""
    nodes = [{"name": name, **settings} for name, settings in named.items()]
    steps: list[Augment] = [lookup("augment", node["name"])(**settings_of("augment", node)) for node in nodes]
    return sorted(steps, key=lambda step: (step.place, step.name))


def draw_all(
    steps: Sequence[Augment],
    progress: float,
    size: int,
    height: int,
    width: int,
    rng: np.random.Generator,
    device: torch.device,
) -> Sequence[Draws]:
    """The draws of every step for the `size` images of an epoch, before which a share `progress` of them is over."""
    return [step.at(progress).draw(size, height, width, rng, device) for step in steps]


def vary(images: Tensor, steps: Sequence[Augment], draws: Sequence[Draws], part: slice, *, normalised: bool) -> Tensor:
    """Images [B, 3, H, W], which are this part of the epoch, after the steps that work on such pixels."""
    for step, drawn in zip(steps, draws, strict=True):
        if step.normalised == normalised:
            images = step.apply(images, *(one[part] for one in drawn))
    return images
