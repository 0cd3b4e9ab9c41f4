"""Small images: the whole set is one uint8 tensor on the device, augmented by the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.augment import Augmentation
from lt_bench.data.augmentations import Augment, draw_all, vary
from lt_bench.data.cards import Channels
from lt_bench.data.looks import Looks
from lt_bench.data.types import Batch, IntArray, Views, cut


class DeviceSet:
    """Random crop and flip, then further steps, with draws of their own for every image.

    Identical in distribution to the usual per-image transforms. Images are padded once, as uint8 and before
    normalisation, so that the border is black.
    """

    def __init__(
        self,
        part: ArrayPart,
        looks: Looks,
        augmentation: Augmentation,
        device: torch.device,
        steps: Sequence[Augment] = (),
    ) -> None:
        self.labels = part.labels
        self.augmentation = augmentation
        self.steps = steps
        self.flip = looks.flip if augmentation.flip is None else augmentation.flip
        self.height, self.width = part.images.shape[1:3]
        self._labels = torch.from_numpy(np.array(part.labels)).to(device)
        self._views = self._all_views(_padded(part, augmentation).to(device))
        self._scale, self._shift = normalisation(*augmentation.normalisation(looks), device)

    def stream(
        self,
        order: IntArray,
        batch_size: int,
        rng: np.random.Generator,
        progress: float = 0.0,
        places: Sequence[slice] | None = None,
    ) -> Iterator[Batch]:
        """Augmented batches; all draws of the epoch are made before the first one."""
        views = self._draw(order, rng)
        draws = draw_all(self.steps, progress, len(order), self.height, self.width, rng, self._labels.device)
        parts = cut(len(order), batch_size)
        if places is not None:
            chosen, parts = packed(places)
            views, draws = views[:, chosen], [tuple(one[chosen] for one in drawn) for drawn in draws]
        shown = self._shown(views)
        at_once = max([1, *(step.batches_at_once for step in self.steps)])
        for first in range(0, len(parts), at_once):
            group = parts[first : first + at_once]
            chunk = slice(group[0].start, group[-1].stop)
            images = vary(self._views[tuple(views[:, chunk])], self.steps, draws, chunk, normalised=False)
            labels = self._labels[views[0, chunk]]
            for part, batch in zip(group, self._batches(images, labels, shifted(group, -chunk.start)), strict=True):
                yield Batch(vary(batch.images, self.steps, draws, part, normalised=True), batch.labels, shown[part])

    def clean(self, batch_size: int, places: Sequence[slice] | None = None) -> Iterator[Batch]:
        """The images as they are, in order, normalised."""
        p = self.augmentation.padding
        parts = cut(len(self.labels), batch_size) if places is None else places
        return self._batches(self._views[:, 0, p, p], self._labels, parts)

    def whole(self, batch_size: int) -> Iterator[Tensor]:
        """The images as they are, in order."""
        p = self.augmentation.padding
        images = self._views[:, 0, p, p]
        return (images[start : start + batch_size] for start in range(0, len(images), batch_size))

    def _draw(self, order: IntArray, rng: np.random.Generator) -> Tensor:
        """Image, flipped or not, row and column of the crop: int64 [4, N]."""
        size, padding = len(order), self.augmentation.padding
        rows, columns = rng.integers(0, 2 * padding + 1, (2, size))
        flips = rng.integers(0, 2, size) if self.flip else np.zeros(size, dtype=np.int64)
        # Mirroring a crop is the same as cropping the mirrored image at the mirrored column.
        columns = np.where(flips, 2 * padding - columns, columns)
        return torch.from_numpy(np.stack([order, flips, rows, columns])).to(self._labels.device)

    def _shown(self, views: Tensor) -> Views:
        """What the drawn views [4, N] show of their images."""
        positions, flips, rows, columns = views
        p, mirrored = self.augmentation.padding, flips.bool()
        columns = torch.where(mirrored, 2 * p - columns, columns)
        left, top = (columns - p) / self.width, (rows - p) / self.height
        return Views(positions, torch.stack([left, top, left + 1, top + 1], 1), mirrored)

    def _all_views(self, padded: Tensor) -> Tensor:
        """Every crop of every image and its mirror, [N, 1 or 2, 2p + 1, 2p + 1, 3, H, W], without a copy of each."""
        both = torch.stack([padded, padded.flip(-1)] if self.flip else [padded], dim=1)
        return both.unfold(3, self.height, 1).unfold(4, self.width, 1).permute(0, 1, 3, 4, 2, 5, 6)

    def _batches(self, images: Tensor, labels: Tensor, parts: Sequence[slice]) -> Iterator[Batch]:
        for part in parts:
            yield Batch(images[part].float().mul_(self._scale).add_(self._shift), labels[part])


def packed(places: Sequence[slice]) -> tuple[IntArray, list[slice]]:
    """All places of an order, int64, and where each of the batches lies among them."""
    chosen = [np.arange(place.start, place.stop) for place in places]
    ends = np.cumsum([len(one) for one in chosen]).tolist()
    return np.concatenate(chosen), [slice(end - len(one), end) for end, one in zip(ends, chosen, strict=True)]


def shifted(parts: Sequence[slice], by: int) -> list[slice]:
    return [slice(part.start + by, part.stop + by) for part in parts]


def normalisation(mean: Channels, std: Channels, device: torch.device) -> tuple[Tensor, Tensor]:
    """(x / 255 - mean) / std as x * scale + shift, each float32 [3, 1, 1]."""
    m, s = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (mean, std))
    return (1 / (255 * s)).float().to(device), (-m / s).float().to(device)


def _padded(part: ArrayPart, augmentation: Augmentation) -> Tensor:
    """Images uint8 [N, 3, H + 2p, W + 2p]."""
    p = augmentation.padding
    images = part.images.transpose(0, 3, 1, 2)
    mode = {"zero": "constant", "reflect": "reflect"}[augmentation.padding_mode]
    return torch.from_numpy(np.ascontiguousarray(np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)), mode=mode)))  # type: ignore[call-overload]
