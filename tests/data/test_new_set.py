"""A data set of one's own is made of folders or lists of images, or refused in one line."""

from __future__ import annotations

import os
import re
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_data import SIZES, picture

from lt_bench.data import open_split
from lt_bench.data.cards import ImageList, load_card
from lt_bench.data.class_names import fault
from lt_bench.data.decoding import read_rgb
from lt_bench.data.folder import FilePart, read_list
from lt_bench.data.new_set import list_line, new_from_folder, quoted
from lt_bench.data.spec import DataSpec
from lt_bench.errors import UserError
from lt_bench.yaml_files import parse_yaml

pytestmark = pytest.mark.usefixtures("nothing_remembered")

LtBench = Callable[..., Any]


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_class_folders_become_a_set(photos: Path, lt_bench: LtBench) -> None:
    done = lt_bench("data", "new", "my-birds", "--images", "photos")
    assert (done.code, done.err) == (0, "")
    assert "6 classes (0 many, 0 medium, 6 few), images: 50 training, 12 test" in done.out
    assert "test part: drawn, 2 images of each class, seed 0" in done.out
    card = load_card("my-birds")
    assert card.class_names == tuple(SIZES)
    assert card.n_max == 18
    split = open_split(DataSpec(name="my-birds").resolve(card))
    assert split.counts.tolist() == [size - 2 for size in SIZES.values()]
    assert np.bincount(split.test.labels).tolist() == [2] * 6
    assert isinstance(split.train, FilePart)
    assert isinstance(split.test, FilePart)
    everything = {f"{name}/{k:02}.jpg" for name, size in SIZES.items() for k in range(size)}
    assert sorted(split.train.files + split.test.files) == sorted(everything)
    assert split.train_indices.tolist() == list(range(50))


def test_what_is_drawn_can_be_repeated(photos: Path) -> None:
    (photos.parent / "other").mkdir()
    first, again, other = (
        new_from_folder("birds", photos, out, seed=seed)
        for out, seed in ((photos.parent, 0), (photos.parent / "other", 0), (photos, 1))
    )
    assert (first.folder / "test.txt").read_bytes() == (again.folder / "test.txt").read_bytes()
    assert (first.folder / "test.txt").read_bytes() != (other.folder / "test.txt").read_bytes()
    assert first.split.digest == again.split.digest


def test_ties_are_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        for k in range(3 if name == "c" else 2):
            picture(tmp_path / "photos" / name / f"{k}.png", np.full((8, 8, 3), k, np.uint8))
    assert new_from_folder("abc", tmp_path / "photos", tmp_path).split.class_names == ("c", "a", "b")


def test_dirty_folders(photos: Path, lt_bench: LtBench) -> None:
    heron, whole = photos / "heron", (photos / "heron" / "00.jpg").read_bytes()
    (heron / "cut.jpg").write_bytes(whole[:400])
    (heron / "no image.PNG").write_bytes(b"text")
    (heron / ".DS_Store").write_bytes(b"x")
    (heron / "notes.txt").write_text("x")
    (heron / "gone.jpg").symlink_to("nowhere.jpg")
    (heron / "again.jpg").symlink_to("00.jpg")
    (heron / "line\nbreak.jpg").write_bytes(whole)
    os.mkfifo(heron / "pipe.jpg")
    (heron / "loop").symlink_to(heron)
    Path(os.fsdecode(os.fsencode(heron) + b"/\xff.jpg")).write_bytes(whole)
    (photos / "empty").mkdir()
    (photos / "list.csv").write_text("x")
    linked = photos.parent / "elsewhere.jpeg"
    picture(linked, np.ones((8, 8, 3), np.uint8))
    (heron / "linked.jpeg").symlink_to(linked)
    picture(heron / "deep" / "er" / "x.JPG", np.zeros((8, 8, 3), np.uint8))
    done = lt_bench("data", "new", "my-birds", "--images", photos, "--test-per-class", 1)
    assert (done.code, done.err) == (0, "")
    left_out = [line.removeprefix("left out: ") for line in done.out.splitlines() if line.startswith("left out: ")]
    assert {line.rpartition(": ")[0] if "(" not in line else line.split(": ")[0] for line in left_out} == {
        "1, beside the class folders",
        "1, hidden",
        "1, no ending of an image",
        "2, broken links and what is no regular file",
        "1, the same file again",
        "2, a line break in the name, or no UTF-8",
        "1, links to a folder they lie in",
        "2, cannot be read",
        "1, class folders without images",
    }
    split = open_split(DataSpec(name="my-birds"))
    assert isinstance(split.train, FilePart)
    assert isinstance(split.test, FilePart)
    files = {f for f in split.train.files + split.test.files if f.startswith("heron/")}
    # Of a file that is there twice the first name stays.
    expected = {"00.jpg", "01.jpg", "02.jpg", "03.jpg", "linked.jpeg", "deep/er/x.JPG"}
    assert files == {f"heron/{name}" for name in expected}


