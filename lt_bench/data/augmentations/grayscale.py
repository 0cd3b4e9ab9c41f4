"""Random grayscale: colour taken from some images, as the views of contrastive learning have it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lt_bench.data.augmentations import COLOUR, Augment, Draws
from lt_bench.data.augmentations.color_jitter import grey
from lt_bench.registry import Info


class Grayscale(Augment):
    """Three equal channels, the luminance, of as many images as `probability` says."""

    name = "grayscale"
    info = Info("colour taken from some images", "Chen et al., ICML 2020", 2020)
    place = COLOUR

    class Config(Augment.Config):
        """SimCLR's."""

        probability: float = Field(default=0.2, ge=0, le=1)

    config: Config

    def draw(self, size: int, height: int, width: int, rng: np.random.Generator, device: torch.device) -> Draws:
        return (torch.from_numpy(rng.random(size) < self.config.probability).to(device),)

    def apply(self, images: Tensor, *draws: Any) -> Tensor:
        (chosen,) = draws
        return torch.where(chosen[:, None, None, None], grey(images), images)
