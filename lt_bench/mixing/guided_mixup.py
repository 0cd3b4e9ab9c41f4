"""GuidedMixup: images whose salient parts lie apart are paired, and every pixel is mixed by the two saliencies."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Literal, ParamSpec, TypeVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, Objective
from lt_bench.mixing.pixel_gradients import gradient_length
from lt_bench.ranks.division import order_of
from lt_bench.registry import Info

LARGEST = 128
"""Pixels on a side of the images whose spectra are looked at; larger ones are shrunk for it."""
SMALL = 1e-12
"""Added to saliencies before they divide: in the released code a picture without one gives no number."""

P = ParamSpec("P")
R = TypeVar("R")


def in_float32(compute: Callable[P, R]) -> Callable[P, R]:
    """The same outside of autocast: spectra and filters want more digits than the network."""

    @wraps(compute)
    def computed(*arguments: P.args, **settings: P.kwargs) -> R:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return compute(*arguments, **settings)

    return computed


class GuidedMixup(Mix):
    """x = m x_i + (1 - m) x_j with m = s_i / (s_i + s_j) pixel by pixel; the share of i is the mean of its m.

    s is the image's saliency, blurred, summing to 1. Partners form one cycle through the batch, each time the farthest
    by the distance of saliencies; the released code for CIFAR pairs at random without a word (`pairing: random`). The
    loss is that of the recipe, where the authors have binary cross entropy of the softmax. Paper: Kang and Kim, AAAI
    2023, arXiv 2306.16612.
    """

    name = "guided-mixup"
    info = Info("pixels mixed by saliency, partners far apart", "Kang and Kim, AAAI 2023", 2023)
    refuses_partners = "it pairs the images of one batch"

    class Config(Mix.Config):
        """Where saliency is from, and how often it guides."""

        saliency: Literal["spectral", "gradient"] = "spectral"
        """`spectral`: the spectral residual of the grey image; `gradient`: of the loss in the pixels, by one more pass
        through the network, which moves its running statistics."""
        probability: float = Field(default=0.5, ge=0, le=1)
        """Of mixing a batch: 0.5 with spectral saliency, 0.8 with gradients."""
        pairing: Literal["greedy", "random"] = "greedy"
        """How partners are chosen."""

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        if step.rng.random() >= self.config.probability:
            return Mixed.plain(batch)
        return self.guided(batch, spectral_residual(batch.images), step)

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        if self.config.saliency == "spectral":
            return objective.of(self(batch, partner, step))
        if step.rng.random() >= self.config.probability:
            return objective.of(Mixed.plain(batch))
        return objective.of(self.guided(batch, gradient_length(objective, batch), step))

    @torch.no_grad()
    @in_float32
    def guided(self, batch: Batch, saliency: Tensor, step: Step) -> Mixed:
        """The batch mixed by saliencies [B, H, W], none of them negative."""
        saliency = blurred(saliency) + SMALL
        saliency = saliency / saliency.sum((1, 2), keepdim=True)
        if self.config.pairing == "greedy":
            order = greedy_cycle(torch.cdist(saliency.flatten(1), saliency.flatten(1)))
        else:
            order = torch.from_numpy(order_of(len(saliency), step.rng)).to(saliency.device, non_blocking=True)
        other, partner = saliency[order], batch[order]
        mask = saliency / (saliency + other)
        share = mask.mean((1, 2))
        images = torch.lerp(partner.images, batch.images, mask[:, None])
        return Mixed(images, ((batch.labels, share), (partner.labels, 1 - share)))


@torch.no_grad()
@in_float32
def spectral_residual(images: Tensor) -> Tensor:
    """How much of each pixel [B, H, W] is due to what stands out of the spectrum of its grey image, blurred."""
    grey = torch.einsum("bchw,c->bhw", images.float(), torch.tensor([0.299, 0.587, 0.114], device=images.device))
    sides = [min(side, LARGEST) for side in grey.shape[1:]]
    shrunk = grey if [*grey.shape[1:]] == sides else _resized(grey, sides)
    spectrum = torch.fft.fft2(shrunk)
    amplitude = (spectrum.real.square() + spectrum.imag.square() + 1e-10).sqrt()
    logarithm = amplitude.log()
    smooth = F.avg_pool2d(F.pad(logarithm[:, None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[:, 0]
    found = blurred(torch.fft.ifft2(spectrum * (logarithm - smooth).exp() / amplitude).abs())
    return found if found.shape == grey.shape else _resized(found, [*grey.shape[1:]])


def _resized(grey: Tensor, sides: list[int]) -> Tensor:
    return F.interpolate(grey[:, None], sides, mode="bilinear", align_corners=False)[:, 0]


def blurred(maps: Tensor, size: int = 7, deviation: float = 3.0) -> Tensor:
    """Maps [B, H, W] under a Gaussian filter, whose borders are mirrors, as in torchvision."""
    place = torch.arange(size, device=maps.device) - size // 2
    weights = torch.exp(-(place**2) / (2 * deviation**2))
    weights = weights / weights.sum()
    reach = size // 2
    # Maps too small for a mirror go on as they end.
    padded = F.pad(maps[:, None], [reach] * 4, mode="reflect" if min(maps.shape[1:]) > reach else "replicate")
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))[:, 0]


def greedy_cycle(distances: Tensor) -> Tensor:
    """Partners int64 [N] in one cycle through all: from each the farthest not yet visited, the farthest two first.

    Nothing in it waits for the device.
    """
    size = len(distances)
    order = torch.zeros(size, dtype=torch.int64, device=distances.device)
    if size < 2:
        return order
    distances = distances.clone().fill_diagonal_(-torch.inf)
    farthest = distances.argmax()
    first, current = (farthest // size).view(1), (farthest % size).view(1)
    order = order.scatter(0, first, current)
    visited = torch.zeros(size, dtype=torch.bool, device=distances.device)
    visited = visited.index_fill(0, first, True).index_fill(0, current, True)
    for _ in range(size - 2):
        row = distances.index_select(0, current)[0].masked_fill(visited, -torch.inf)
        found = row.argmax().view(1)
        order, visited, current = order.scatter(0, current, found), visited.index_fill(0, found, True), found
    return order.scatter(0, current, first)
