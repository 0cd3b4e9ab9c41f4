"""Images that are shown in part and resized: one by one in worker processes, normalised on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.augment import Augmentation
from lt_bench.data.augmentations import Augment, Draws, draw_all, vary
from lt_bench.data.decoding import UnreadableError
from lt_bench.data.device_set import normalisation
from lt_bench.data.fast_views import fast, show
from lt_bench.data.folder import FilePart
from lt_bench.data.looks import Looks
from lt_bench.data.pictures import Picture, Pictures, pictures_of
from lt_bench.data.types import Batch, IntArray, Views, cut
from lt_bench.data.views import Chooser, RandomView, View, WholeView, fixed_views
from lt_bench.errors import RunError


class ViewSet:
    """Random resized crop, flip and colour jitter, then further steps; at test time resize and centre crop."""

    def __init__(
        self,
        part: FilePart | ArrayPart,
        looks: Looks,
        augmentation: Augmentation,
        device: torch.device,
        workers: int,
        steps: Sequence[Augment] = (),
        *,
        varied: bool = True,
        epochs: int = 1,
    ) -> None:
        self.labels = part.labels
        self.pictures = pictures_of(part)
        self.device = device
        self.workers = workers
        self.steps, self.side, self.augmentation = steps, augmentation.size, augmentation
        self.flip = looks.flip if augmentation.flip is None else augmentation.flip
        self.varied, self.epochs = varied, epochs
        self._labels = torch.from_numpy(part.labels).to(device)
        self._scale, self._shift = normalisation(*augmentation.normalisation(looks), device)
        fast()  # before there are workers that would each look for it

    def stream(
        self,
        order: IntArray,
        batch_size: int,
        rng: np.random.Generator,
        progress: float = 0.0,
        places: Sequence[slice] | None = None,
    ) -> Iterator[Batch]:
        """Augmented batches. Each place in the order has a seed of its own, so workers do not change the result."""
        seeds = rng.integers(0, 2**32, len(order), dtype=np.uint32)
        draws = draw_all(self.steps, progress, len(order), self.side, self.side, rng, self.device)
        parts = cut(len(order), batch_size) if places is None else places
        random = RandomView(self.augmentation, self.flip, progress, self.epochs)
        views = [random] if self.varied else fixed_views(self.augmentation)
        return self._batches(order, parts, views, seeds, draws)

    def clean(self, batch_size: int, places: Sequence[slice] | None = None) -> Iterator[Batch]:
        """The images resized and cropped, in order: [B, 3, S, S], or the five crops of each, [B, 5, 3, S, S]."""
        parts = cut(len(self.labels), batch_size) if places is None else places
        return self._batches(np.arange(len(self.labels)), parts, fixed_views(self.augmentation), None)

    def whole(self, batch_size: int) -> Iterator[Tensor]:
        """The images resized to squares, in order."""
        order, parts = np.arange(len(self.labels)), cut(len(self.labels), batch_size)
        loaded = self._loaded(order, parts, [WholeView(self.side, self.augmentation.interpolation)], None)
        return (images.squeeze(1).to(self.device, non_blocking=True) for images, _ in loaded)

    def _batches(
        self,
        order: IntArray,
        parts: Sequence[slice],
        choosers: Sequence[Chooser],
        seeds: np.ndarray | None,
        draws: Sequence[Draws] = (),
    ) -> Iterator[Batch]:
        steps = self.steps if draws else ()
        positions = torch.from_numpy(order).to(self.device)
        labels = self._labels[positions]
        for part, loaded in zip(parts, self._loaded(order, parts, choosers, seeds), strict=True):
            images, shown = (tensor.squeeze(1).to(self.device, non_blocking=True) for tensor in loaded)
            pixels = vary(images, steps, draws, part, normalised=False).mul(self._scale).add_(self._shift)
            views = Views(positions[part], shown[..., :4], shown[..., 4] > 0)
            yield Batch(vary(pixels, steps, draws, part, normalised=True), labels[part], views)

    def _loaded(
        self, order: IntArray, parts: Sequence[slice], choosers: Sequence[Chooser], seeds: np.ndarray | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the chosen views, one by each chooser, decoded in worker processes."""
        loader: DataLoader[tuple[Tensor, Tensor] | str] = DataLoader(
            _Decoder(self.pictures, order, parts, choosers, self.side, seeds),
            batch_size=None,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # or the loader would draw from the global generator
        )
        return _decoded(loader)


