"""Small images: the whole set is one uint8 tensor on the device, augmented by the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.augment import Augmentation
from lt_bench.data.cards import Card, Channels
from lt_bench.data.types import Batch, IntArray

if TYPE_CHECKING:
    from lt_bench.data.autoaugment import PolicyDraws

_CHUNK_BATCHES = 8
"""AutoAugment works on this many batches at once: it runs about fifty operations however many images there are."""


@dataclass(frozen=True)
class _Draws:
    """Everything random in one epoch."""

    views: Tensor
    """Image, flipped or not, row and column of the crop: int64 [4, N]."""
    policy: PolicyDraws | None
    holes: Tensor | None
    """Centres of the Cutout squares, int64 [N, 2]."""
    degrees: Tensor | None
    """Of the rotations, float64 [N]: in float32 devices would round some pixels differently."""


class DeviceSet:
    """Random crop, flip, rotation, AutoAugment and Cutout with draws of their own for every image.

    Identical in distribution to the usual per-image transforms. Images are padded once, as uint8 and before
    normalisation, so that the border is black.
    """

    def __init__(self, part: ArrayPart, card: Card, augmentation: Augmentation, device: torch.device) -> None:
        self.labels = part.labels
        self.augmentation = augmentation
        self.flip = card.flip if augmentation.flip is None else augmentation.flip
        self.height, self.width = part.images.shape[1:3]
        self._labels = torch.from_numpy(np.array(part.labels)).to(device)
        self._views = self._all_views(_padded(part, augmentation).to(device))
        self._scale, self._shift = normalisation(augmentation.mean or card.mean, augmentation.std or card.std, device)

    def stream(self, order: IntArray, batch_size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Augmented batches; all draws of the epoch are made before the first one."""
        draws = self._draw(order, rng)
        chunk = batch_size * (_CHUNK_BATCHES if draws.policy else 1)
        for start in range(0, len(order), chunk):
            part = slice(start, start + chunk)
            images, labels = self._vary(draws, part), self._labels[draws.views[0, part]]
            yield from self._batches(images, labels, batch_size)

    def clean(self, batch_size: int) -> Iterator[Batch]:
        """The images as they are, in order, normalised."""
        p = self.augmentation.padding
        return self._batches(self._views[:, 0, p, p], self._labels, batch_size)

    def _draw(self, order: IntArray, rng: np.random.Generator) -> _Draws:
        size, settings, device = len(order), self.augmentation, self._labels.device
        rows, columns = rng.integers(0, 2 * settings.padding + 1, (2, size))
        flips = rng.integers(0, 2, size) if self.flip else np.zeros(size, dtype=np.int64)
        # Mirroring a crop is the same as cropping the mirrored image at the mirrored column.
        columns = np.where(flips, 2 * settings.padding - columns, columns)
        policy = holes = degrees = None
        if settings.autoaugment:
            from lt_bench.data.autoaugment import PolicyDraws  # noqa: PLC0415 (imports torchvision)

            policy = PolicyDraws.draw(size, rng)
        if settings.cutout:
            holes = torch.from_numpy(rng.integers(0, (self.height, self.width), (size, 2))).to(device)
        if settings.rotation:
            degrees = torch.from_numpy(rng.uniform(-settings.rotation, settings.rotation, size)).to(device)
        views = torch.from_numpy(np.stack([order, flips, rows, columns]))
        return _Draws(views.to(device), policy, holes, degrees)

    def _vary(self, draws: _Draws, part: slice) -> Tensor:
        image, flip, row, column = draws.views[:, part]
        images = self._views[image, flip, row, column]
        if draws.degrees is not None:
            images = rotate(images, draws.degrees[part])
        if draws.policy is not None:
            from lt_bench.data.autoaugment import apply_policy  # noqa: PLC0415 (imports torchvision)

            images = apply_policy(images, draws.policy[part])
        if draws.holes is not None:
            images = cut_out(images, draws.holes[part], self.augmentation.cutout)
        return images

    def _all_views(self, padded: Tensor) -> Tensor:
        """Every crop of every image and its mirror, [N, 1 or 2, 2p + 1, 2p + 1, 3, H, W], without a copy of each."""
        both = torch.stack([padded, padded.flip(-1)] if self.flip else [padded], dim=1)
        return both.unfold(3, self.height, 1).unfold(4, self.width, 1).permute(0, 1, 3, 4, 2, 5, 6)

    def _batches(self, images: Tensor, labels: Tensor, batch_size: int) -> Iterator[Batch]:
        for start in range(0, len(labels), batch_size):
            part = slice(start, start + batch_size)
            yield Batch(images[part].float().mul_(self._scale).add_(self._shift), labels[part])


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn each image [B, 3, H, W] counter-clockwise about its centre by its angle, float [B], as Pillow does.

    Every pixel becomes the one that its centre comes from, black where that lies outside.
    """
    height, width = images.shape[-2:]
    angle = torch.deg2rad(degrees)[:, None, None]
    sin, cos = angle.sin(), angle.cos()
    y = torch.arange(height, device=images.device)[:, None] + 0.5 - height / 2  # [H, 1], downwards
    x = torch.arange(width, device=images.device) + 0.5 - width / 2  # [W]
    rows = (sin * x + cos * y + height / 2).floor().long()  # [B, H, W]
    columns = (cos * x - sin * y + width / 2).floor().long()
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    source = (rows * width + columns).where(inside, 0).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, source).view_as(images) * inside[:, None]


def cut_out(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Blacken one square in each image [B, 3, H, W], clipped at the border; `centres` int64 [B, 2] are row, column."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) - centres[:, :1]  # [B, H]
    columns = torch.arange(width, device=images.device) - centres[:, 1:]  # [B, W]
    low, high = -(side // 2), side - side // 2
    outside_rows, outside_columns = (rows < low) | (rows >= high), (columns < low) | (columns >= high)
    return images * (outside_rows[:, None, :, None] | outside_columns[:, None, None, :])


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