def test_parts_inside_of_classes_are_told(tmp_path: Path) -> None:
    for name, part, k in (("a", "Train", 0), ("a", "val", 1), ("b", "train", 2), ("b", "more", 3)):
        picture(tmp_path / "photos" / name / part / "x.png", np.full((8, 8, 3), k, np.uint8))
    said = new_from_folder("ab", tmp_path / "photos", tmp_path).said
    assert "left in: 1, a part inside of a class, taken as any of its images: a/Train" in said


def test_images_of_every_kind_are_read_as_rgb(tmp_path: Path) -> None:
    rgb = np.full((6, 8, 3), (200, 100, 50), np.uint8)
    kinds = {
        "grey.png": Image.fromarray(rgb[..., 0]),
        "palette.PNG": Image.fromarray(rgb).quantize(4),
        "cmyk.TIFF": Image.fromarray(rgb).convert("CMYK"),
        "deep.png": Image.fromarray(np.full((6, 8), 200 * 257, np.uint16)),
        "turned.Png": Image.fromarray(rgb),
    }
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    for name, image in kinds.items():
        for folder in ("a", "b"):
            path = tmp_path / "photos" / folder / f"{folder} {name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, **({"exif": turned} if "turned" in name else {}))
    made = new_from_folder("kinds", tmp_path / "photos", tmp_path)
    copied = [line for line in made.said if "copies of an image of their class" in line]
    assert copied == ["left out: 6, copies of an image of their class: a/a grey.png (a/a deep.png), ..."]
    assert len(made.split.train.labels) + len(made.split.test.labels) == 10 - 6
    for name in kinds:
        image = read_rgb(tmp_path / "photos" / "a" / f"a {name}")
        assert (image.mode, image.size) == ("RGB", (8, 6))  # a rotation in EXIF is not carried out
        wanted = (200,) * 3 if name in ("grey.png", "deep.png") else (200, 100, 50)
        assert np.asarray(image)[3, 3].tolist() == pytest.approx(list(wanted), abs=1)


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (("train", "test"), {"train": "train", "test": "test"}),
        (("Train", "val"), {"train": "Train", "test": "val"}),
        (("train", "val", "test"), {"train": "train", "validation": "val", "test": "test"}),
    ],
)
def test_parts_that_are_given_are_taken(tmp_path: Path, folders: tuple[str, ...], parts: dict[str, str]) -> None:
    for k, folder in enumerate(folders):
        for name in ("a", "b"):
            picture(tmp_path / "photos" / folder / name / "0.png", np.full((8, 8, 3), ord(name) + 9 * k, np.uint8))
    made = new_from_folder("parts", tmp_path / "photos", tmp_path)
    split = made.split
    found = {"train": split.train, "validation": split.validation, "test": split.test}
    assert {part: there.files[0].split("/")[0] for part, there in found.items() if there} == parts  # type: ignore[union-attr]
    assert any(line.startswith("parts: train from") for line in made.lines())


