"""Small images as image files are seen: resized crops with the draws and the pixels of torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import TRAIN, tiny_card
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from lt_bench.data.augment import Augmentation
from lt_bench.data.augmentations import in_order
from lt_bench.data.types import Batch, generator
from lt_bench.data.view_set import ViewSet

ORDER = np.array([5, 3, 3, 199, 0, 17, 8])
MODES = [InterpolationMode.BILINEAR, InterpolationMode.BICUBIC]


def view_set(workers: int = 0, further: tuple[str, ...] = (), **settings: object) -> ViewSet:
    """Images of 32 pixels as 40, in 0..1."""
    plain = {"kind": "resized-crop", "size": 40, "mean": [0, 0, 0], "std": [1, 1, 1], "color_jitter": 0.0}
    augmentation = Augmentation.read(plain | settings)
    steps = in_order({name: {} for name in further})
    return ViewSet(TRAIN, tiny_card(), augmentation, torch.device("cpu"), workers, steps)


def pixels(batch: Batch) -> Tensor:
    return (batch.images * 255).round().byte()


def picture(k: int) -> Image.Image:
    return Image.fromarray(TRAIN.images[k])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_training_images_are_torchvisions(mode: InterpolationMode, jitter: float) -> None:
    steps = [v2.RandomResizedCrop(40, scale=(0.3, 1.0), interpolation=mode), v2.RandomHorizontalFlip()]
    steps += [v2.ColorJitter(jitter, jitter, jitter)] if jitter else []
    theirs = v2.Compose([*steps, v2.PILToTensor()])
    images = view_set(interpolation=mode.value, scale=[0.3, 1.0], color_jitter=jitter)
    batches = list(images.stream(ORDER, 4, generator(0, "images")))
    seeds = generator(0, "images").integers(0, 2**32, len(ORDER), dtype=np.uint32)
    assert [len(batch.labels) for batch in batches] == [4, 3]
    assert torch.cat([batch.labels for batch in batches]).tolist() == TRAIN.labels[ORDER].tolist()
    for k, seed, found in zip(ORDER, seeds, torch.cat([pixels(batch) for batch in batches]), strict=True):
        torch.manual_seed(int(seed))
        assert torch.equal(found, theirs(picture(k)))


@pytest.mark.parametrize("mode", MODES)
def test_test_images_are_torchvisions_and_whole_ones_squares(mode: InterpolationMode) -> None:
    theirs = v2.Compose([v2.Resize(46, mode), v2.CenterCrop(40), v2.PILToTensor()])  # 40 * 256 / 224
    images = view_set(interpolation=mode.value)
    first, *_ = images.clean(8)
    (whole, *_) = images.whole(8)
    for k in range(8):
        assert torch.equal(pixels(first)[k], theirs(picture(k)))
        assert torch.equal(whole[k], v2.Compose([v2.Resize((40, 40), mode), v2.PILToTensor()])(picture(k)))


def test_workers_and_parts_of_batches_change_nothing() -> None:
    further = ("random-erasing",)
    alone = list(view_set(0, further).stream(ORDER, 4, generator(0, "a")))
    helped = list(view_set(1, further).stream(ORDER, 4, generator(0, "a")))
    halves = [[slice(0, 3), slice(4, 5)], [slice(3, 4), slice(5, 7)]]
    shared = [list(view_set(0, further).stream(ORDER, 4, generator(0, "a"), 0.0, half)) for half in halves]
    for batch, same, *parts in zip(alone, helped, *shared, strict=True):
        assert torch.equal(batch.images, same.images)
        assert torch.equal(batch.images, torch.cat([part.images for part in parts]))


def test_the_preprocessing_of_clip_is_torchvisions_on_pillow_images() -> None:
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    steps = [v2.Resize(256, InterpolationMode.BICUBIC), v2.CenterCrop(224), v2.ToImage()]
    theirs = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    images = view_set(size=224, interpolation="bicubic", mean=mean, std=std)
    (first, *_) = images.clean(4)
    expected = torch.stack([theirs(picture(k)) for k in range(4)])
    torch.testing.assert_close(first.images, expected, atol=2e-6, rtol=0)


def test_images_are_normalised_as_the_data_set_says() -> None:
    card = tiny_card()
    mean, std = (torch.tensor(values)[:, None, None] for values in (card.mean, card.std))
    plain, normalised = (next(view_set(mean=m, std=s).clean(4)).images for m, s in (([0] * 3, [1] * 3), (None, None)))
    torch.testing.assert_close(normalised, (plain - mean) / std, atol=1e-5, rtol=1e-5)
