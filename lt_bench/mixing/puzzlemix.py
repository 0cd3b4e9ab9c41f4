"""Puzzle Mix: blocks of two images, chosen by saliency and smoothness, the salient ones moved to where they show."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, Objective, sent, with_maps
from lt_bench.mixing.mixup import draw_share
from lt_bench.mixing.pixel_gradients import gradient_length
from lt_bench.mixing.smooth_cut import smoothest_levels
from lt_bench.models.modes import evaluating
from lt_bench.registry import Info

FINE = 8
"""Blocks on a side that are moved, and compared at borders, at the least: of 4 pixels on 32, as the authors'."""
SMALL = 1e-12
"""Added to saliencies before they divide."""


class PuzzleMix(Mix):
    """x = m x_i' + (1 - m) x_j' with m in {0, 1/2, 1} by blocks; the share of y_i is the mean of m.

    m minimises, for every pair, the saliency that is lost, a prior of the drawn share, and jumps at borders of blocks,
    which cost less the better the pixels fit; x' is the image with its blocks moved so that salient ones lie where they
    show. Saliency is the length of the loss's gradient in the pixels, by one more pass in evaluation mode, whose other
    gradients are dropped. One share ~ Beta(alpha, alpha), and one number of blocks a side, 2 to 16, for a batch.

    As the authors' code but that the minimum is the global one, where theirs is a local one by alpha-beta swaps; that
    blocks move by the best assignment, where their loop ends after one round and loses those whose place another wants;
    and that pixels are compared between the darkest and the brightest of the batch. The option to keep the gradients of
    the first pass is left out; the loss is the recipe's. Cut and assignment are made on the processor, which waits for
    the device once a batch. Paper: Kim et al., ICML 2020, arXiv 2009.06962.
    """

    name = "puzzlemix"
    info = Info("blocks chosen and moved by saliency", "Kim et al., ICML 2020", 2020, cost="2x")

    class Config(Mix.Config):
        """As in the authors' code."""

        alpha: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law of the share that the prior is of. 0 is no mixing."""
        beta: FiniteFloat = Field(default=1.2, ge=0)
        """Weight of jumps between neighbouring blocks."""
        gamma: float = Field(default=0.5, ge=0, le=1)
        """How much of it depends on the pixels at the border; above 1 a jump could be worth something."""
        eta: FiniteFloat = Field(default=0.2, ge=0)
        """Weight of the prior."""
        transport: bool = True
        """Whether blocks are moved."""
        distance: FiniteFloat = Field(default=0.8, ge=0)
        """What it costs to move a block: so much saliency times the square of the way, in sides of the image."""

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        """As if everything were salient alike: saliency is `loss`'s, which has the network."""
        return self.mixed(batch, partner, step, lambda seen: torch.ones_like(seen.images[:, 0]))

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        def saliency_of(seen: Batch) -> Tensor:
            with evaluating(objective.network):
                return gradient_length(objective, seen)

        return objective.of(self.mixed(batch, partner, step, saliency_of))

    def mixed(self, batch: Batch, partner: Batch | None, step: Step, saliency_of: Callable[[Batch], Tensor]) -> Mixed:
        """The batch mixed by saliencies [B, H, W], none of them negative."""
        share, wanted = draw_share(self.config.alpha, step.rng), 2 ** int(step.rng.integers(1, 5))
        if share == 1:
            return Mixed.plain(batch)
        saliency, partner, other = with_maps(batch, partner, saliency_of, step.rng)
        with torch.no_grad():
            return self.puzzled(batch, partner, torch.stack([saliency, other]).float(), share, wanted)

    def puzzled(self, batch: Batch, partner: Batch, saliency: Tensor, share: float, wanted: int) -> Mixed:
        """The pairs mixed, by saliencies [2, B, H, W], in `wanted` blocks a side or as many as divide the sides."""
        pair = torch.stack([batch.images, partner.images])
        sides = math.gcd(*pair.shape[-2:])
        blocks, fine = math.gcd(wanted, sides), math.gcd(max(wanted, FINE), sides)
        unary, *borders = self.energy(pooled(saliency, blocks), pooled(from_zero_to_one(pair), fine), share)
        mask = sent(smoothest_levels(unary, *borders) / 2, pair.device)
        if self.config.transport:
            kept, whole = enlarged(mask, fine, fine), pooled(saliency, fine)
            shown = torch.stack([kept > 0, kept < 1]).float()
            pair = torch.stack([self.transported(*each) for each in zip(pair, whole, shown, strict=True)])
        pixels = enlarged(mask, *pair.shape[-2:])
        own = mask.mean((1, 2))
        return Mixed(torch.lerp(pair[1], pair[0], pixels[:, None]), ((batch.labels, own), (partner.labels, 1 - own)))

    def energy(self, saliency: Tensor, pictures: Tensor, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What blocks cost, [3, B, b, b], that have none, half or all of image i, and jumps between neighbours.

        Those are [B, b - 1, b] downwards and [B, b, b - 1] to the right, times the squared difference of m. Of
        saliencies [2, B, b, b] and pictures [2, B, 3, g, g], g a multiple of b.
        """
        count = saliency.shape[-1]
        own = saliency / saliency.sum((2, 3), keepdim=True)
        lost, jumps = own.flip(0), []  # by having all of image i, by having all of j
        for axis in (2, 3):
            far = differences(pictures if axis == 2 else pictures.mT, count)
            far = self.config.beta * self.config.gamma / (16 * count) * (far if axis == 2 else far.mT)
            lost.narrow(axis, 0, count - 1).add_(far.mean(1))
            lost.narrow(axis, 1, count - 1).add_(far.mean(0))
            fitting = (far[0, 1] + far[1, 0] - far[0, 0] - far[1, 1]) / 2
            jumps.append((fitting + self.config.beta / (16 * count)).clamp_min(0).double().cpu().numpy())
        prior = np.array([(1 - share) ** 2, 2 * share * (1 - share), share**2])
        unlikely = -self.config.eta / count**2 * np.log(prior + 1e-8)
        costs = torch.stack([lost[1], lost.mean(0), lost[0]]).double().cpu().numpy()
        return costs + unlikely[:, None, None, None], jumps[0], jumps[1]

    def transported(self, images: Tensor, saliency: Tensor, shown: Tensor) -> Tensor:
        """Images [B, 3, H, W] with their blocks moved, by saliencies and what is to be shown, each [B, g, g]."""
        count = saliency.shape[-1]
        part = (saliency / saliency.sum((1, 2), keepdim=True)).flatten(1).double().cpu().numpy()
        order = assigned(self.config.distance * ways(count), part, shown.flatten(1).cpu().numpy())
        height, width = (side // count for side in images.shape[-2:])
        tiles = images.reshape(-1, 3, count, height, count, width).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        index = torch.from_numpy(order).to(images.device, non_blocking=True)
        moved = tiles[torch.arange(len(images), device=images.device)[:, None], index]
        return moved.view(-1, count, count, 3, height, width).permute(0, 3, 1, 4, 2, 5).reshape(images.shape)


def pooled(maps: Tensor, count: int) -> Tensor:
    """Maps [2, B, ..., H, W] as means over blocks, `count` on a side, none of them 0: [2, B, ..., count, count]."""
    height, width = (side // count for side in maps.shape[-2:])
    found = F.avg_pool2d(maps.flatten(0, -3), (height, width))
    return found.view(*maps.shape[:-2], count, count) + SMALL


def from_zero_to_one(images: Tensor) -> Tensor:
    """Images [2, B, 3, H, W] between the darkest and the brightest of each channel: normalised ones as pixels again."""
    lowest, highest = images.amin((0, 1, 3, 4), keepdim=True), images.amax((0, 1, 3, 4), keepdim=True)
    return (images - lowest) / (highest - lowest).clamp_min(SMALL)


def differences(pictures: Tensor, count: int) -> Tensor:
    """How far two pictures are apart at the borders of blocks, `count` on a side: [2, 2, B, count - 1, count].

    Entry a, c: the last row of a block of picture a and the first of the block below of picture c, of [2, B, 3, g, g].
    """
    size = pictures.shape[-1] // count
    above, below = pictures[..., size - 1 : -1 : size, :], pictures[..., size::size, :]
    far = (above[:, None] - below[None]).abs().mean(3)
    return far.view(*far.shape[:-1], count, size).mean(-1)


def enlarged(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask [B, b, b] in blocks that divide the sides, as [B, height, width]."""
    rows, columns = height // mask.shape[1], width // mask.shape[2]
    return mask.repeat_interleave(rows, 1).repeat_interleave(columns, 2)


def ways(count: int) -> np.ndarray:
    """The squares of the ways between blocks, `count` on a side, in sides of the image: [N, N]."""
    rows, columns = np.divmod(np.arange(count**2), count)
    squares = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    found: np.ndarray = squares / max(count - 1, 1) ** 2
    return found


def assigned(ways: np.ndarray, saliency: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Which block comes to each place, int64 [B, N], so that most saliency is shown for the least way.

    Of what a way costs, [N, N], and of saliencies and what is shown, [B, N] each.
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 (slow to import)

    found = (linear_sum_assignment(ways - part[:, None] * places) for part, places in zip(saliency, shown, strict=True))
    return np.stack([blocks[np.argsort(places)] for blocks, places in found])