def test_a_train_folder_alone_is_looked_into(tmp_path: Path) -> None:
    for k in range(4):
        picture(tmp_path / "photos" / "train" / "ab"[k % 2] / f"{k}.png", np.full((8, 8, 3), k, np.uint8))
    assert new_from_folder("alone", tmp_path / "photos", tmp_path).split.class_names == ("a", "b")


# lists


def lists(photos: Path, lines: dict[str, str]) -> tuple[Path, Path]:
    for name, text in lines.items():
        (photos / name).write_text(text)
    return photos / "tr.txt", photos / "te.txt"


TRAIN = "wren/00.jpg 0\nwren/01.jpg 0\nrobin/00.jpg 1\nGreat Tit, male/00.jpg 2\n"
TEST = "wren/02.jpg 0\nrobin/01.jpg 1\nGreat Tit, male/01.jpg 2\n"


def test_lists_stay_where_they_are(photos: Path, lt_bench: LtBench) -> None:
    train, test = lists(photos, {"tr.txt": TRAIN, "te.txt": TEST})
    done = lt_bench("data", "new", "listed", "--train", train.relative_to(photos.parent), "--test", test)
    assert (done.code, done.err) == (0, "")
    assert sorted(written(Path("listed"))) == ["card.yaml", "setting.yaml"]
    split = open_split(DataSpec(name="listed"))
    assert split.class_names == ("wren", "robin", "Great Tit, male")
    assert split.counts.tolist() == [2, 1, 1]
    train.write_text(TRAIN + "wren/03.jpg 0\n")
    with pytest.raises(UserError, match=r"tr.txt: not the list that the card was made for"):
        open_split(DataSpec(name="listed"))


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (TRAIN.replace(" 2", " 3"), TEST, "tr.txt:4: 1 of 4 classes have no training image, the first is 2"),
        (TRAIN, TEST.replace(" 2", " 3"), "label 3 is not in 0..2"),
        (TRAIN, TEST.replace(" 1", " 0"), r"te.txt: class 1 \(robin\) has no test image"),
        (TRAIN, TRAIN, "te.txt:1: wren/00.jpg is in tr.txt too, as are 3 behind it"),
        (TRAIN, "gone.jpg 0\n", "1 of 1 images are missing, the first is gone.jpg"),
        (TRAIN, "bad.jpg 0\n", "te.txt: 1 of its images cannot be read, the first is bad.jpg"),
        ("", TEST, "tr.txt: lists no images"),
        (TRAIN, "wren/00.jpg\n", "te.txt:1: expected 'relative/path label'"),
        ("wren/00.jpg 0\n", "wren/01.jpg 0\n", "one class, wren, is too few"),
    ],
)
def test_lists_that_are_refused(photos: Path, lt_bench: LtBench, train: str, test: str, message: str) -> None:
    (photos / "bad.jpg").write_bytes(b"no image")
    paths = lists(photos, {"tr.txt": train, "te.txt": test})
    refused(lt_bench, message, "new", "listed", "--train", paths[0], "--test", paths[1])


def test_what_no_run_could_read_again_is_no_list(photos: Path, lt_bench: LtBench) -> None:
    _, test = lists(photos, {"te.txt": TEST})
    os.mkfifo("pipe")
    refused(lt_bench, "pipe: is no file; a list stays where it is", "new", "x", "--train", "pipe", "--test", test)


def test_a_seed_where_nothing_is_drawn_is_refused(photos: Path, lt_bench: LtBench) -> None:
    train, test = lists(photos, {"tr.txt": TRAIN, "te.txt": TEST})
    refused(lt_bench, "--seed: the test part is that", "new", "x", "--train", train, "--test", test, "--seed", 1)
    for k, name in enumerate(("train/a", "train/b", "test/a", "test/b")):
        picture(Path("parts") / name / "0.png", np.full((8, 8, 3), k, np.uint8))
    refused(lt_bench, "has a test part of its own; leave --seed out", "new", "x", "--images", "parts", "--seed", 0)


