"""From a split to image sets that a training loop can stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.augment import Augmentation
from lt_bench.data.augmentations import in_order
from lt_bench.data.device_set import DeviceSet
from lt_bench.data.folder import FilePart
from lt_bench.data.split import Split
from lt_bench.data.types import ImageSet, IntArray


@dataclass(frozen=True)
class ImageSets:
    """The parts of a split, ready for the device. `validation` is None where the split has none."""

    train: ImageSet
    validation: ImageSet | None
    test: ImageSet
    counts: IntArray
    """Training images per class by their right labels, int64 [C], which make the groups."""


def image_sets(
    split: Split,
    augmentation: Augmentation,
    device: torch.device,
    workers: int = 2,
    further: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> ImageSets:
    """Image sets of a split. `workers` is the number of decoding processes per stream of image files.

    Training images get the `further` augmentations, names with settings, beside those of the protocol.

    Raises UserError when the augmentation is not made for this kind of images.
    """
    augmentation.check(split.card)

    steps = in_order({**augmentation.steps(), **further})

    def make(part: ArrayPart | FilePart, varied: bool) -> ImageSet:
        if isinstance(part, FilePart):
            from lt_bench.data.folder_set import FolderSet  # noqa: PLC0415 (needs torchvision and the loader)

            return FolderSet(part, split.card, augmentation, device, workers, steps if varied else ())
        # Parts that are only looked at need no room for crops and mirror images.
        settings = augmentation if varied else augmentation.model_copy(update={"padding": 0, "flip": False})
        return DeviceSet(part, split.card, settings, device, steps if varied else ())

    validation = None if split.validation is None else make(split.validation, varied=False)
    return ImageSets(make(split.training, varied=True), validation, make(split.test, varied=False), split.counts)
