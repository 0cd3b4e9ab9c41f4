"""A long-tailed split as a torch Dataset, for training scripts of one's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.decoding import UnreadableError, read_rgb
from lt_bench.data.folder import FilePart
from lt_bench.data.groups import group_masks
from lt_bench.data.opening import open_split
from lt_bench.data.spec import DataSpec
from lt_bench.data.split import Split, index_sha256, pixel_sha256
from lt_bench.data.types import IntArray
from lt_bench.errors import RunError, UserError, unknown
from lt_bench.validation import settled

PartName = Literal["train", "validation", "test"]
Transform = Callable[[Image.Image], Any]


class LongTailed(Dataset[tuple[Any, int]]):
    """Pairs of an image, in PIL's RGB or what `transform` makes of it, and its label, one part of a split.

    Positions count within the part; `original_indices` says where they are in the whole data set.
    """

    def __init__(self, split: Split, part: PartName, transform: Transform | None = None) -> None:
        found = {"train": split.training, "validation": split.validation, "test": split.test}[part]
        if found is None:
            raise UserError(f"{split.card.name}: there is no validation part; ask for one with validation_per_class")
        self.split, self.part, self.transform = split, part, transform
        self._images: ArrayPart | FilePart = found
        self.labels = found.labels
        """int64 [N]; of the training part under `noise` the given ones, `split.train.labels` being right."""
        self.class_names = split.class_names
        self.mean, self.std = split.card.mean, split.card.std
        """Of the channels on the scale 0 to 1, for torchvision's Normalize."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> tuple[Any, int]:
        """Raises RunError for an image file that cannot be read."""
        image = self._image(position)
        return (self.transform(image) if self.transform else image), int(self.labels[position])

    @cached_property
    def counts(self) -> IntArray:
        """Images of this part per class, int64 [C]."""
        return np.bincount(self.labels, minlength=self.split.card.classes)

    @cached_property
    def groups(self) -> dict[str, IntArray]:
        """The classes of each group, many, medium and few, by their training images."""
        return {name: np.flatnonzero(mask) for name, mask in group_masks(self.split.counts).items()}

    @cached_property
    def original_indices(self) -> IntArray:
        """Positions of these images in the whole training set, or test set, as its authors order it, int64 [N]."""
        if self.part == "train":
            return self.split.train_indices
        if self.part == "validation" and len(self.split.validation_indices):
            return self.split.validation_indices
        return np.arange(len(self))

    @cached_property
    def index_sha256(self) -> str:
        """Of `original_indices` as little-endian int32; of the training part it stands in every record."""
        return index_sha256(self.original_indices)

    @cached_property
    def content_sha256(self) -> str:
        """Of the pixels of these images, of image files of their names, labels and sizes."""
        return pixel_sha256(self._images) if isinstance(self._images, ArrayPart) else self._images.sha256()

    def _image(self, position: int) -> Image.Image:
        if isinstance(self._images, ArrayPart):
            return Image.fromarray(np.asarray(self._images.images[position]))
        path = self._images.folder / self._images.files[position]
        try:
            return read_rgb(path)
        except UnreadableError as error:
            raise RunError(f"{path}: not readable: {error}") from None


def long_tailed(
    name: str,
    part: PartName = "train",
    transform: Transform | None = None,
    *,
    data_root: str | Path | None = None,
    **spec: Any,
) -> LongTailed:
    """One part of a long-tailed data set: the very images of the recipes that name it.

    Args:
        name: Of a card, such as `cifar10-lt`.
        part: `train`, `validation` or `test`.
        transform: Maps an image in PIL's RGB to what the data set gives, as in torchvision.
        data_root: The folder of the data, by default LT_BENCH_DATA or ./data.
        spec: What a recipe's `data:` block holds: factor, profile, subset_seed, n_max, validation_per_class,
            noise.

    Raises:
        UserError: An unknown name or setting; data that is missing, damaged or too small.
    """
    if part not in get_args(PartName):
        raise UserError(f"long_tailed.part: {unknown('part', part, get_args(PartName))}")
    wanted = settled(DataSpec, None, {"name": name, **spec}, "long_tailed")
    return LongTailed(open_split(wanted, None if data_root is None else Path(data_root)), part, transform)
