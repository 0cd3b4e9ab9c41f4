"""PixMix: an image mixed with pictures of no class, or with varied copies of itself, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.types import Batch, ClassStats, Step
from lt_bench.errors import UserError
from lt_bench.mixing import MapsOf, Mix, Mixed, Objective, sent
from lt_bench.mixing.picture_stock import GivenPictures
from lt_bench.mixing.varying import LEAST, LEVELS, OPERATIONS, each_varied, mean_and_std, pixels_of
from lt_bench.ranks.division import for_images
from lt_bench.registry import Info

DARKEST = 1e-37
"""Of a picture that is multiplied with: its power may be negative."""


class PixMix(Mix):
    """x <- clip(x + y) or clip(x * y), weighted at random, in up to k rounds; the label stays that of the image.

    The first x is the image or a varied copy. In every round a coin says whether y is another varied copy or the
    picture, one for an image, cropped at random. In -1..1 the sum is a x + b y, in 0..2 the product x^a y^b, where a
    coin says whether a ~ Beta(beta, 1) and b ~ Beta(1, beta), or a - 1 and -b ~ Beta(1, beta). The rounds are 0 to k,
    each number as likely. Copies are varied by one operation of AugMix, of a level ~ U(0.1, severity) of ten; where its
    authors cut degrees, pixels and bits to whole ones, these are as in `augmix`. The four operations on colours and
    sharpness, which a switch of their code adds, are left out: test sets of corruptions hold these. It comes after
    whatever else varies the image.

    The authors' pictures, fractals and visualised features, do not ship: any folder of images is taken, whose path and
    digest are part of the run. Paper: Hendrycks et al., CVPR 2022, arXiv 2112.05135; read from the released code.
    """

    name = "pixmix"
    info = Info("an image mixed with pictures of no class, label kept", "Hendrycks et al., CVPR 2022", 2022)
    refuses_partners = "it mixes with pictures of no class"
    of_two_labels = False

    class Config(Mix.Config):
        """As in the authors' code for CIFAR."""

        pictures: GivenPictures = None
        """A folder of images to mix with, which are kept in memory."""
        rounds: int = Field(default=4, ge=1)
        """k, the most that there can be."""
        beta: FiniteFloat = Field(default=3.0, gt=0)
        """Of the laws of the weights: the larger, the more is left of the image; 4 on ImageNet."""
        severity: float = Field(default=3.0, ge=LEAST, le=LEVELS)
        """Highest level of an operation; 1 on ImageNet."""
        enlarged: FiniteFloat = Field(default=1.125, ge=1, le=4)
        """Shorter side of a picture in sides of the images, before it is cropped; 8/7 on ImageNet."""

    config: Config

    @classmethod
    def check_given(cls, config: Config) -> None:
        if config.pictures is None:
            raise UserError(
                "mix.pictures: pixmix mixes with pictures of no class, such as fractals, which do not ship: name a "
                "folder of images, mix.pictures=FOLDER"
            )

    def prepare(self, stats: ClassStats) -> None:
        self.stock: tuple[int, tuple[Tensor, ...]] = (0, ())  # the side that pictures are scaled to, and they

    def teach(self, maps_of: MapsOf) -> None:
        """Nobody teaches it, but here is where a training begins that lacks its pictures."""
        self.check_given(self.config)
        assert self.config.pictures is not None
        self.config.pictures.check()

    def pictures(self, side: int) -> tuple[Tensor, ...]:
        """They, read at the first batch of a size."""
        assert self.config.pictures is not None, "a training has begun"
        if self.stock[0] != side:
            self.stock = side, self.config.pictures.scaled(side)
        return self.stock[1]

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        """The batch itself, where nothing is trained: how pixels are normalised is known to `loss` alone."""
        return Mixed.plain(batch)

    @torch.no_grad()
    def mixture(self, objective: Objective, batch: Batch, step: Step) -> Tensor:
        """Each image mixed in its rounds, [B, 3, H, W]."""
        size, _, height, width = batch.images.shape
        mean, std = mean_and_std(objective.normalisation, batch.images.device)
        rounds = self.config.rounds
        drawn = Drawn.of(for_images(size, lambda n: draw(n, rounds, self.config, step.rng)), rounds)
        stock = self.pictures(round(self.config.enlarged * max(height, width)))
        pictures = torch.stack([cropped(stock, place, height, width) for place in drawn.picture])
        pictures = pictures.to(batch.images.device, non_blocking=True) / 255
        pixels = pixels_of(batch.images, objective.normalisation).repeat(rounds + 1, 1, 1, 1)
        copies = each_varied(pixels, drawn.operation.T.ravel(), drawn.share.T.ravel()) / 255
        copies = copies.view(-1, *batch.images.shape)
        mixed = copies[0]
        for index in range(rounds):
            varied, depth, product, a, b = (
                sent(values, mixed.device).view(-1, 1, 1, 1)
                for values in (drawn.operation[:, index + 1] >= 0, drawn.depth, *drawn.weights[:, index].T)
            )
            other = torch.where(varied > 0, copies[index + 1], pictures)
            either = torch.where(product > 0, multiplied(mixed, other, a, b), added(mixed, other, a, b))
            mixed = torch.where(index < depth, either.clamp(0, 1), mixed)
        return (mixed - mean) / std

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        return objective.of(Mixed(self.mixture(objective, batch, step), ((batch.labels, 1.0),)))


