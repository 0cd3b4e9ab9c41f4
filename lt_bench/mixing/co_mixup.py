"""Co-Mixup: blocks of many images in one, chosen for a batch at once, so that the mixtures are salient and differ."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, Step, cut
from lt_bench.mixing import Mix, Mixed, Objective, Term, sent
from lt_bench.mixing.guided_mixup import in_float32
from lt_bench.mixing.pixel_gradients import gone_back, gradient_length, length
from lt_bench.mixing.puzzlemix import SMALL, pooled
from lt_bench.mixing.swap_moves import WIDEST, swapped_labels
from lt_bench.models.modes import evaluating
from lt_bench.ranks.division import for_images, largest
from lt_bench.registry import Info

WINDOW = 8
"""Pixels on a side of the place that counts as an image's most salient one."""
HALVES = 3
"""Images of a mixture of which two may share a block, half and half, at the most."""
HALF_JUMP = 0.25
"""What a jump costs between a block of two images and one of either, of what it costs between others."""
BONUS = 5e-4
"""How much less than the mean of the two such a block costs."""
EVEN = 1e-6
"""Part of the cost that a round has to change, or it is the last."""


class CoMixup(Mix):
    """Mixtures of all images in a part of the batch, which take their blocks at the least cost of the part together.

    A block costs the saliency that it shows, of 1 an image, with a minus, and -eta / blocks^2 times the logarithm of
    the image's weight, of a prior ~ Dirichlet(alpha); a border between blocks of different images costs beta /
    blocks^2. A block of image i costs 2 gamma (A o)_i more: o is how much the other mixtures show of each image, 1
    being all of it, but 0 where A o is not above tau at first; A = (1 - omega) 1 + omega times how far apart the most
    salient places of two images are. The labels' shares are those of blocks.

    Mixtures are found one after the other, by alpha-beta swaps, until a round of it changes next to nothing. From the
    second round on two images of a mixture may share a block, half and half; in the last that there may be, mixtures
    of the same images are charged for one of them. The loss is that of the images as they are, whose gradient the
    saliency is the length of, and that of the mixtures, as the recipe has it; the authors have on CIFAR the mean over
    the classes of the mixtures' binary cross entropies of the softmax, and 2 / C of the cross entropy of C classes.

    Left out: numbers of blocks at random, a softer threshold, and leaving mixtures of the same images. Swaps are made
    on the processor, which waits for the device once a batch of one process; without a C++ compiler they take two
    hundred times as long. Paper: Kim et al., ICLR 2021, arXiv 2102.03065; read from the released code.
    """

    name = "co-mixup"
    info = Info("blocks of many images, chosen for a batch at once", "Kim et al., ICLR 2021", 2021, cost="2.7x")
    refuses_partners = "it mixes the images of one batch"
    of_two_labels = False

    class Config(Mix.Config):
        """As in the authors' code for CIFAR."""

        alpha: float = Field(default=2.0, ge=0.01, le=1000)
        """Parameter of the Dirichlet law of the prior; 1 on ImageNet, whatever their settings say."""
        beta: float = Field(default=0.32, ge=0, le=1000)
        """Weight of borders; theirs are from 0.16 to 0.48."""
        gamma: float = Field(default=1.0, ge=0, le=1000)
        """Weight of what mixtures have in common."""
        eta: float = Field(default=0.05, ge=0, le=1000)
        """Weight of the prior."""
        tau: FiniteFloat = Field(default=0.83, ge=0)
        """How much of an image the others may show before a mixture is charged for it, 1 being all its blocks."""
        omega: float = Field(default=0.001, ge=0, le=1)
        """How much a mixture is charged for images as far apart as the others', not for the same ones alone."""
        blocks: int = Field(default=4, ge=1, le=WIDEST)
        """Blocks on a side, or the largest number below it that divides both sides. Of 8 the swaps take twenty times
        as long as of 4."""
        part: int = Field(default=20, ge=2)
        """Images that are mixed with one another; 16 on ImageNet."""
        rounds: int = Field(default=4, ge=1)
        """Times that each mixture is found at the most, the others held; 3 on ImageNet."""
        clean: FiniteFloat = Field(default=1.0, ge=0)
        """Weight of the loss of the images as they are; with 0 their pass, in evaluation mode, is for saliency."""

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        """As if everything were salient alike: saliency is `loss`'s, which has the network."""
        return self.mixed(batch, torch.ones_like(batch.images[:, 0]), step)

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        if self.config.clean == 0:
            with evaluating(objective.network):
                saliency = gradient_length(objective, batch)
            return objective.of(self.mixed(batch, saliency, step))
        images = batch.images.detach().requires_grad_()
        clean = objective.loss(objective.answer(images), ((batch.labels, 1.0),))
        clean, gradient = gone_back(clean, images)
        return self.config.clean * clean + objective.of(self.mixed(batch, length(gradient), step))

    @torch.no_grad()
    @in_float32
    def mixed(self, batch: Batch, saliency: Tensor, step: Step) -> Mixed:
        """The batch mixed by saliencies [B, H, W], none of them negative."""
        size, blocks, draw = len(saliency), self._blocks(*saliency.shape[1:]), step.rng
        prior = for_images(size, lambda count: draw.standard_gamma(self.config.alpha, count))
        start = for_images(size, lambda count: draw.random((count, blocks, blocks)))
        seen = torch.cat([pooled(saliency, blocks).flatten(1), most_salient(saliency)], 1).double().cpu().numpy()
        visible, places = seen[:, :-2].reshape(size, blocks, blocks), seen[:, -2:]
        images, whole = [], np.zeros((size, size))
        for part in cut(size, self.config.part):
            shares = self.mixtures(visible[part], places[part], prior[part], start[part])
            images.append(put_together(batch.images[part], sent(shares, saliency.device)))
            whole[part, part] = shares.mean((1, 2))
        return Mixed(torch.cat(images), terms_of(whole, batch.labels))

    def mixtures(self, saliency: np.ndarray, places: np.ndarray, prior: np.ndarray, start: np.ndarray) -> np.ndarray:
        """What mixtures show in their blocks: shares [n, b, b, n] of n images.

        Of saliencies [n, b, b], the most salient places [n, 2], weights [n] that the prior is made of, and numbers
        [n, b, b] of 0..1 that say which images are shown at first.
        """
        (count, blocks, _), settings = saliency.shape, self.config
        prior, visible = prior / prior.sum(), saliency / saliency.sum((1, 2), keepdims=True)
        costs = -visible.transpose(1, 2, 0) - settings.eta / blocks**2 * np.log(prior + 1e-8)
        likeness = (1 - settings.omega) * np.eye(count) + settings.omega * apart(places)
        shares: np.ndarray = np.eye(count)[(start * count).astype(np.int64)]
        charged, before = np.zeros((count, count)), self.cost(shares, costs)
        for turn in range(settings.rounds):
            for one in range(count):
                amounts = shares.sum((1, 2))
                others = amounts.sum(0) - amounts[one]
                others[likeness @ others <= settings.tau * blocks**2] = 0
                charge = settings.gamma / blocks**2 * (2 * likeness @ others + charged[one])
                shares[one] = self.chosen(costs + charge, amounts[one] if turn else None)
            if turn == settings.rounds - 2:
                charged = told_apart(shares.sum((1, 2)) > 0)
            now = self.cost(shares, costs)
            if abs(before - now) < EVEN * abs(now):
                break
            before = now
        return shares

    def cost(self, shares: np.ndarray, costs: np.ndarray) -> float:
        """What mixtures [n, b, b, n] cost together, whatever the threshold, of costs [b, b, n]."""
        amounts = shares.sum((1, 2))
        borders = sum((np.diff(shares, axis=axis) ** 2).sum() for axis in (1, 2)) / 2
        common = (amounts.sum(0) ** 2).sum() - (amounts**2).sum()
        weighted = self.config.beta * borders + self.config.gamma * common
        return float((shares * costs).sum() + weighted / costs[..., 0].size)

    def chosen(self, costs: np.ndarray, amounts: np.ndarray | None) -> np.ndarray:
        """Shares [b, b, n] in the blocks of a mixture, of costs [b, b, n] and how many blocks each image has [n]."""
        count = costs.shape[-1]
        parts, jumps = with_halves(np.zeros(count) if amounts is None else amounts)
        costs = costs @ parts.T - BONUS * (parts.max(1) < 1)
        shares: np.ndarray = parts[swapped_labels(costs, self.config.beta / costs[..., 0].size * jumps)]
        return shares

    def _blocks(self, height: int, width: int) -> int:
        sides = math.gcd(height, width)
        return max(count for count in range(1, self.config.blocks + 1) if sides % count == 0)


