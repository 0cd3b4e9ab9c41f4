"""From a split to image sets that a training loop can stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.augment import Augmentation
from lt_bench.data.augmentations import Augment, in_order
from lt_bench.data.device_set import DeviceSet
from lt_bench.data.folder import FilePart
from lt_bench.data.split import Split
from lt_bench.data.types import ImageSet, IntArray

CHUNK = 1000
"""Images that are enlarged at once."""


@dataclass(frozen=True)
class ImageSets:
    """The parts of a split, ready for the device. `validation` is None where the split has none."""

    train: ImageSet
    validation: ImageSet | None
    test: ImageSet
    counts: IntArray
    """Training images per class by their right labels, int64 [C], which make the groups."""
    views: Mapping[str, ImageSet] = field(default_factory=dict)
    """The training images as single streams of a method have them, where these are varied in ways of their own."""

    def of(self, stream: str) -> ImageSet:
        """What a stream of the training takes its images from."""
        return self.views.get(stream, self.train)


def image_sets(
    split: Split,
    augmentation: Augmentation,
    device: torch.device,
    workers: int = 2,
    further: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    *,
    views: Mapping[str, Augmentation] = MappingProxyType({}),
    varied: bool = True,
    epochs: int = 1,
) -> ImageSets:
    """Image sets of a split. `workers` is the number of processes per stream of resized crops.

    Training images get the `further` augmentations, names with settings, beside those of the protocol; or none at all,
    where they are not to be `varied`. Streams that have `views` of their own get these in place of both. What changes
    from epoch to epoch does so over the `epochs` of the training. Of training images `clean` gives one view, whatever a
    test looks at.

    Raises UserError when an augmentation is not made for this kind of images.
    """
    for one in (augmentation, *views.values()):
        one.check(split.card)

    def make(
        part: ArrayPart | FilePart, seen: Augmentation, steps: Sequence[Augment] = (), varied: bool = False
    ) -> ImageSet:
        if isinstance(part, FilePart) or seen.kind == "resized-crop":
            from lt_bench.data.view_set import ViewSet  # noqa: PLC0415 (needs torchvision and the loader)

            return ViewSet(part, split.card, seen, device, workers, steps, varied=varied, epochs=epochs)
        if seen.enlarge is not None:
            part = replace(part, images=resized(part.images, seen.enlarge))
        # Parts that are only looked at need no room for crops and mirror images.
        settings = seen if varied else seen.model_copy(update={"padding": 0, "flip": False})
        return DeviceSet(part, split.card, settings, device, steps)

    usual = in_order({**augmentation.steps(), **further}) if varied else ()
    train = make(split.training, augmentation.model_copy(update={"test_views": "centre"}), usual, varied)
    validation = None if split.validation is None else make(split.validation, augmentation)
    own = {stream: make(split.training, view, in_order(view.steps()), True) for stream, view in views.items()}
    return ImageSets(train, validation, make(split.test, augmentation), split.counts, own)


def resized(images: np.ndarray, side: int) -> np.ndarray:
    """Images uint8 [N, H, W, 3] brought to [N, side, side, 3], bilinearly, as image files are."""
    if images.shape[1:3] == (side, side):
        return images
    found = np.empty((len(images), side, side, 3), np.uint8)
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        pixels = torch.from_numpy(np.array(images[part])).permute(0, 3, 1, 2).float()
        pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        found[part] = pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return found