class Drawn(NamedTuple):
    """What happens to B images in k rounds."""

    depth: np.ndarray
    """How many of the rounds, [B]."""
    operation: np.ndarray
    """At the start and in each round, [B, 1 + k]: places in OPERATIONS, -1 for the image itself, or the picture."""
    share: np.ndarray
    """[B, 1 + k], as in `each_varied`."""
    weights: np.ndarray
    """Whether it is a product, a and b, [B, k, 3]."""
    picture: np.ndarray
    """Which one, and from where it is cropped, downwards and to the right, each in 0..1: [B, 3]."""

    @classmethod
    def of(cls, values: np.ndarray, rounds: int) -> Drawn:
        """From what `draw` gives, [B, 6 + 5 k]."""
        ends = np.cumsum([1, 1 + rounds, 1 + rounds, 3 * rounds])
        depth, operation, share, weights, picture = np.split(values, ends, axis=1)
        return cls(depth[:, 0], operation, share, weights.reshape(-1, rounds, 3), picture)


def draw(size: int, rounds: int, config: PixMix.Config, rng: np.random.Generator) -> np.ndarray:
    """What happens to `size` images, as one array."""
    shape = (size, rounds)
    depth = rng.integers(0, rounds + 1, (size, 1))
    begun = (size, 1 + rounds)
    operation = np.where(rng.random(begun) < 0.5, rng.integers(0, len(OPERATIONS), begun), -1)
    share = rng.uniform(LEAST, config.severity, begun) * rng.choice([-1, 1], begun) / LEVELS
    product, less = rng.random((2, *shape)) < 0.5  # less of the image, or more of it
    a = np.where(less, rng.beta(config.beta, 1, shape), 1 + rng.beta(1, config.beta, shape))
    b = np.where(less, 1, -1) * rng.beta(1, config.beta, shape)
    weights = np.stack([product, a, b], -1).reshape(size, -1)
    return np.concatenate([depth, operation, share, weights, rng.random((size, 3))], 1)


def cropped(stock: Sequence[Tensor], place: np.ndarray, height: int, width: int) -> Tensor:
    """A part [3, height, width] of one of the pictures, for three numbers in 0..1: which one, from where."""
    picture = stock[int(place[0] * len(stock))]
    sides = zip(place[1:], picture.shape[1:], (height, width), strict=True)
    top, left = (int(part * (whole - side + 1)) for part, whole, side in sides)
    return picture[:, top : top + height, left : left + width]


def added(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A x + b y of pixels in 0..1, seen as -1..1."""
    return (a * (2 * x - 1) + b * (2 * y - 1) + 1) / 2


def multiplied(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """x^a y^b of pixels in 0..1, seen as 0..2."""
    return (2 * x) ** a * (2 * y).clamp(min=DARKEST) ** b / 2
