"""A split as a torch Dataset: its images, what it says of them, and that positions are not mistaken for others."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import functional

from lt_bench.data import long_tailed, open_split
from lt_bench.data.spec import DataSpec
from lt_bench.errors import UserError

pytestmark = pytest.mark.usefixtures("working_folder")


def test_the_images_counts_and_digests_are_those_of_the_recipes_split() -> None:
    split = open_split(DataSpec(name="digits-lt", factor=20))
    train, test = long_tailed("digits-lt", factor=20), long_tailed("digits-lt", "test", factor=20)
    assert len(train) == split.counts.sum() == sum(train.counts)
    np.testing.assert_array_equal(train.original_indices, split.train_indices)
    assert (train.index_sha256, train.content_sha256) == (split.index_sha256, split.content_sha256)
    assert train.class_names == tuple("0123456789")
    image, label = train[5]
    assert isinstance(image, Image.Image)
    np.testing.assert_array_equal(np.asarray(image), split.train.images[5])  # type: ignore[union-attr]
    assert (type(label), label) == (int, split.train.labels[5])
    assert len(test) == len(split.test.labels)
    assert list(test.original_indices[:3]) == [0, 1, 2]


def test_original_indices_lead_to_the_same_images_in_the_whole_set() -> None:
    whole = long_tailed("digits-lt", factor=1, n_max=110)
    drawn = long_tailed("digits-lt", factor=20)
    where = {int(original): position for position, original in enumerate(whole.original_indices)}
    for position in (0, 100, len(drawn) - 1):
        there = where[int(drawn.original_indices[position])]
        assert drawn[position][0].tobytes() == whole[there][0].tobytes()


def test_groups_follow_the_training_images_in_every_part() -> None:
    test = long_tailed("digits-lt", "test", factor=20)
    assert {name: list(classes) for name, classes in test.groups.items()} == {
        "many": [0],
        "medium": [1, 2, 3, 4, 5],
        "few": [6, 7, 8, 9],
    }


def test_a_validation_part_is_apart_from_training() -> None:
    train, held = (
        long_tailed("digits-lt", part, factor=20, validation_per_class=5) for part in ("train", "validation")
    )
    assert list(held.counts) == [5] * 10
    assert not set(held.original_indices) & set(train.original_indices)


def test_a_transform_and_worker_processes() -> None:
    data = long_tailed("digits-lt", "test", functional.to_tensor, factor=20)
    images, labels = next(iter(DataLoader(data, batch_size=4, num_workers=1)))
    assert images.shape == (4, 3, 32, 32)
    assert labels.tolist() == data.labels[:4].tolist()
    assert len(pickle.loads(pickle.dumps(data))) == len(data)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (("digits-ltt",), {}, "digits-lt"),
        (("digits-lt", "trian"), {}, "did you mean train"),
        (("digits-lt",), {"facter": 10}, r"long_tailed.facter: .* did you mean factor\?"),
        (("digits-lt",), {"factor": 0.5}, "long_tailed.factor: should be greater than or equal to 1"),
        (("digits-lt", "validation"), {}, "validation_per_class"),
        (("cifar10-lt",), {"data_root": "nowhere"}, "nowhere"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: tuple[Any, ...], settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as told:
        long_tailed(*arguments, **settings)
    assert "\n" not in str(told.value)
