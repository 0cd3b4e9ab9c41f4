from __future__ import annotations

import json
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

from lt_bench.data import open_split
from lt_bench.data.cards import ImageList, card_names, load_card, remember, remembered
from lt_bench.data.class_names import fault
from lt_bench.data.decoding import read_rgb
from lt_bench.data.folder import FilePart, read_list
from lt_bench.data.new_set import list_line, new_from_folder, quoted
from lt_bench.data.spec import DataSpec
from lt_bench.data.split import class_sizes, draw
from lt_bench.errors import UserError
from lt_bench.recipe import load_recipe
from lt_bench.recipe.files import SETTINGS, shipped
from lt_bench.sweep import Packed
from lt_bench.training.options import Options, Outcome
from lt_bench.yaml_files import parse_yaml

LtBench = Callable[..., Any]
SIZES = {"wren": 20, "Great Tit, male": 14, "oiseau été": 10, "カラス": 8, "robin": 6, "heron": 4}
SHORT = (
    "protocol.epochs=1",
    "protocol.evaluate_every=1",
    "protocol.augmentation.size=32",
    "protocol.augmentation.test_resize=32",
)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_bench.data.cards._named", {})


@pytest.fixture
def photos(working_folder: Path) -> Path:
    """62 images of 48x40 pixels in six class folders."""
    root, rng = working_folder / "photos", np.random.default_rng(0)
    for name, size in SIZES.items():
        for k in range(size):
            picture(root / name / f"{k:02}.jpg", rng.integers(0, 256, (40, 48, 3), dtype=np.uint8))
    return root


def picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


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
    picture(linked, np.zeros((8, 8, 3), np.uint8))
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
    split = new_from_folder("kinds", tmp_path / "photos", tmp_path).split
    assert len(split.train.labels) + len(split.test.labels) == 10
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
    for folder in folders:
        for name in ("a", "b"):
            picture(tmp_path / "photos" / folder / name / "0.png", np.full((8, 8, 3), ord(name), np.uint8))
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
        ("n" * 61, "at most 60 characters"),
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
    for name in ("train/a", "train/b", "test/a"):
        picture(root / name / "0.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="the class b has no test image"):
        new_from_folder("mine", root, tmp_path)
    for name in ("test/b", "test/c"):
        picture(root / name / "0.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="the test part has the class c, the training part has no image of it"):
        new_from_folder("mine", root, tmp_path)
    (root / "test" / "c" / "0.png").unlink()
    (root / "test" / "b" / "1.png").hardlink_to(root / "train" / "b" / "0.png")
    with pytest.raises(UserError, match=r"b/1.png and train/b/0.png|train/b/0.png and test/b/1.png are one file"):
        new_from_folder("mine", root, tmp_path)
    assert list(tmp_path.iterdir()) == [root]


# a long tail that is drawn


def test_a_factor_draws_as_for_cifar(photos: Path, lt_bench: LtBench) -> None:
    new_from_folder("my-birds", photos, test_per_class=1)
    card = load_card("my-birds")
    natural = open_split(DataSpec(name="my-birds").resolve(card))
    spec = DataSpec(name="my-birds", factor=4, n_max=10, subset_seed=3, validation_per_class=1).resolve(card)
    split = open_split(spec)
    sizes = class_sizes(6, 10, 4, "exponential")
    indices, held_out = draw(natural.train.labels, sizes, 1, 3, card.class_names or ())
    assert split.counts.tolist() == sizes
    assert split.train_indices.tolist() == indices.tolist()
    assert split.validation_indices.tolist() == held_out.tolist()
    assert isinstance(split.train, FilePart)
    assert isinstance(natural.train, FilePart)
    assert split.train.files == tuple(natural.train.files[k] for k in indices)
    assert len({split.index_sha256, natural.index_sha256}) == 2
    assert split.content_sha256 == split.train.sha256() != natural.content_sha256
    assert lt_bench("data", "describe", "my-birds", "factor=4", "n_max=9", "profile=step").code == 0


def test_a_long_tail_that_the_classes_cannot_serve(photos: Path) -> None:
    new_from_folder("my-birds", photos, test_per_class=1)
    card = load_card("my-birds")
    with pytest.raises(UserError, match=r"class 1 \(Great Tit, male\) has 13 .* \(with factor 2 data.n_max can be 7\)"):
        open_split(DataSpec(name="my-birds", factor=2).resolve(card))
    open_split(DataSpec(name="my-birds", factor=2, n_max=7).resolve(card))
    with pytest.raises(UserError, match=r"\(no data.n_max can give factor 500\)"):
        open_split(DataSpec(name="my-birds", factor=500).resolve(card))
    for setting in ({"n_max": 4}, {"profile": "step"}, {"subset_seed": 1}, {"validation_per_class": 1}):
        with pytest.raises(UserError, match="my-birds keeps its natural counts without"):
            DataSpec.read({"name": "my-birds", **setting}).resolve(card)


# where cards and settings are found


def test_a_set_is_found_by_name_and_by_path(photos: Path, lt_bench: LtBench, monkeypatch: pytest.MonkeyPatch) -> None:
    new_from_folder("my-birds", photos)
    here = load_recipe("my-birds/ce")
    assert load_recipe("my-birds/crt").first() is not None
    done = lt_bench("validate", "my-brids/ce")
    assert (done.code, "did you mean my-birds?" in done.err) == (2, True)
    monkeypatch.chdir("/")
    with pytest.raises(UserError, match="'my-birds' is not a known setting"):
        load_recipe("my-birds/ce")
    assert load_recipe(f"{photos.parent}/my-birds/ce").sha256() == here.sha256()
    assert remembered() == (photos.parent / "my-birds",)
    assert lt_bench("data", "verify", photos.parent / "my-birds").code == 0


def test_a_file_extends_a_recipe_on_a_setting_of_ones_own(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_from_folder("my-birds", photos)
    file = photos.parent / "mine.yaml"
    file.write_text("extends: my-birds/ce\nsecond_stage: crt\n")
    there = load_recipe("my-birds/ce")
    first = load_recipe("mine.yaml").first()
    assert first is not None
    assert first.sha256() == there.sha256()
    monkeypatch.chdir("/")
    assert load_recipe(file).sha256() == load_recipe(f"{photos.parent}/my-birds/crt").sha256()
    file.write_text("extends: my-brids/ce\n")
    with pytest.raises(UserError, match=r"mine.yaml: extends: 'my-brids/ce' is not a known recipe or protocol"):
        load_recipe(file)


def test_what_one_has_in_the_working_folder_is_listed(photos: Path, lt_bench: LtBench) -> None:
    new_from_folder("my-birds", photos)
    Path("mine.yaml").write_text("# What I try.\nextends: my-birds/ce\n")
    Path("other.yaml").write_text("services: {web: {}}\n")
    Path("broken.yaml").write_text("a: [1\n")
    own = {}
    for what, known in {"datasets": card_names(), "settings": shipped(SETTINGS), "recipes": shipped()}.items():
        (own[what],) = (row for row in json.loads(lt_bench("list", what, "--json").out) if row["name"] not in known)
    assert [row["name"] for row in own.values()] == ["my-birds", "my-birds", "mine.yaml"]
    assert own["settings"]["backbone"] == "resnet10"
    assert own["recipes"]["what"] == "What I try."


def test_a_name_that_is_half_of_one_is_told_the_other_half(photos: Path) -> None:
    new_from_folder("my-birds", photos)
    with pytest.raises(
        UserError, match=r"ce: is a method; .* such as my-birds/ce, cifar10-lt-noisy/ce, cifar10-lt/ce, "
    ):
        load_recipe("ce")
    with pytest.raises(UserError, match="my-birds: is a setting; say what is run on it, such as my-birds/ce"):
        load_recipe("my-birds")


def test_two_cards_of_one_name_are_refused(photos: Path) -> None:
    (photos.parent / "other").mkdir()
    for out in (photos.parent, photos.parent / "other"):
        new_from_folder("twice", photos, out)
    remember(Path("twice"))
    assert load_card("twice").name == "twice"
    remember(Path("other/twice"))
    with pytest.raises(UserError, match=r"twice: there is a card of this name in .*/twice and in .*/other/twice"):
        load_card("twice")


def test_a_card_of_ones_own_has_its_own_name(photos: Path) -> None:
    made = new_from_folder("mine", photos).folder
    made.rename("digits-lt")
    with pytest.raises(UserError, match=r"digits-lt/card.yaml: digits-lt is a data set that ships"):
        load_card("digits-lt")
    with pytest.raises(UserError, match=r"digits-lt is a shipped setting and digits-lt/setting.yaml a file here"):
        load_recipe("digits-lt/ce")
    Path("digits-lt").rename("yours")
    with pytest.raises(UserError, match=r"yours/card.yaml: name: 'mine' is not the name of the folder"):
        load_card("yours")
    (Path("yours") / "card.yaml").write_text("name: yours\n")
    with pytest.raises(UserError, match=r"yours/card.yaml: version: Field required"):
        load_card("yours")


# from nothing to a table


def test_a_set_of_ones_own_is_run_and_tabled(photos: Path, lt_bench: LtBench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lt_bench("data", "new", "my-birds", "--images", "photos").code == 0
    done = lt_bench("run", "my-birds/balanced-softmax", "my-birds/ce", *SHORT, "--workers", 0)
    assert (done.code, len(done.out.splitlines())) == (0, 2)
    assert lt_bench("leaderboard", "build").code == 0
    (table,) = Path("results/tables").glob("my-birds-*.md")
    assert {"balanced-softmax", "ce"} <= set(table.read_text().split())
    assert lt_bench("compare", "ce", "balanced-softmax").code == 0
    (weights,) = Path("runs").glob("my-birds/*/ce/*/weights.safetensors")
    assert lt_bench("evaluate", weights, "--workers", 0, "--json").code == 0
    # A worker of `sweep --jobs` is told where the card lies.
    recipe = load_recipe("my-birds/ce", ["protocol.epochs=1"])
    options = Options(work=Path("runs"), records=Path("results/records").absolute(), workers=0)
    folder = Path("my-birds").absolute()
    monkeypatch.chdir("/")
    monkeypatch.setattr("lt_bench.data.cards._named", {})
    assert isinstance(Packed(recipe, 0, options).attempt(), UserError)
    assert isinstance(Packed(load_recipe(f"{folder}/ce", SHORT), 0, options, cards=(folder,)).attempt(), Outcome)


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
