"""Tiny-ImageNet-LT from a small tree: class folders, annotations of test images, and the rule that draws its tail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_data import WNIDS, move, photo, small, use_card

from lt_bench.data import DataSpec, load_card, open_split
from lt_bench.data.cards import Known
from lt_bench.data.split import class_sizes, draw, index_sha256
from lt_bench.errors import UserError


@pytest.fixture
def tiny(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eleven images of each of three classes; the archive's own list of classes is in another order."""
    folder = working_folder / "data" / "tiny-imagenet-200"
    for wnid in WNIDS:
        for k in range(11):
            photo(folder / "train" / wnid / "images" / f"{wnid}_{k}.JPEG")
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t7\t7\n")
    (folder / "wnids.txt").write_text("\n".join(WNIDS[::-1]))
    lines = [f"val_{k}.JPEG\t{wnid}\t0\t0\t7\t7\n" for k, wnid in enumerate((WNIDS[2], WNIDS[0], WNIDS[1]))]
    for k in range(3):
        photo(folder / "val" / "images" / f"val_{k}.JPEG")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    known = Known(profile="exponential", factor=8, total=11, largest=8, smallest=1)
    card = small("tiny-imagenet-lt", 3, known, train=33, test=3).model_copy(update={"n_max": 8, "factor": 8.0})
    use_card(monkeypatch, card)
    return folder


def test_tiny_imagenet_is_drawn_by_the_rule_of_ldam(tiny: Path) -> None:
    split = open_split(DataSpec(name="tiny-imagenet-lt"))
    assert split.counts.tolist() == [8, 2, 1]
    # ImageFolder's order is that of the names as text: 0, 1, 10, 2, ...
    order = sorted(range(11), key=str)
    rng = np.random.RandomState(0)
    first = list(range(11))
    rng.shuffle(first)
    wanted = [f"train/{WNIDS[0]}/images/{WNIDS[0]}_{order[k]}.JPEG" for k in first[:8]]
    assert list(split.train.files[:8]) == wanted
    assert split.test.files == tuple(f"val/images/val_{k}.JPEG" for k in range(3))
    assert split.test.labels.tolist() == [2, 0, 1]
    assert split.class_names == WNIDS


def test_validation_images_of_tiny_imagenet_come_from_what_the_tail_leaves(tiny: Path) -> None:
    split = open_split(DataSpec(name="tiny-imagenet-lt", validation_per_class=3))
    assert split.validation is not None
    assert not set(split.validation.files) & set(split.train.files)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: photo(folder / "train" / "n9" / "0.JPEG"), "train/n9: is the folder of none of the 3 classes"),
        (lambda folder: (folder / "train" / WNIDS[1]).rename(folder / "gone"), "there is no such folder of a class"),
        (lambda folder: (folder / "wnids.txt").write_text("a\nb\n"), "wnids.txt: names 2 classes, expected 3"),
        (
            lambda folder: (folder / "wnids.txt").unlink(),
            "wnids.txt: there is no such list of classes; images: tiny-im",
        ),
        (
            lambda folder: (folder / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn9\n"),
            r"val_annotations.txt:1: expected a file and one of the 3 classes, found 'val_0.JPEG\\tn9'",
        ),
        (
            lambda folder: (folder / "val" / "val_annotations.txt").write_text(f"val_0.JPEG\t{WNIDS[0]}\n" * 2),
            r"val_annotations.txt:2: val_0.JPEG stands in line 1 too",
        ),
        (
            lambda folder: (folder / "val" / "images").rename(folder / "val" / WNIDS[0]),
            "; val has been sorted into class folders; unpack the archive anew",
        ),
        (
            lambda folder: move(folder, "val/images/val_0.JPEG", f"val/images/{WNIDS[2]}/val_0.JPEG"),
            "; val/images has been sorted into class folders; unpack the archive anew",
        ),
        (
            lambda folder: (folder.rename(folder.parent / "x"), (folder.parent / f"{folder.name}.zip").touch()),
            "; there is its archive; unpack it there",
        ),
    ],
)
def test_what_is_wrong_with_tiny_imagenet_is_told(tiny: Path, change: Callable[[Path], Any], message: str) -> None:
    change(tiny)
    with pytest.raises(UserError, match=message):
        open_split(DataSpec(name="tiny-imagenet-lt"))


@pytest.mark.parametrize(
    ("factor", "total", "groups"),
    [(10, 39_072, (139, 61, 0)), (50, 25_082, None), (100, 21_549, (70, 70, 60)), (200, 18_836, None)],
)
def test_what_the_card_knows_of_tiny_imagenet_follows_from_the_rule(
    factor: int, total: int, groups: tuple[int, int, int] | None
) -> None:
    card = load_card("tiny-imagenet-lt")
    known = card.expected("exponential", factor, 500, 0)
    assert known is not None
    assert (known.total, known.groups) == (total, groups)
    names = [str(c) for c in range(200)]
    sizes = class_sizes(200, 500, factor, "exponential")
    indices, _ = draw(np.repeat(np.arange(200), 500), sizes, 0, 0, names)
    assert known.index_sha256 == index_sha256(indices)
