"""Long-tailed splits, drawn as the field draws them (Cao et al., NeurIPS 2019)."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.cards import Card, Known, Profile, card_names
from lt_bench.data.spec import DataSpec
from lt_bench.errors import UserError
from lt_bench.identity import split_sha256

if TYPE_CHECKING:
    from lt_bench.data.folder import FilePart
    from lt_bench.data.sources import Pool
    from lt_bench.data.types import IntArray


@dataclass(frozen=True)
class Split:
    """One long-tailed training set with its test set, and what proves its identity."""

    card: Card
    spec: DataSpec
    """Resolved: nothing is left to the card's defaults."""
    class_names: tuple[str, ...]
    train: ArrayPart | FilePart
    """With the right labels."""
    validation: ArrayPart | FilePart | None
    test: ArrayPart | FilePart
    train_indices: IntArray
    """Positions in the original training set [N], class by class in drawn order."""
    validation_indices: IntArray
    """Positions in the original training set, empty without a validation part drawn from it."""
    content_sha256: str
    content_kind: Literal["pixels", "files"] = "pixels"
    """`pixels`: of the H x W x C bytes of the training images. `files`: of their list lines and file sizes."""
    origin: str = ""
    given: IntArray | None = None
    """The labels of the training images under `data.noise`, int64 [N], of which some are wrong. None: all are right."""

    @cached_property
    def training(self) -> ArrayPart | FilePart:
        """What a training sees: the training images with their given labels."""
        return self.train if self.given is None else replace(self.train, labels=self.given)

    @cached_property
    def given_sha256(self) -> str | None:
        """Of the given labels as little-endian int64, None where all are right."""
        return None if self.given is None else hashlib.sha256(self.given.astype("<i8").tobytes()).hexdigest()

    @cached_property
    def counts(self) -> IntArray:
        """Training images per class, by the right labels, int64 [C]."""
        return np.bincount(self.train.labels, minlength=self.card.classes)

    @cached_property
    def index_sha256(self) -> str:
        """Of the training indices as little-endian int32."""
        return index_sha256(self.train_indices)

    @cached_property
    def validation_sha256(self) -> str | None:
        """Of the validation indices as little-endian int32, None without any."""
        return index_sha256(self.validation_indices) if len(self.validation_indices) else None

    @cached_property
    def digest(self) -> str:
        """One sha256 that stands for the data of a run: all three parts, and what the card says of them."""
        card = self.card
        validation = self.validation and self.validation.sha256()
        facts: list[object] = [self.index_sha256, self.content_sha256, self.validation_sha256, validation]
        facts += [self.test_sha256, card.version, card.mean, card.std, card.flip]
        facts += [] if self.given is None else [self.given_sha256]
        return split_sha256(facts)

    @cached_property
    def test_sha256(self) -> str:
        """Of the test part, in its order."""
        return self.test.sha256()

    def facts(self) -> dict[str, object]:
        """What a record says of its data set; see `leaderboard.dataset.Dataset`."""
        return {
            "name": self.card.name,
            "version": self.card.version,
            "factor": self.spec.factor,
            "profile": self.spec.profile,
            "subset_seed": self.spec.subset_seed,
            "index_sha256": self.index_sha256,
            "content_sha256": self.content_sha256,
            "split_sha256": self.digest,
            "looks": None if self.card.name in card_names() else self.card.looks.model_dump(),
            "content_kind": self.content_kind,
            "test_sha256": self.test_sha256,
            "test_fingerprint": self.card.test_fingerprint,
            "validation_sha256": self.validation_sha256,
            "class_names": list(self.class_names),
            "train_counts": [int(n) for n in self.counts],
        }

    @property
    def expected(self) -> Known | None:
        """What the card knows about this very split."""
        spec = self.spec
        return self.card.expected(spec.profile, spec.factor, spec.n_max, spec.subset_seed)


def index_sha256(indices: IntArray) -> str:
    return hashlib.sha256(indices.astype("<i4").tobytes()).hexdigest()


def pixel_sha256(part: ArrayPart) -> str:
    return hashlib.sha256(np.ascontiguousarray(part.images).data).hexdigest()


