"""From a split to image sets that a training loop can stream."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.augment import Augmentation
from lt_bench.data.device_set import DeviceSet
from lt_bench.data.split import Split
from lt_bench.data.types import ImageSet
from lt_bench.errors import UserError


@dataclass(frozen=True)
class ImageSets:
    """The parts of a split, ready for the device. `validation` is None where the split has none."""

    train: ImageSet
    validation: ImageSet | None
    test: ImageSet


def image_sets(split: Split, augmentation: Augmentation, device: torch.device, workers: int = 2) -> ImageSets:
    """Image sets of a split. `workers` is the number of decoding processes per stream of image files.

    Raises UserError when the augmentation is not made for this kind of images.
    """

    def make(part: ArrayPart) -> ImageSet:
        return DeviceSet(part, split.card, augmentation, device)

    return ImageSets(make(split.train), split.validation and make(split.validation), make(split.test))
