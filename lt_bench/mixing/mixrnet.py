"""The two mixups of mixRnet: of about every fifth image in its code, of every image in its paper."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import torch
from pydantic import Field, FiniteFloat

from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.mixing import Mix, Mixed, permuted, sent
from lt_bench.ranks.division import for_images
from lt_bench.registry import Info

FIFTH = 0.2
"""Of the images that the mode `fifth` mixes."""


class MixRNet(Mix):
    """x = l x_i + (1 - l) x_j and the same for the labels, with an l ~ Beta(alpha, alpha) of its own for every pair.

    In the mode `fifth`, what the code does, an image is mixed with probability 0.2, with a partner drawn uniformly from
    the whole training set. The code mixes the very images at every fifth position of its data set, and the same ones
    in each epoch; in a long-tailed set, sorted by class, that rule would depend on the class, so here each image's coin
    is tossed anew. In the mode `batch`, what the paper says, every image is mixed, with one from a permutation of the
    batch.
    """

    name = "mixrnet"
    info = Info("mixup of a fifth of the images, or of all, pair by pair", "Pallakonda 2021", 2021)

    class Config(Mix.Config):
        """How many images are mixed, and how far."""

        mode: Literal["fifth", "batch"] = "fifth"
        alpha: FiniteFloat = Field(default=0.2, gt=0)
        """Both parameters of the Beta law of the shares."""

    config: Config

    def partner_order(self, order: IntArray, labels: IntArray, epoch: Epoch) -> IntArray | None:
        if self.config.mode == "batch":
            return None
        return epoch.rng("mixrnet partners").integers(len(labels), size=len(order))

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        other = partner or permuted(batch, step.rng)
        drawn = for_images(len(batch.labels), partial(self.draw_shares, rng=step.rng))
        share = sent(drawn, batch.labels.device)
        images = torch.lerp(other.images, batch.images, share[:, None, None, None])
        return Mixed(images, ((batch.labels, share), (other.labels, 1 - share)))

    def draw_shares(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """The shares [B] in [0, 1] that images keep of themselves, 1 of those that are not mixed."""
        shares = rng.beta(self.config.alpha, self.config.alpha, size)
        return shares if self.config.mode == "batch" else np.where(rng.random(size) < FIFTH, shares, 1.0)
