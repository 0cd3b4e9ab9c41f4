"""In which order, and how often, an epoch visits the training images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, FiniteFloat

from lt_bench.data.types import ClassStats, Epoch, IntArray, effective_number
from lt_bench.errors import UserError
from lt_bench.registry import Component, Info, between
from lt_bench.settings import Settings

PURPOSE = "sampler"
"""What the draws of a run's main stream are for, the key of their generator."""


class Sampler(Component, torch.utils.data.Sampler[int], ABC):
    """Draws one epoch of positions, as many as there are training images.

    As torch's sampler, for `DataLoader(data, sampler=...)`, it draws what a run with this seed draws, epoch by epoch:
    `set_epoch` says which, from 0. `epochs` is how many there will be, for a sampler that changes over them.

    Where `ranks` processes train together, that of `rank` gets every ranks-th position of the one order, from its own
    on: their k-th batches of b images are, in all, the k-th batch of ranks * b images of a single process. `drop_last`
    leaves out the last positions that not all of them would get, so that they take equally many steps.

    Raises UserError where a class has no image.
    """

    needs_epochs: ClassVar[bool] = False
    """Whether `order` depends on how many epochs there are."""

    class Config(Settings):
        """No settings."""

    def __init__(
        self,
        labels: IntArray | Sequence[int] | torch.Tensor,
        num_classes: int | None = None,
        config: Config | None = None,
        *,
        seed: int = 0,
        epochs: int | None = None,
        rank: int = 0,
        ranks: int = 1,
        drop_last: bool = False,
        **settings: Any,
    ) -> None:
        self.config: Sampler.Config = self.settled(config, settings)
        self.labels: IntArray = np.asarray(labels)
        """int64 [N], in 0..C-1."""
        counts = ClassStats.of(self.labels, num_classes or int(self.labels.max()) + 1).counts
        self.counts = counts.numpy().astype(np.float64)
        self.seed, self.epoch, self.epochs = seed, 0, epochs
        if not 0 <= rank < ranks:
            raise UserError(f"{type(self).__name__}: there is no rank {rank} of {ranks}; the first is 0")
        images = len(self.labels)
        self.part = slice(rank, images - images % ranks if drop_last else images, ranks)
        """Of an order, what torch's sampler draws."""

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next pass draws. Raises UserError outside 0..epochs - 1."""
        if epoch < 0 or (self.epochs is not None and epoch >= self.epochs):
            of = "" if self.epochs is None else f" of {self.epochs}"
            raise UserError(f"{type(self).__name__}.set_epoch: there is no epoch {epoch}{of}; the first is 0")
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """The positions of the epoch that was set, the same at every pass until another is."""
        if self.needs_epochs and self.epochs is None:
            raise UserError(f"{type(self).__name__}: needs epochs=, how many there will be")
        epoch = Epoch(self.epoch, self.epochs or self.epoch + 1, self.seed)
        return iter(self.order(epoch, epoch.rng(PURPOSE))[self.part].tolist())

    def __len__(self) -> int:
        return len(range(*self.part.indices(len(self.labels))))

    @abstractmethod
    def order(self, epoch: Epoch, rng: np.random.Generator) -> IntArray:
        """Positions int64 [N] for this epoch, in the order of visiting."""

    def draw_by_class(self, class_probability: np.ndarray, rng: np.random.Generator) -> IntArray:
        """N draws with replacement: a class by its probability [C], then an image uniformly inside it."""
        per_image = class_probability[self.labels] / self.counts[self.labels]
        return draw_with_replacement(per_image, len(self.labels), rng)


def draw_with_replacement(weights: np.ndarray, size: int, rng: np.random.Generator) -> IntArray:
    """`size` positions drawn in proportion to `weights` [N], by inversion of the cumulative sum."""
    cumulative = np.cumsum(weights, dtype=np.float64)
    drawn = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
    # Rounding can put u * total exactly on the last edge; the clip keeps such a draw inside.
    inside: IntArray = np.minimum(drawn, len(weights) - 1).astype(np.int64)
    return inside


def inverse_size_weights(labels: IntArray, exponent: float) -> np.ndarray:
    """Weights [N] of images in proportion to n_y ** -exponent, the rarest class at 1."""
    counts = np.bincount(labels)[labels]
    # Relative to the rarest class, so that no exponent can make all weights vanish.
    weights: np.ndarray = (counts.min() / counts) ** exponent
    return weights


class Instance(Sampler):
    """Each image once per epoch, shuffled: the natural, long-tailed stream."""

    name = "instance"
    info = Info("every image once per epoch, shuffled")

    def order(self, epoch: Epoch, rng: np.random.Generator) -> IntArray:
        return rng.permutation(len(self.labels)).astype(np.int64)


class PowerSampler(Sampler):
    """Class probability proportional to n_k ** power; the named samplers below fix the power."""

    power: float

    def order(self, epoch: Epoch, rng: np.random.Generator) -> IntArray:
        weights = self.counts**self.power
        return self.draw_by_class(weights / weights.sum(), rng)


class ClassBalanced(PowerSampler):
    """Every class equally often: P(k) = 1 / C."""

    name = "class-balanced"
    info = Info("every class equally often, with replacement")
    power = 0.0


class ClassAware(Sampler):
    """Classes in turn, `images_per_visit` images at each visit, every image of a class once before any comes again.

    Classes and images are each dealt from a shuffled pack that is shuffled anew when it is empty: more even than
    independent draws (`class-balanced`). The sampler of the decoupled methods' code (Kang et al., ICLR 2020), but
    for the packs of an epoch, which are new ones here: there they last for the whole training.
    """

    name = "class-aware"
    info = Info("classes in turn, from shuffled packs of classes and images", "Kang et al., ICLR 2020", 2020)

    class Config(Sampler.Config):
        """How long a visit is."""

        images_per_visit: int = Field(default=4, ge=1)

    config: Config

    def order(self, epoch: Epoch, rng: np.random.Generator) -> IntArray:
        size = len(self.labels)
        classes = dealt(np.arange(len(self.counts)), -(-size // self.config.images_per_visit), rng)
        visited = np.repeat(classes, self.config.images_per_visit)[:size]
        order = np.empty(size, dtype=np.int64)
        for label in np.unique(visited):
            here = np.flatnonzero(visited == label)
            order[here] = dealt(np.flatnonzero(self.labels == label), len(here), rng)
        return order


def dealt(pack: np.ndarray, size: int, rng: np.random.Generator) -> IntArray:
    """`size` cards from a pack that is shuffled before it is first dealt and whenever it is empty."""
    rounds: IntArray = rng.permuted(np.tile(pack, (-(-size // len(pack)), 1)), axis=1)
    return rounds.ravel()[:size]


class SquareRoot(PowerSampler):
    """Half-way, in the exponent, between instance and class-balanced: P(k) ~ n_k ** 0.5."""

    name = "square-root"
    info = Info("class probability in proportion to the square root of its size", "Mahajan et al., ECCV 2018", 2018)
    power = 0.5


class Reverse(PowerSampler):
    """Rare classes most often: P(k) ~ n_max / n_k, the reversed sampler of BBN."""

    name = "reverse"
    info = Info("class probability in inverse proportion to its size", "Zhou et al., CVPR 2020 (BBN)", 2020)
    power = -1.0


class Progressive(Sampler):
    """Moves linearly from instance-balanced to class-balanced over the training.

    P_t(k) = (1 - t) n_k / N + t / C with t = epoch / (epochs - 1) (Kang et al., ICLR 2020).
    """

    name = "progressive"
    info = Info("from instance-balanced to class-balanced over the training", "Kang et al., ICLR 2020", 2020)

    needs_epochs = True
    acts = "leave the natural law"
    timing = "the first draws by it"

    @classmethod
    def active_epochs(cls, config: Sampler.Config, epochs: range, total: int) -> range:
        return between(epochs, 1, total)

    def order(self, epoch: Epoch, rng: np.random.Generator) -> IntArray:
        t = epoch.index / max(1, epoch.total - 1)
        return self.draw_by_class((1 - t) * self.counts / self.counts.sum() + t / len(self.counts), rng)


class EffectiveNumber(Sampler):
    """Draws images with weight 1 / E_y, the inverse of the effective number of images of their class.

    The re-sampling of LDAM's code. Close to class-balanced where classes are small against 1 / (1 - beta) images.
    """

    name = "effective-number"
    info = Info("images drawn in inverse proportion to the effective number", "Cao et al., NeurIPS 2019", 2019)

    class Config(Sampler.Config):
        """The beta of the effective number."""

        beta: float = Field(default=0.9999, ge=0, lt=1)
        """0 is uniform over images; towards 1 class-balanced."""

    config: Config

    def order(self, epoch: Epoch, rng: np.random.Generator) -> IntArray:
        weights = 1 / effective_number(self.counts, self.config.beta)
        return draw_with_replacement(weights[self.labels], len(self.labels), rng)


class Weighted(Sampler):
    """Draws images with weight n_y ** -exponent: 0 is uniform over images, 1 is class-balanced.

    The foreground stream of CMO (Park et al., CVPR 2022), where the exponent is called r.
    """

    name = "weighted"
    info = Info("images drawn with weight n ** -exponent", "Park et al., CVPR 2022 (CMO)", 2022)

    class Config(Sampler.Config):
        """The exponent r of the image weights."""

        exponent: FiniteFloat = Field(default=1.0, ge=0)

    config: Config

    def order(self, epoch: Epoch, rng: np.random.Generator) -> IntArray:
        return draw_with_replacement(inverse_size_weights(self.labels, self.config.exponent), len(self.labels), rng)
