"""Small images: the whole set is one uint8 tensor on the device, augmented by the batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.augment import Augmentation
from lt_bench.data.cards import Card, Channels
from lt_bench.data.types import Batch, IntArray

_CHUNK_BATCHES = 8
"""AutoAugment works on this many batches at once: it has about forty groups of operations however many images."""


class DeviceSet:
    """Random crop, flip, AutoAugment and Cutout with draws of their own for every image.

    Identical in distribution to the usual per-image transforms. Images are padded once, as uint8 and before
    normalisation, so that the border is black.
    """

    def __init__(self, part: ArrayPart, card: Card, augmentation: Augmentation, device: torch.device) -> None:
        self.labels = part.labels
        self.augmentation = augmentation
        self.flip = card.flip if augmentation.flip is None else augmentation.flip
        self.height, self.width = part.images.shape[1:3]
        self._labels = torch.from_numpy(np.array(part.labels)).to(device)
        self._padded = _padded(part, augmentation, self.flip).to(device)
        self._scale, self._shift = _affine(augmentation.mean or card.mean, augmentation.std or card.std, device)

    def stream(self, order: IntArray, batch_size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Augmented batches; all draws of the epoch are made here, before the first batch."""
        size, settings = len(order), self.augmentation
        crops = torch.from_numpy(self._draw_crops(order, rng)).to(self._labels.device)  # [4, N]
        labels = self._labels[crops[0]]
        policy = self._draw_policy(size, rng)
        holes = torch.from_numpy(rng.integers(0, (self.height, self.width), (size, 2))) if settings.cutout else None
        holes = None if holes is None else holes.to(self._labels.device)
        chunk = batch_size * (1 if policy is None else _CHUNK_BATCHES)
        for start in range(0, size, chunk):
            part = slice(start, start + chunk)
            images = self._crops[tuple(crops[:, part])]
            if policy is not None:
                images = policy(images, part)
            if holes is not None:
                images = cut_out(images, holes[part], settings.cutout)
            for batch in zip(images.split(batch_size), labels[part].split(batch_size), strict=True):
                yield Batch(self._normalised(batch[0]), batch[1])

    def clean(self, batch_size: int) -> Iterator[Batch]:
        """The images as they are, in order, normalised."""
        p = self.augmentation.padding
        images = self._crops[:, 0, p, p]
        for batch, labels in zip(images.split(batch_size), self._labels.split(batch_size), strict=True):
            yield Batch(self._normalised(batch), labels)
