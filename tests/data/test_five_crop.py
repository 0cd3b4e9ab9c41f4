"""Five crops of a test image, whose mean logits are its prediction: torchvision's pixels, and one view elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import TEST, TRAIN, tiny_card
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from lt_bench.data import DataSpec, image_sets
from lt_bench.data.arrays import ArrayPart
from lt_bench.data.augment import Augmentation
from lt_bench.data.folder import FilePart
from lt_bench.data.sources import Pool
from lt_bench.data.split import draw_split
from lt_bench.data.view_set import ViewSet
from lt_bench.data.views import FixedView, by_pillow, fixed_views
from lt_bench.evaluation.predictions import predict

CPU = torch.device("cpu")
MODES = [InterpolationMode.BILINEAR, InterpolationMode.BICUBIC]


def settings(mode: InterpolationMode = MODES[0], views: str = "five-crop") -> Augmentation:
    plain = {"kind": "resized-crop", "size": 40, "test_resize": 46, "mean": [0, 0, 0], "std": [1, 1, 1]}
    return Augmentation.read(plain | {"interpolation": mode.value, "test_views": views})


def torchvisions(image: Image.Image, mode: InterpolationMode) -> Tensor:
    crops = v2.Compose([v2.Resize(46, mode), v2.FiveCrop(40)])(image)
    return torch.stack([v2.functional.pil_to_tensor(crop) for crop in crops])


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("size", "resize", "expected"),
    [
        ((500, 375), 248, (330, 248)),
        ((500, 375), 256, (341, 256)),
        ((375, 500), 248, (248, 330)),
        ((32, 32), 248, (248, 248)),
    ],
)
def test_the_shorter_side_is_resized(size: tuple[int, int], resize: int, expected: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    assert FixedView(224, resize)(image).resized == expected
    assert v2.Resize(resize)(image).size == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(160, 121), (97, 211), (47, 46), (32, 32)])
def test_crops_are_torchvisions(size: tuple[int, int], mode: InterpolationMode) -> None:
    image = noise(*size)
    found = torch.stack([by_pillow(image, choose(image)) for choose in fixed_views(settings(mode))])
    assert torch.equal(found, torchvisions(image, mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "array"])
def test_a_set_gives_the_five_crops_of_each_image(tmp_path: Path, mode: InterpolationMode, kind: str) -> None:
    images = [noise(60, 50), noise(60, 50).rotate(90), noise(60, 50).rotate(180)]
    names = tuple(f"{k}.{kind}" for k in range(len(images)))
    labels = np.arange(len(images))
    part: FilePart | ArrayPart = ArrayPart(np.stack([np.asarray(image) for image in images]), labels)
    if kind != "array":
        for image, name in zip(images, names, strict=True):
            image.save(tmp_path / name, kind)
        images = [Image.open(tmp_path / name) for name in names]
        part = FilePart(tmp_path, names, labels)
    first, last = ViewSet(part, tiny_card(), settings(mode), CPU, 0, varied=False).clean(2)
    assert (first.images.shape, last.images.shape) == ((2, 5, 3, 40, 40), (1, 5, 3, 40, 40))
    found = (torch.cat([first.images, last.images]) * 255).round().byte()
    assert torch.equal(found, torch.stack([torchvisions(image, mode) for image in images]))


def test_a_prediction_is_of_the_mean_logits() -> None:
    part = TEST.take(np.arange(7))

    def score(images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, 40, 40)
        return 40 * images.mean((2, 3))

    found = predict(score, ViewSet(part, tiny_card(), settings(), CPU, 0), 3, keep_logits=True)
    crops = torch.stack([torchvisions(Image.fromarray(image), MODES[0]) for image in part.images]) / 255
    logits = 40 * crops.mean((3, 4)).mean(1)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-5)
    np.testing.assert_allclose(found.confidence, logits.softmax(1).amax(1), rtol=1e-4)
    assert found.predicted.tolist() == logits.argmax(1).tolist()
    assert found.labels.tolist() == part.labels.tolist()
    one = predict(score, ViewSet(part, tiny_card(), settings(views="centre"), CPU, 0), 3, keep_logits=True)
    np.testing.assert_allclose(one.logits, 40 * crops[:, 4].mean((2, 3)), rtol=1e-5)


@pytest.mark.parametrize("varied", [True, False])
def test_training_images_are_looked_at_in_one_view(varied: bool) -> None:
    card = tiny_card()
    pool = Pool(TRAIN, TEST, card.class_names or (), "made up")
    split = draw_split(card, DataSpec(name="cifar10-lt", validation_per_class=2).resolve(card), pool)
    sets = image_sets(split, settings(), CPU, 0, varied=varied)
    assert sets.validation is not None
    assert next(sets.train.clean(4)).images.shape == (4, 3, 40, 40)
    for part in (sets.test, sets.validation):
        assert next(part.clean(4)).images.shape == (4, 5, 3, 40, 40)
    for part in (sets.train, sets.test):
        assert next(part.whole(4)).shape == (4, 3, 40, 40)
