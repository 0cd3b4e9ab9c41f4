"""Large images: decoded and augmented one by one in worker processes, normalised on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torchvision.transforms import v2

from lt_bench.data.augment import Augmentation
from lt_bench.data.augmentations import Augment, Draws, draw_all, vary
from lt_bench.data.cards import Card
from lt_bench.data.decoding import UnreadableError, read_rgb
from lt_bench.data.device_set import normalisation
from lt_bench.data.folder import FilePart
from lt_bench.data.types import Batch, IntArray, Views
from lt_bench.errors import RunError

Transform = Callable[[Image.Image], tuple[Tensor, Tensor]]
"""An image to uint8 [3, S, S], and what that shows of it: float32 [5], a box as in `Views` and 1 if mirrored."""

MIRRORED = 0.5
"""Probability of mirroring an image."""


class FolderSet:
    """Random resized crop, flip and colour jitter, then further steps; at test time resize and centre crop."""

    def __init__(
        self,
        part: FilePart,
        card: Card,
        augmentation: Augmentation,
        device: torch.device,
        workers: int,
        steps: Sequence[Augment] = (),
        *,
        varied: bool = True,
    ) -> None:
        self.labels = part.labels
        self.part = part
        self.device = device
        self.workers = workers
        self.steps, self.side = steps, augmentation.size
        self._test_transform: Transform = partial(_unasked, _test_transform(augmentation))
        flip = card.flip if augmentation.flip is None else augmentation.flip
        self._train_transform: Transform = RandomView(augmentation, flip) if varied else self._test_transform
        self._labels = torch.from_numpy(part.labels).to(device)
        self._scale, self._shift = normalisation(*augmentation.normalisation(card), device)

    def stream(
        self, order: IntArray, batch_size: int, rng: np.random.Generator, progress: float = 0.0
    ) -> Iterator[Batch]:
        """Augmented batches. Each place in the order has a seed of its own, so workers do not change the result."""
        seeds = rng.integers(0, 2**32, len(order), dtype=np.uint32)
        draws = draw_all(self.steps, progress, len(order), self.side, self.side, rng, self.device)
        return self._batches(order, batch_size, self._train_transform, seeds, draws)

    def clean(self, batch_size: int) -> Iterator[Batch]:
        """The images resized and centre-cropped, in order."""
        return self._batches(np.arange(len(self.labels)), batch_size, self._test_transform, None)

    def whole(self, batch_size: int) -> Iterator[Tensor]:
        """The images resized to squares, in order."""
        transform = v2.Compose([v2.Resize((self.side, self.side)), v2.PILToTensor()])
        loaded = self._loaded(np.arange(len(self.labels)), batch_size, partial(_unasked, transform), None)
        return (images.to(self.device, non_blocking=True) for images, _ in loaded)

    def _batches(
        self,
        order: IntArray,
        batch_size: int,
        transform: Transform,
        seeds: np.ndarray | None,
        draws: Sequence[Draws] = (),
    ) -> Iterator[Batch]:
        steps = self.steps if draws else ()
        positions = torch.from_numpy(order).to(self.device)
        labels = self._labels[positions]
        for k, loaded in enumerate(self._loaded(order, batch_size, transform, seeds)):
            part = slice(k * batch_size, (k + 1) * batch_size)
            images, shown = (tensor.to(self.device, non_blocking=True) for tensor in loaded)
            pixels = vary(images, steps, draws, part, normalised=False).float().mul_(self._scale).add_(self._shift)
            views = Views(positions[part], shown[:, :4], shown[:, 4] > 0)
            yield Batch(vary(pixels, steps, draws, part, normalised=True), labels[part], views)

    def _loaded(
        self, order: IntArray, batch_size: int, transform: Transform, seeds: np.ndarray | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of what the transform gives, decoded in worker processes."""
        loader: DataLoader[tuple[Tensor, Tensor] | str] = DataLoader(
            _Decoder(self.part, order, batch_size, transform, seeds),
            batch_size=None,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # or the loader would draw from the global generator
        )
        return _decoded(loader)


class _Decoder(Dataset[tuple[Tensor, Tensor] | str]):
    """Item k is the k-th batch, uint8 [B, 3, S, S] and what it shows [B, 5], or why it could not be decoded."""

    def __init__(
        self, part: FilePart, order: IntArray, batch_size: int, transform: Transform, seeds: np.ndarray | None
    ) -> None:
        self.part, self.order, self.batch_size, self.transform, self.seeds = part, order, batch_size, transform, seeds

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor] | str:
        # A message instead of an exception: the loader would wrap that in a traceback.
        if k >= len(self):
            raise IndexError(k)
        state = torch.get_rng_state()
        places = range(k * self.batch_size, min((k + 1) * self.batch_size, len(self.order)))
        try:
            images, shown = zip(*map(self._image, places), strict=True)
            return _shared(torch.stack(images), torch.stack(shown))
        except UnreadableError as error:
            return str(error)
        finally:
            torch.set_rng_state(state)

    def _image(self, place: int) -> tuple[Tensor, Tensor]:
        path = self.part.folder / self.part.files[self.order[place]]
        if self.seeds is not None:
            # Not torch.manual_seed, which would also reseed the accelerators.
            torch.default_generator.manual_seed(int(self.seeds[place]))
        try:
            return self.transform(read_rgb(path))
        except UnreadableError as error:
            raise UnreadableError(f"{path}: not a readable image: {error}") from None


def _shared(images: Tensor, shown: Tensor) -> tuple[Tensor, Tensor] | str:
    """A worker's batch in shared memory, or that there is no room for it.

    The loader's queue would put it there, but in a thread whose errors leave the run waiting for ever.
    """
    try:
        if get_worker_info():
            images.share_memory_(), shown.share_memory_()  # type: ignore[no-untyped-call]
        return images, shown
    except RuntimeError as error:
        return f"no room for a batch in shared memory (/dev/shm): {_last_line(error)}; fewer --workers need less"


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


class RandomView:
    """Random resized crop, flip and colour jitter of torchvision, composed by hand: it also says what is seen."""

    def __init__(self, augmentation: Augmentation, flip: bool) -> None:
        jitter = augmentation.color_jitter
        self.crop = v2.RandomResizedCrop(augmentation.size, scale=augmentation.scale)
        self.flip = flip
        self.jitter = v2.ColorJitter(jitter, jitter, jitter) if jitter else v2.Identity()

    def __call__(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        box = self.crop.make_params([image])
        seen = self.crop.transform(image, box)
        mirrored = self.flip and bool(torch.rand(1) < MIRRORED)
        seen = v2.functional.horizontal_flip(seen) if mirrored else seen
        left, top, (width, height) = box["left"], box["top"], image.size
        right, bottom = left + box["width"], top + box["height"]
        shown = torch.tensor([left / width, top / height, right / width, bottom / height, mirrored])
        return v2.functional.pil_to_tensor(self.jitter(seen)), shown


def _unasked(transform: Callable[[Image.Image], Tensor], image: Image.Image) -> tuple[Tensor, Tensor]:
    """An image transformed, where nobody asks what is seen of it."""
    return transform(image), torch.zeros(5)


def _test_transform(augmentation: Augmentation) -> Callable[[Image.Image], Tensor]:
    resize = augmentation.test_resize or round(augmentation.size * 256 / 224)
    return v2.Compose([v2.Resize(resize), v2.CenterCrop(augmentation.size), v2.PILToTensor()])  # type: ignore[no-any-return]
