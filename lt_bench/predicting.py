"""What trained weights say of images that belong to no data set."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lt_bench.data.arrays import ArrayPart, with_progress
from lt_bench.data.cards import load_card
from lt_bench.data.decoding import UnreadableError, read_rgb
from lt_bench.data.device_set import DeviceSet
from lt_bench.data.folder import FilePart
from lt_bench.data.loose_files import image_files
from lt_bench.data.reading import reason
from lt_bench.data.sets import resized
from lt_bench.data.types import ImageSet
from lt_bench.errors import RunError, UserError
from lt_bench.evaluation.predictions import Predictions, predict
from lt_bench.evaluation.saving import save_predictions
from lt_bench.trained import TrainedNetwork, load_network
from lt_bench.training.loop import EVALUATION_BATCH
from lt_bench.training.options import Options
from lt_bench.training.runtime import choose_runtime


@dataclass(frozen=True)
class Told:
    """The class of each image, by a trained network."""

    files: tuple[str, ...]
    predictions: Predictions
    """With logits; the labels are none."""
    class_names: tuple[str, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """An image each: its file, its class, and the confidence in it, a fraction."""
        found = zip(self.files, self.predictions.predicted, self.predictions.confidence, strict=True)
        return [{"image": file, "class": self.class_names[k], "confidence": float(share)} for file, k, share in found]

    def save(self, path: Path) -> None:
        """Write them with all logits, as `evaluation.saving.save_predictions` does. Raises UserError."""
        save_predictions(path, self.predictions, np.array(self.files), self.class_names, labelled=False)


def predict_files(weights: Path, places: Sequence[Path], options: Options, *, skip: bool = False) -> Told:
    """Predict image files, and those below folders, as a run's test images are: one network input each, in float32.

    A network of small images sees each resized to its square; another sees what its protocol shows of a test image.
    Raises UserError for weights that are none, and for an image that cannot be read; to `skip` is to leave these out
    and name them on stderr, and every image is decoded twice.
    """
    network = load_network(weights, options.data_root)
    files = tuple(file for place in places for file in image_files(place))
    files = tuple(_readable(files)) if skip else files
    if not files:
        raise UserError(f"{', '.join(map(str, places))}: none of the images can be read")
    device = choose_runtime(options.device, "float32", "off").device
    images = _image_set(network, files, device, options.workers)
    network = network.to(device)

    def score(batch: Tensor) -> Tensor:
        return network.method.scores(network.network, batch)

    try:
        found = predict(score, images, EVALUATION_BATCH, keep_logits=True)
    except RunError as error:  # of the workers that decode
        raise UserError(str(error)) from None
    assert found.logits is not None, "they were asked for"
    return Told(files, found, network.class_names or tuple(map(str, range(found.logits.shape[1]))))


def _readable(files: Sequence[str]) -> Iterator[str]:
    """Those of the files that can be decoded; of each other one it is said why not."""
    for file in with_progress(files, "look for unreadable images"):
        try:
            read_rgb(Path(file))
        except (UnreadableError, OSError) as error:
            print(f"{file}: left out, not a readable image: {reason(error)}", file=sys.stderr)
        else:
            yield file


def _image_set(network: TrainedNetwork, files: Sequence[str], device: torch.device, workers: int) -> ImageSet:
    looks, seen = network.looks, network.recipe.training.augmentation
    labels = np.zeros(len(files), np.int64)
    if seen.kind == "resized-crop":
        from lt_bench.data.view_set import ViewSet  # noqa: PLC0415 (needs torchvision and the loader)

        part = FilePart(Path("/"), tuple(map(os.path.abspath, files)), labels)
        return ViewSet(part, looks, seen, device, workers)
    side = seen.own_side or load_card(network.recipe.data.name).image_size
    pixels = np.stack([_pixels(Path(file), side) for file in files])
    return DeviceSet(ArrayPart(pixels, labels), looks, seen.model_copy(update={"padding": 0, "flip": False}), device)


def _pixels(path: Path, side: int) -> np.ndarray:
    """An image file as uint8 [side, side, 3]. Raises UserError."""
    try:
        image = np.asarray(read_rgb(path))
    except (UnreadableError, OSError) as error:
        raise UserError(f"{path}: not a readable image: {reason(error)}") from None
    found: np.ndarray = resized(image[None], side)[0]
    return found