class _Decoder(Dataset[tuple[Tensor, Tensor] | str]):
    """Item k is the k-th batch, uint8 [B, V, 3, S, S] and what it shows [B, V, 5], or why it could not be decoded."""

    def __init__(
        self,
        pictures: Pictures,
        order: IntArray,
        parts: Sequence[slice],
        choosers: Sequence[Chooser],
        side: int,
        seeds: np.ndarray | None,
    ) -> None:
        self.pictures, self.order, self.parts = pictures, order, parts
        self.choosers, self.side, self.seeds = choosers, side, seeds

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor] | str:
        # A message instead of an exception: the loader would wrap that in a traceback.
        if k >= len(self):
            raise IndexError(k)
        state = torch.get_rng_state()
        places = range(self.parts[k].start, self.parts[k].stop)
        try:
            self.pictures.expect(self.order[places.start : places.stop])
            # All are opened before the first is decoded: code that is still in the cache runs several times as fast.
            opened = [self._opened(place) for place in places]
            images, shown = _room(len(places), len(self.choosers), self.side)
            for each, image in zip(opened, images, strict=True):
                self._show(each, image)
            return images, shown.copy_(torch.tensor([each.shown() for each in opened]))
        except UnreadableError as error:
            return str(error)
        finally:
            torch.set_rng_state(state)

    def _opened(self, place: int) -> _Opened:
        position = int(self.order[place])
        if self.seeds is not None:
            # Not torch.manual_seed, which would also reseed the accelerators.
            torch.default_generator.manual_seed(int(self.seeds[place]))
        picture = self.pictures.open(position)
        return _Opened(position, picture, [choose(picture.image) for choose in self.choosers])

    def _show(self, opened: _Opened, out: Tensor) -> None:
        image = opened.picture.image
        data = opened.picture.data if len(out) == 1 else b""  # for several views Pillow decodes the image, but once
        try:
            for view, pixels in zip(opened.views, out, strict=True):
                show(data, image, view, pixels)
        except UnreadableError as error:
            raise self.pictures.unreadable(opened.position, error) from None
        image.close()  # or what was decoded would be kept until the batch is whole


class _Opened(NamedTuple):
    """An image before it is decoded, and what is to be seen of it."""

    position: int
    picture: Picture
    views: list[View]

    def shown(self) -> list[list[float]]:
        """As `View.shown`, of each."""
        return [view.shown(*self.picture.image.size) for view in self.views]


def _room(images: int, views: int, side: int) -> tuple[Tensor, Tensor]:
    """What a batch is written to; by a worker in shared memory. Raises UnreadableError where there is no room.

    The loader's queue would move it there, but in a thread whose errors leave the run waiting for ever.
    """
    batch = torch.empty(images, views, 3, side, side, dtype=torch.uint8), torch.empty(images, views, 5)
    try:
        if get_worker_info():
            for tensor in batch:
                tensor.share_memory_()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise UnreadableError(
            f"no room for a batch in shared memory (/dev/shm): {_last_line(error)}; fewer --workers need less"
        ) from None
    return batch


def _decoded(loader: DataLoader[tuple[Tensor, Tensor] | str]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a loader. Raises RunError in one line, whatever ends it."""
    try:
        for found in loader:
            if isinstance(found, str):
                raise RunError(found)
            yield found
    except (RuntimeError, OSError, MemoryError) as error:
        raise RunError(
            f"decoding ended: {_last_line(error)}; if memory or shared memory (/dev/shm) ran out, fewer --workers need"
            " less"
        ) from error


def _last_line(error: Exception) -> str:
    """The loader puts a worker's whole traceback before it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
