"""SaliencyMix: CutMix whose box lies where an image stands out."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.types import Batch, Step
from lt_bench.errors import UserError
from lt_bench.mixing import Mix, Mixed, permuted
from lt_bench.mixing.boxes import box_around, paste
from lt_bench.mixing.mixup import draw_share
from lt_bench.models.network import Network
from lt_bench.registry import Info


class SaliencyMix(Mix):
    """The box of a batch is centred where the partner of its first image stands out most; all else is CutMix.

    That is the first of the highest pixels of OpenCV's fine-grained saliency, of the image scaled to 0..255 and without
    the padding of a crop, at whose edge every second box would lie. The released code hands over normalised floats,
    whose bytes OpenCV (4.14, 5.0) takes for pixels, four a column, so that its map is not that of the image:
    `released_floats`. Made on the processor, it waits for the device once a batch. It needs the extra `saliency`.
    Paper: Uddin et al., ICLR 2021, arXiv 2006.01791.
    """

    name = "saliencymix"
    info = Info("CutMix around the most salient pixel of a partner", "Uddin et al., ICLR 2021", 2021)

    class Config(Mix.Config):
        """How often, how large the boxes are, and what is looked at."""

        beta: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law of the share before clipping. 0 is no mixing."""
        probability: float = Field(default=0.5, ge=0, le=1)
        """Of mixing a batch: 0.5 on CIFAR, 1 on ImageNet."""
        released_floats: bool = False
        """Look at what the released code looks at, which is not the image."""

    config: Config

    def attach(self, network: Network) -> None:
        fine_grained()  # before a training begins, not at its first step

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        if step.rng.random() >= self.config.probability:
            return Mixed.plain(batch)
        partner = partner or permuted(batch, step.rng)
        height, width = batch.images.shape[-2:]
        row, column = self.centre(partner[:1])
        box = box_around(row, column, height, width, draw_share(self.config.beta, step.rng))
        share = box.share_outside(height, width)
        return Mixed(paste(batch.images, partner.images, box), ((batch.labels, share), (partner.labels, 1 - share)))

    def centre(self, first: Batch) -> tuple[int, int]:
        """Row and column of what stands out most of the one image of a batch."""
        (image,) = first.images
        if self.config.released_floats:
            return most_salient(image, as_pixels=False)
        top, bottom, left, right = visible(first)
        row, column = most_salient(image[:, top:bottom, left:right])
        return row + top, column + left


def visible(first: Batch) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what the one image of a batch shows of its photograph; padding is outside."""
    height, width = first.images.shape[-2:]
    if first.views is None:
        return 0, height, 0, width
    left, top, right, bottom = first.views.boxes[0].tolist()
    (top, bottom), (left, right) = within(top, bottom, height), within(left, right, width)
    return (top, bottom, width - right, width - left) if first.views.mirrored[0] else (top, bottom, left, right)


def within(start: float, end: float, size: int) -> tuple[int, int]:
    """The first pixel, and the one behind the last, of a crop from start to end that lie in 0..1."""
    scale = size / (end - start)
    return max(0, round(-start * scale)), min(size, round((1 - start) * scale))


def most_salient(image: Tensor, *, as_pixels: bool = True) -> tuple[int, int]:
    """Row and column of the most salient pixel of an image [3, H, W], of which only contrasts count."""
    shown = np.ascontiguousarray(image.float().cpu().movedim(0, -1).numpy())
    if as_pixels:
        lowest, highest = shown.min(), shown.max()
        shown = np.rint((shown - lowest) * (255 / max(highest - lowest, 1e-12))).astype(np.uint8)
    _, found = fine_grained().computeSaliency(shown)
    row, column = np.unravel_index(found.argmax(), found.shape)
    return int(row), int(column)


def fine_grained() -> Any:
    """OpenCV's fine-grained static saliency. Raises UserError where it is not installed."""
    try:
        saliency: Any = import_module("cv2").saliency  # of an extra, which takes half a second
    except (ImportError, AttributeError):  # the second of an OpenCV without its contributed modules
        raise UserError(
            "mix: saliencymix needs OpenCV with its contributed modules: pip install 'lt-bench[saliency]'"
        ) from None
    return saliency.StaticSaliencyFineGrained_create()
