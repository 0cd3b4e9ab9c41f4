"""CutMix: paste a rectangle of one image into another and mix the labels by area."""

from __future__ import annotations

import numpy as np
from pydantic import Field, FiniteFloat

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, permuted
from lt_bench.mixing.boxes import draw_box, paste
from lt_bench.mixing.mixup import draw_share
from lt_bench.registry import Info


class CutMix(Mix):
    """One coin, one share and one box per batch; labels follow the area that the clipped box leaves."""

    name = "cutmix"
    info = Info("a rectangle of another image pasted in, labels by area", "Yun et al., ICCV 2019", 2019)

    class Config(Mix.Config):
        """How often, and how large the boxes are."""

        beta: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law of the share before clipping. 0 is no mixing."""
        probability: float = Field(default=0.5, ge=0, le=1)
        """Of mixing a batch: 0.5 on CIFAR, 1 on ImageNet."""

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        if step.rng.random() >= self.config.probability:
            return Mixed.plain(batch)
        return cutmix_pair(batch, partner or permuted(batch, step.rng), self.config.beta, step.rng)


def cutmix_pair(batch: Batch, partner: Batch, beta: float, rng: np.random.Generator) -> Mixed:
    """Paste one box, the same for all, of image b of `partner` into image b of `batch`."""
    height, width = batch.images.shape[-2:]
    box = draw_box(height, width, draw_share(beta, rng), rng)
    share = box.share_outside(height, width)
    return Mixed(paste(batch.images, partner.images, box), ((batch.labels, share), (partner.labels, 1 - share)))