def refused(lt_bench: LtBench, message: str, *arguments: object) -> None:
    """One line, exit code 2, nothing written."""
    before = sorted(Path().iterdir())
    done = lt_bench("data", *arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert not done.out
    assert re.search(message, done.err), done.err
    assert sorted(Path().iterdir()) == before


# refusals


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits-lt", "is the name of a data set or setting that ships"),
        ("CIFAR100-lt", "is the name of a data set or setting that ships"),
        ("a/b", "a name has letters"),
        ("..", "a name has letters"),
        ("x=1", "a name has letters"),
        ("", "a name has letters"),
        ("vögel", r"a name has letters \(a to z\)"),
        ("n" * 61, "at most 60 of them"),
        ("photos", "photos: is there already; choose another name"),
    ],
)
def test_names_that_are_refused(photos: Path, lt_bench: LtBench, name: str, message: str) -> None:
    refused(lt_bench, message, "new", name, "--images", photos)


def test_folders_that_are_refused(photos: Path, lt_bench: LtBench) -> None:
    (photos.parent / "nothing").mkdir()
    (photos.parent / "flat").mkdir()
    picture(photos.parent / "flat" / "a.png", np.zeros((8, 8, 3), np.uint8))
    picture(photos.parent / "single" / "a" / "a.png", np.zeros((8, 8, 3), np.uint8))
    for folder, message in {
        "nothing": "nothing: no class folders with images",
        "flat": r"flat: no class folders with images that can be read \(left out: beside the class folders: a.png",
        "gone": "gone: not a folder that can be read: No such file",
        "photos/wren/00.jpg": "not a folder that can be read",
        "single": "the class a has 1 image, too few to draw",
    }.items():
        refused(lt_bench, message, "new", "mine", "--images", folder)
    refused(lt_bench, "heron has 4 images, too few to draw 4", "new", "m", "--images", photos, "--test-per-class", 4)
    refused(lt_bench, "give --images FOLDER", "new", "mine")
    refused(lt_bench, "give --images FOLDER", "new", "mine", "--images", photos, "--train", "x.txt")
    refused(lt_bench, "gone: there is no such folder", "new", "mine", "--images", photos, "--out", "gone")


def test_parts_that_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for k, name in enumerate(("train/a", "train/b", "test/a")):
        picture(root / name / "0.png", np.full((8, 8, 3), k, np.uint8))
    with pytest.raises(UserError, match="the class b has no test image"):
        new_from_folder("mine", root, tmp_path)
    for k, name in enumerate(("test/b", "test/c")):
        picture(root / name / "0.png", np.full((8, 8, 3), 9 + k, np.uint8))
    with pytest.raises(UserError, match="the test part has the class c, the training part has no image of it"):
        new_from_folder("mine", root, tmp_path)
    (root / "test" / "c" / "0.png").unlink()
    (root / "test" / "b" / "1.png").hardlink_to(root / "train" / "b" / "0.png")
    with pytest.raises(UserError, match=r"b/1.png and train/b/0.png|train/b/0.png and test/b/1.png are one file"):
        new_from_folder("mine", root, tmp_path)
    assert list(tmp_path.iterdir()) == [root]


# what is written is read back

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\n/"), min_size=1, max_size=20)


@given(st.lists(st.tuples(NAMES, st.integers(0, 9)), min_size=1, unique_by=lambda row: row[0]))
def test_any_name_of_an_image_is_read_back(rows: list[tuple[str, int]]) -> None:
    rows = [(f"{name}.jpg", label) for name, label in rows]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "list.txt").write_bytes("".join(map(list_line, rows)).encode())
        part = read_list(Path(folder), ImageList(file="list.txt", images=len(rows)), 10)
    assert [os.path.normpath(file) for file in part.files] == [file for file, _ in rows]
    assert part.labels.tolist() == [label for _, label in rows]


@given(NAMES.filter(lambda name: fault(name) is None) | st.text(string.digits + "eE.+-_:~", min_size=1))
def test_any_name_of_a_class_is_read_back(name: str) -> None:
    assert parse_yaml(f"names: [{quoted(name)}]", "card") == {"names": [name]}
