"""Wrong labels for the images of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.noise import (
    Asymmetric,
    Cifar10N,
    Drawn,
    InstanceDependent,
    Noise,
    PairFlip,
    Symmetric,
    SymmetricExclusive,
)
from lt_bench.data.noise.confusions import confused_with
from lt_bench.data.noise.human import human_labels
from lt_bench.errors import UserError

if TYPE_CHECKING:
    from lt_bench.data.folder import FilePart
    from lt_bench.data.split import Split
    from lt_bench.data.types import IntArray

SPREAD = 0.1
"""Standard deviation of the rates of single images under instance-dependent noise."""
TRAIN, VALIDATION = 0, 1
"""Parts, each with draws of its own, so that one does not depend on the size of the other."""


def with_noise(split: Split, noise: Noise, root: Path) -> Split:
    """The split with given labels of which some are wrong; a validation part has them too, for nobody has better.

    Raises UserError where the noise is not known for these images, or leaves a class without any label.
    """
    given = _given(split, split.train, split.train_indices, noise, root, TRAIN)
    empty = np.flatnonzero(np.bincount(given, minlength=split.card.classes) == 0)
    if len(empty):
        named = f"class {empty[0]} ({split.class_names[empty[0]]})"
        raise UserError(f"data.noise: it leaves no training image labelled as {named}; lower the rate, or change seed")
    validation = split.validation
    if validation is not None:
        labels = _given(split, validation, split.validation_indices, noise, root, VALIDATION)
        validation = replace(validation, labels=labels)
    spec = split.spec.model_copy(update={"noise": noise})
    return replace(split, spec=spec, given=given, validation=validation)


def _given(
    split: Split, part: ArrayPart | FilePart, indices: IntArray, noise: Noise, root: Path, which: int
) -> IntArray:
    if isinstance(noise, Cifar10N):
        return human_labels(split.card, noise, part.labels, indices, root)
    rng = np.random.Generator(np.random.PCG64([noise.seed, which]))
    if isinstance(noise, InstanceDependent):
        if not isinstance(part, ArrayPart):
            raise UserError(f"data.noise.name: {noise.name} reads pixels, and {split.card.name} is a set of files")
        return by_instance(part, split.card.classes, noise.rate, rng)
    law = transition(noise, split.class_names)
    return draw_labels(part.labels, law, rng)


def transition(noise: Drawn, class_names: Sequence[str]) -> np.ndarray:
    """The law of given labels: float64 [C, C], a row for each right label. Raises UserError for unknown classes."""
    classes = len(class_names)
    stays = np.eye(classes)
    match noise:
        case Symmetric():
            goes = np.full((classes, classes), 1 / classes)
        case SymmetricExclusive():
            goes = (1 - stays) / (classes - 1)
        case PairFlip():
            goes = np.roll(stays, 1, axis=1)
        case Asymmetric():
            goes = stays[confused_with(class_names)]
        case _:
            raise TypeError(f"{noise} has no law by classes")
    return (1 - noise.rate) * stays + noise.rate * goes


def draw_labels(labels: IntArray, law: np.ndarray, rng: np.random.Generator) -> IntArray:
    """A label for each image by the row [C] of its right label, by inversion, one number drawn an image."""
    return _inverted(law[labels], rng)


def by_instance(part: ArrayPart, classes: int, rate: float, rng: np.random.Generator) -> IntArray:
    """Labels by the pixels x, 0 to 255: another than y with probability q ~ N(rate, 0.1²) in [0, 1], then by
    softmax(x W_y) over the others, W_y ~ N(0, 1) of shape [pixels, C].
    """
    flips = truncated_normal(rate, SPREAD, rng.random(len(part.labels)))
    law = np.zeros((len(part.labels), classes))
    for label in range(classes):
        weights = rng.standard_normal((part.images[0].size, classes), dtype=np.float32)
        here = np.flatnonzero(part.labels == label)
        scores = part.images[here].reshape(len(here), part.images[0].size).astype(np.float32) @ weights
        scores[:, label] = -np.inf
        shares = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
        law[here] = flips[here, None] * shares / shares.sum(axis=1, keepdims=True)
        law[here, label] = 1 - flips[here]
    return _inverted(law, rng)


def truncated_normal(mean: float, std: float, uniform: np.ndarray) -> np.ndarray:
    """N(mean, std²) cut to [0, 1], by inversion of numbers in [0, 1)."""
    from scipy.special import ndtr, ndtri  # noqa: PLC0415 (slow to import)

    low, high = ndtr((0 - mean) / std), ndtr((1 - mean) / std)
    inside: np.ndarray = np.clip(mean + std * ndtri(low + uniform * (high - low)), 0, 1)
    return inside


def _inverted(law: np.ndarray, rng: np.random.Generator) -> IntArray:
    """A class for each row of probabilities [N, C]; none that has probability 0."""
    cumulative = np.cumsum(law, axis=1)
    drawn = rng.random((len(law), 1)) * cumulative[:, -1:]
    chosen: IntArray = (drawn >= cumulative).sum(axis=1).astype(np.int64)
    return chosen