def most_salient(saliency: Tensor) -> Tensor:
    """Row and column, [B, 2], of the square of WINDOW pixels on a side where saliencies [B, H, W] are most."""
    found = F.avg_pool2d(saliency[:, None], min(WINDOW, *saliency.shape[1:]), stride=1)[:, 0]
    place = found.flatten(1).argmax(1)
    return torch.stack([place // found.shape[2], place % found.shape[2]], 1)


def apart(places: np.ndarray) -> np.ndarray:
    """How far places [n, 2] are apart, in rows and columns, [n, n], the mean of a row being 1 over all."""
    ways = np.abs(places[:, None] - places).sum(-1)
    found: np.ndarray = ways * len(ways) / max(ways.sum(), SMALL)
    return found


def with_halves(amounts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a block can show: each of n images, and halves of two of those that have most blocks, by amounts [n].

    As shares [L, n] of the images, and what jumps between them cost, [L, L].
    """
    count = len(amounts)
    most = np.argsort(-amounts, kind="stable")[:HALVES]
    pairs = [*combinations(np.sort(most[amounts[most] > 0]), 2)]
    halves = np.zeros((len(pairs), count))
    for row, pair in zip(halves, pairs, strict=True):
        row[[*pair]] = 0.5
    jumps = 1 - np.eye(count + len(pairs))
    jumps[count:, :count][halves > 0] = HALF_JUMP
    jumps[:count, count:] = jumps[count:, :count].T
    return np.concatenate([np.eye(count), halves]), jumps


def told_apart(shown: np.ndarray) -> np.ndarray:
    """What mixtures are charged for images, [n, n], so that no two show the same ones, of what they show, bool [n, n].

    Of two mixtures of the same images, more than one, the first is charged for the first of these, the other for the
    second.
    """
    charged = np.zeros(shown.shape)
    for one, other in combinations(range(len(shown)), 2):
        if shown[one].sum() > 1 and (shown[one] == shown[other]).all():
            first, second, *_ = shown[one].nonzero()[0]
            charged[one, first] = charged[other, second] = 1
    return charged


def put_together(images: Tensor, shares: Tensor) -> Tensor:
    """Mixtures [n, 3, H, W] of images [n, 3, H, W], by the shares [n, b, b, n] of the images in blocks."""
    blocks = shares.shape[1]
    height, width = (side // blocks for side in images.shape[2:])
    tiles = images.reshape(-1, 3, blocks, height, blocks, width)
    return torch.einsum("ohwi,ichywx->ochywx", shares.to(images.dtype), tiles).reshape(images.shape)


def terms_of(shares: np.ndarray, labels: Tensor) -> tuple[Term, ...]:
    """The labels of mixtures, of shares [B, B] of images with labels [B], in as many terms as the most mixed one needs.

    Where another one has fewer, it has no share of the rest, whose label is its first: a loss that weighs labels by
    their classes counts them whatever their shares.
    """
    most = largest(int((shares > 0).sum(1).max()), labels.device)
    order = np.argsort(-shares, kind="stable")[:, :most]
    weights = np.take_along_axis(shares, order, 1)
    order = np.where(weights > 0, order, order[:, :1])
    found = labels[torch.from_numpy(order).to(labels.device, non_blocking=True)]
    return tuple(zip(found.unbind(1), sent(weights, labels.device).unbind(1), strict=True))
