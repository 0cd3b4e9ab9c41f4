"""HMix: a box of another image, and around it a blend of both."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, FiniteFloat

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, permuted
from lt_bench.mixing.boxes import Box, draw_box, paste
from lt_bench.mixing.mixup import draw_share
from lt_bench.registry import Info


class HMix(Mix):
    """Between mixup (ratio 0) and CutMix (ratio 1): the pixels of the image count l in the mean, and so does its label.

    One coin, one l ~ Beta(beta, beta) and one box for a batch. The released code has a ratio of 1 and partners in
    opposite order; ratio, law and coin here are this project's choice, where the paper could not be read.
    """

    name = "hmix"
    info = Info("a box of another image, and a blend around it", "Park et al., NeurIPS 2022", 2022)

    class Config(Mix.Config):
        """How often, and how the share is split between box and blend."""

        beta: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law of the share. 0 is no mixing."""
        ratio: float = Field(default=0.5, ge=0, le=1)
        """Part of the other image's share that the box is to have."""
        probability: float = Field(default=0.5, ge=0, le=1)
        """Of mixing a batch."""

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        if step.rng.random() >= self.config.probability:
            return Mixed.plain(batch)
        return hmix_pair(batch, partner or permuted(batch, step.rng), self.config.beta, self.config.ratio, step.rng)


def hmix_pair(batch: Batch, partner: Batch, beta: float, ratio: float, rng: np.random.Generator) -> Mixed:
    """Mix image b of one batch with image b of the other, with one box for all."""
    height, width = batch.images.shape[-2:]
    share = draw_share(beta, rng)
    return mixed_around(batch, partner, draw_box(height, width, 1 - (1 - share) * ratio, rng), share)


def mixed_around(batch: Batch, partner: Batch, box: Box, share: float) -> Mixed:
    """The partner inside the box, around it as much of the image as makes its share of all pixels `share`."""
    outside = box.share_outside(*batch.images.shape[-2:])
    # A box over the whole image leaves no pixel to blend.
    blend = torch.lerp(partner.images, batch.images, min(1.0, share / outside)) if outside else partner.images
    return Mixed(paste(blend, partner.images, box), ((batch.labels, share), (partner.labels, 1 - share)))