def class_sizes(classes: int, n_max: int, factor: float, profile: Profile) -> list[int]:
    """Images per class, truncated towards zero.

    exponential: n_max * factor ** (-i / (C - 1)); step: n_max for the first half of the classes, n_max / factor
    for the rest. The spelling matters: forms through exp and log lose an image in some classes.
    """
    f = 1 / factor
    if profile == "step":
        return [n_max] * (classes // 2) + [int(n_max * f)] * (classes - classes // 2)
    return [int(n_max * f ** (i / (classes - 1))) for i in range(classes)]


def draw(
    labels: IntArray, sizes: Sequence[int], validation_per_class: int, seed: int, class_names: Sequence[str]
) -> tuple[IntArray, IntArray]:
    """Training and validation positions, class by class in drawn order.

    Each class's list is shuffled in full whatever its size, so the splits of one seed are nested; the
    validation images are the next in that list. Raises UserError for a class with too few images.
    """
    rng = np.random.RandomState(seed)  # the legacy generator: the field's splits are defined by its stream
    train, validation = [], []
    for c, size in enumerate(sizes):
        positions = np.flatnonzero(labels == c)
        rng.shuffle(positions)
        _check_class(f"class {c} ({class_names[c]})", size, validation_per_class, len(positions))
        train.append(positions[:size])
        validation.append(positions[size : size + validation_per_class])
    return np.concatenate(train), np.concatenate(validation)


def _check_class(name: str, size: int, validation: int, available: int) -> None:
    if size == 0:
        raise UserError(f"data.factor: {name} would get 0 training images; lower factor or raise data.n_max")
    if size > available:
        raise UserError(f"data.n_max: {name} has {available} training images, the split asks for {size}")
    if size + validation > available:
        raise UserError(
            f"data.validation_per_class: {name} has {available - size} unused training images, {validation} are"
            " asked for"
        )


def largest_n_max(counts: Sequence[int], factor: float, profile: Profile) -> int:
    """The most images of the largest class that classes of these sizes can serve; 0 where none can be served."""

    def served(n_max: int) -> bool:
        sizes = class_sizes(len(counts), n_max, factor, profile)
        return all(size <= count for size, count in zip(sizes, counts, strict=True))

    most = bisect_left(range(1, counts[0] + 1), True, key=lambda n_max: not served(n_max))
    return most if most and min(class_sizes(len(counts), most, factor, profile)) else 0


def draw_positions(spec: DataSpec, labels: IntArray, class_names: Sequence[str]) -> tuple[IntArray, IntArray]:
    """The training and validation positions of a resolved spec. Raises UserError where a class is too small.

    The error then names the largest n_max that all classes can serve.
    """
    assert spec.n_max is not None
    assert spec.factor is not None
    assert spec.profile is not None
    sizes = class_sizes(len(class_names), spec.n_max, spec.factor, spec.profile)
    try:
        return draw(labels, sizes, spec.validation_per_class, spec.subset_seed, class_names)
    except UserError as error:
        counts = np.bincount(labels, minlength=len(class_names)) - spec.validation_per_class
        most = largest_n_max(counts.tolist(), spec.factor, spec.profile)
        asked = f"factor {spec.factor:g}"
        if spec.validation_per_class:
            asked += f" and {spec.validation_per_class} validation images a class"
        hint = f"with {asked} data.n_max can be {most}" if most else f"no data.n_max can give {asked}"
        raise UserError(f"{error} ({hint})") from None


def draw_split(card: Card, spec: DataSpec, pool: Pool) -> Split:
    """The split that a resolved spec names. Raises UserError when the pool cannot give it."""
    indices, held_out = draw_positions(spec, pool.train.labels, pool.class_names)
    train = pool.train.take(indices)
    return Split(
        card=card,
        spec=spec,
        class_names=pool.class_names,
        train=train,
        validation=pool.train.take(held_out) if len(held_out) else None,
        test=pool.test,
        train_indices=indices,
        validation_indices=held_out,
        content_sha256=pixel_sha256(train),
        origin=pool.origin,
    )
