"""Images that are there twice are found by their pixels, and none of them is trained on and tested on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_data import picture

from lt_bench.data.copies import IN_TWO_CLASSES, copies
from lt_bench.data.folder import FilePart
from lt_bench.data.new_set import new_from_folder
from lt_bench.errors import UserError

LtBench = Callable[..., Any]
SAME_CLASS = "copies of an image of their class"


def rows(part: Any) -> dict[str, int]:
    assert isinstance(part, FilePart)
    return dict(zip(part.files, part.labels.tolist(), strict=True))


@pytest.fixture
def parts(photos: Path) -> Path:
    """The photos, the first of each class tested on."""
    classes = sorted(photos.iterdir())
    (photos / "train").mkdir()
    for folder in classes:
        (photos / "test" / folder.name).mkdir(parents=True)
        (folder / "00.jpg").rename(photos / "test" / folder.name / "00.jpg")
        folder.rename(photos / "train" / folder.name)
    return photos


def test_no_copy_of_a_test_image_is_trained_on(parts: Path, lt_bench: LtBench) -> None:
    tested = parts / "test" / "wren" / "00.jpg"
    shutil.copy(tested, parts / "train" / "wren" / "zz.jpg")
    Image.open(tested).save(parts / "train" / "robin" / "zz.png")  # the same pixels in another format and class
    shutil.copy(parts / "train" / "wren" / "01.jpg", parts / "train" / "wren" / "yy.jpg")
    shutil.copy(parts / "train" / "wren" / "01.jpg", parts / "train" / "heron" / "yy.jpg")
    done = lt_bench("data", "new", "birds", "--images", parts)
    assert (done.code, done.err) == (0, "")
    told = [line for line in done.out.splitlines() if line.startswith("left ")]
    assert told == [
        "left out: 2, copies of test images: train/robin/zz.png (test/wren/00.jpg), ...",
        f"left out: 1, {SAME_CLASS}: train/wren/yy.jpg (train/wren/01.jpg)",
        f"left in: 1, {IN_TWO_CLASSES}: train/wren/01.jpg (train/heron/yy.jpg)",
    ]
    listed = [line.rpartition(" ")[0] for line in Path("birds/train.txt").read_text().splitlines()]
    assert "train/heron/yy.jpg" in listed
    assert not {"train/robin/zz.png", "train/wren/zz.jpg", "train/wren/yy.jpg"} & set(listed)


def test_a_training_part_that_is_the_test_part(parts: Path) -> None:
    shutil.rmtree(parts / "train")
    shutil.copytree(parts / "test", parts / "train")
    with pytest.raises(UserError, match=r"every training image is a copy of a test or validation image, train/"):
        new_from_folder("same", parts, parts.parent)


def test_lists_are_taken_as_they_are_and_their_copies_told(photos: Path, lt_bench: LtBench) -> None:
    shutil.copy(photos / "wren" / "00.jpg", photos / "wren" / "copy.jpg")
    train = "wren/01.jpg 0\nwren/01.jpg 0\nwren/copy.jpg 0\nrobin/00.jpg 1\n"
    (photos / "train.txt").write_text(train)
    (photos / "test.txt").write_text("wren/00.jpg 0\nrobin/01.jpg 1\n")
    done = lt_bench("data", "new", "listed", "--train", photos / "train.txt", "--test", photos / "test.txt")
    assert (done.code, done.err) == (0, "")
    assert [line for line in done.out.splitlines() if line.startswith("left ")] == [
        f"left in: 1, {SAME_CLASS}: wren/01.jpg (wren/01.jpg)",
        "left in: 1, copies of test images: wren/copy.jpg (wren/00.jpg)",
    ]
    assert (photos / "train.txt").read_text() == train


Parts = dict[str, list[tuple[int, str]]]


@given(st.lists(st.tuples(st.sampled_from(["train", "validation", "test"]), st.integers(0, 2), st.integers(0, 3))))
def test_what_is_left_has_each_image_once(images: list[tuple[str, int, int]]) -> None:
    """Of images by part, class and picture."""
    found: Parts = {}
    digests = {}
    for k, (part, label, shown) in enumerate(images):
        found.setdefault(part, []).append((label, str(k)))
        digests[str(k)] = hashlib.sha256(bytes([shown])).digest()
    told = list(copies(found, digests))
    gone = {copy.file for copy in told if copy.what != IN_TWO_CLASSES}
    assert all(digests[copy.file] == digests[copy.of] and copy.of not in gone for copy in told)
    kept = [(part, label, digests[file]) for part in found for label, file in found[part] if file not in gone]
    assert len(set(kept)) == len(kept)
    parts_of = {digest: {part for part, _, other in kept if other == digest} for _, _, digest in kept}
    assert all(len(parts) == 1 for parts in parts_of.values())
    shown_before = {digests[str(k)] for k in range(len(images))}
    assert set(parts_of) == shown_before
    assert {digest for part, _, digest in kept if part == "test"} == {
        digests[file] for _, file in found.get("test", [])
    }


def test_other_sizes_are_other_images(tmp_path: Path) -> None:
    """Two images of one colour have the same bytes where they have as many pixels."""
    for name in ("a", "b"):
        picture(tmp_path / "photos" / name / "wide.png", np.zeros((4, 8, 3), np.uint8))
        picture(tmp_path / "photos" / name / "high.png", np.zeros((8, 4, 3), np.uint8))
    made = new_from_folder("sizes", tmp_path / "photos", tmp_path)
    assert len(rows(made.split.train)) + len(rows(made.split.test)) == 4
    assert [line.split(": ")[1] for line in made.said if line.startswith("left")] == [f"2, {IN_TWO_CLASSES}"]
