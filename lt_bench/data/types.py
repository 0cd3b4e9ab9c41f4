"""What flows from the data room to the others: class statistics, batches, image sets, randomness."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from lt_bench.errors import UserError, shown

T = TypeVar("T", np.ndarray, Tensor)

IntArray = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def generator(seed: int, purpose: str, epoch: int = 0) -> np.random.Generator:
    """The source of randomness for one purpose in one epoch.

    Every draw of a run comes from a generator keyed this way, so that a run resumed at an epoch
    boundary draws what the uninterrupted run would have drawn.
    """
    key = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "little")))


def effective_number(counts: T, beta: float) -> T:
    """E_n = (1 - beta^n) / (1 - beta) of each class, from its number n of images (Cui et al., CVPR 2019)."""
    return (1 - beta**counts) / (1 - beta)


@dataclass(frozen=True)
class ClassStats:
    """Training images per class, which most long-tail methods are functions of."""

    counts: Tensor
    """int64 [C], each at least 1."""

    @property
    def num_classes(self) -> int:
        return len(self.counts)

    @property
    def prior(self) -> Tensor:
        """Class frequencies, float32 [C], summing to 1."""
        return (self.counts.double() / self.counts.sum()).float()

    @classmethod
    def of_counts(cls, counts: Counts) -> ClassStats:
        """From training images per class [C], in whatever form. Raises UserError unless all are integers above 0."""
        if isinstance(counts, ClassStats):
            return counts
        found = counts.detach().cpu().numpy() if isinstance(counts, Tensor) else np.array(counts)
        numbers = found.ndim == 1 and len(found) > 0 and found.dtype.kind in "iuf" and np.isfinite(found).all()
        if not numbers or (found % 1).any():
            raise UserError(f"counts: should be the training images of each class, found {shown(counts)}")
        if found.min() < 1:
            raise UserError(f"counts: class {found.argmin()} has {found.min():g} training images")
        return cls(torch.from_numpy(found.astype(np.int64)))

    @classmethod
    def of(cls, labels: IntArray, num_classes: int) -> ClassStats:
        """Count labels int64 [N] with values in 0..num_classes-1. Raises UserError where a class has no image."""
        counts = np.bincount(labels, minlength=num_classes)
        if not counts.all():
            empty = np.flatnonzero(counts == 0)
            raise UserError(f"{len(empty)} of {num_classes} classes have no training image, the first is {empty[0]}")
        return cls(torch.from_numpy(counts))


Counts = ClassStats | Sequence[int] | np.ndarray | Tensor
"""Training images per class, as scripts have them."""


@dataclass(frozen=True)
class Views:
    """Which part of which training image each image of a batch shows, for maps that belong to the whole ones."""

    positions: Tensor
    """int64 [B], of the images in their set."""
    boxes: Tensor
    """float32 [B, 4]: left, top, right, bottom of the crop in sides of the whole image; padding lies outside 0..1."""
    mirrored: Tensor
    """bool [B]: whether the crop was mirrored afterwards."""

    def __getitem__(self, index: slice | Tensor) -> Views:
        return Views(self.positions[index], self.boxes[index], self.mirrored[index])

    def to(self, device: torch.device | str) -> Views:
        return Views(*(part.to(device, non_blocking=True) for part in (self.positions, self.boxes, self.mirrored)))


@dataclass(frozen=True)
class Batch:
    """Images float32 [B, 3, H, W], augmented and normalised, with labels int64 [B].

    Of a test image there may be several views, [B, V, 3, H, W], whose mean logits are its prediction. An image set
    says which `views` of its images they are, [B, V, ...] where there are several; batches from elsewhere need not.
    """

    images: Tensor
    labels: Tensor
    views: Views | None = None

    def __getitem__(self, index: slice | Tensor) -> Batch:
        return Batch(self.images[index], self.labels[index], None if self.views is None else self.views[index])

    def to(self, device: torch.device | str) -> Batch:
        images, labels = (part.to(device, non_blocking=True) for part in (self.images, self.labels))
        return Batch(images, labels, None if self.views is None else self.views.to(device))


def first_of_each(labels: IntArray, count: int | None) -> IntArray:
    """Positions int64 of at most so many images of each class, those that come first, in order; None: of all images."""
    if count is None:
        return np.arange(len(labels))
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    return np.sort(order[np.arange(len(labels)) - starts < count])


def cut(images: int, batch_size: int) -> list[slice]:
    """Where each batch lies in an order of so many images, the last one shorter when it does not divide."""
    return [slice(start, min(start + batch_size, images)) for start in range(0, images, batch_size)]


class ImageSet(Protocol):
    """A labelled set of images, device-resident or streamed from files.

    `labels` is int64 [N] on the host; positions 0..N-1 name the images.
    """

    labels: IntArray

    def stream(
        self,
        order: IntArray,
        batch_size: int,
        rng: np.random.Generator,
        progress: float = 0.0,
        places: Sequence[slice] | None = None,
    ) -> Iterator[Batch]:
        """Augmented batches of the images at `order`, the last one shorter when it does not divide.

        `progress` is the share of the training that is over, in [0, 1]. `places` are those of the order that are asked
        for, a batch each: what is drawn is drawn for all, what is made is made of these alone.
        """
        ...

    def clean(self, batch_size: int, places: Sequence[slice] | None = None) -> Iterator[Batch]:
        """All images once, in order, under the evaluation transform; or those at `places`, a batch each.

        Sets of test and validation images may give several views of each.
        """
        ...

    def whole(self, batch_size: int) -> Iterator[Tensor]:
        """All images once, in order, uint8 [B, 3, H, W]: nothing of them cut off, each scaled to the size of `clean`.

        What `Views.boxes` are shares of.
        """
        ...


@dataclass(frozen=True)
class Epoch:
    """Where training stands, at the granularity of epochs. `index` counts from 0 to `total` - 1."""

    index: int
    total: int
    seed: int

    @property
    def progress(self) -> float:
        """Share of the training that is over when it begins."""
        return self.index / self.total

    def rng(self, purpose: str) -> np.random.Generator:
        return generator(self.seed, purpose, self.index)


@dataclass(frozen=True)
class Step:
    """Where training stands within an epoch; `rng` is the epoch's source of randomness for the method."""

    epoch: Epoch
    index: int
    total: int
    rng: np.random.Generator

    @classmethod
    def at(cls, index: int, total: int, *, epoch: int, epochs: int, seed: int) -> Step:
        """Step `index` of the `total` of an epoch, all counted from 0, for a loop of one's own.

        Its draws follow from seed, epoch and index: a script that goes on in the middle draws what it would have.
        """
        return cls(Epoch(epoch, epochs, seed), index, total, generator(seed, f"step {index}", epoch))
