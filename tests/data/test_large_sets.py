"""ImageNet-LT and Places-LT in the forms in which they are published, as small trees; the cards of all large sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_data import PIXELS, WNIDS, move, photo, small, use_card

from lt_bench.data import DataSpec, load_card, open_split
from lt_bench.data.cards import FolderSource, ImageList, Known
from lt_bench.errors import MissingDataError, UserError

LtBench = Callable[..., Any]

SETS = ("imagenet-lt", "places-lt", "inaturalist2018", "tiny-imagenet-lt")


def write_lists(folder: Path, prefix: str, lists: Mapping[str, list[str]]) -> None:
    """Lists of `path label` lines, and the images in them."""
    for part, lines in lists.items():
        for line in lines:
            photo(folder / line.split()[0])
        (folder / f"{prefix}_{part}.txt").write_text("\n".join(lines) + "\n")


# --- ImageNet-LT and Places-LT: list files -----------------------------------------------------------

TRAIN = [f"train/{WNIDS[c]}/{WNIDS[c]}_{k}.JPEG {c}" for c, k in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0))]
IMAGENET = {
    "train": TRAIN,
    "val": [f"train/{wnid}/{wnid}_9.JPEG {c}" for c, wnid in enumerate(WNIDS)],
    "test": [f"val/{wnid}/ILSVRC2012_val_0000000{c}.JPEG {c}" for c, wnid in enumerate(WNIDS)],
}


@pytest.fixture
def imagenet(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_lists(working_folder / "data" / "imagenet", "ImageNet_LT", IMAGENET)
    known = Known(total=6, largest=3, smallest=1, groups=(0, 0, 3))
    card = small("imagenet-lt", 3, known, train=6, validation=3, test=3)
    use_card(monkeypatch, card)
    monkeypatch.setattr("lt_bench.data.cards.load_card", lambda name: card)
    return working_folder / "data" / "imagenet"


def test_imagenet_lt_has_a_validation_part(imagenet: Path) -> None:
    split = open_split(DataSpec(name="imagenet-lt"))
    assert split.counts.tolist() == [3, 2, 1]
    assert split.class_names == WNIDS
    assert split.validation is not None
    assert split.validation.files[0] == "train/n01440764/n01440764_9.JPEG"
    assert split.test.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("part", "number", "line", "message"),
    [
        ("train", 5, "train/n01443537/n01443537_1.JPEG 3", "train.txt:5: label 3 is not in 0..2"),
        ("train", 5, "train/../../n01443537_1.JPEG 1", "train.txt:5: .* leaves the data folder"),
        ("train", 6, "train/n01443537/n01443537_2.JPEG 1", "train.txt: 1 of 3 classes have no training image"),
        ("train", 4, "train/n01443537/n01443537_0.JPEG 0", "train.txt:5: .*_0.JPEG has the label 1 here and 0 before"),
        ("test", 2, "train/n01443537/n01443537_1.JPEG 1", "test.txt:2: .* is in ImageNet_LT_train.txt too"),
        ("val", 3, "val/n01484850/ILSVRC2012_val_00000002.JPEG 2", "test.txt:3: .* is in ImageNet_LT_val.txt too"),
        (
            "test",
            2,
            "val/n01440764/ILSVRC2012_val_00000000.JPEG 0",
            "test.txt: class 0 has 2 images, expected 1 of each",
        ),
    ],
)
def test_a_wrong_list_is_refused_with_its_line(imagenet: Path, part: str, number: int, line: str, message: str) -> None:
    path = imagenet / f"ImageNet_LT_{part}.txt"
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    if "_0.JPEG has" in message:
        lines[number] = line.replace(" 0", " 1")
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=f"ImageNet_LT_{message}"):
        open_split(DataSpec(name="imagenet-lt"))


def test_a_class_that_a_sorted_list_jumps_over_is_missed_at_a_line(imagenet: Path) -> None:
    path = imagenet / "ImageNet_LT_train.txt"
    path.write_text(path.read_text().replace("JPEG 1", "JPEG 0"))
    with pytest.raises(UserError, match=r"train.txt:6: 1 of 3 classes have no training image, the first is 1"):
        open_split(DataSpec(name="imagenet-lt"))


def test_counts_that_are_not_those_of_the_card_are_refused(imagenet: Path) -> None:
    path = imagenet / "ImageNet_LT_train.txt"
    path.write_text(path.read_text().replace("n01440764_2.JPEG 0", "n01440764_2.JPEG 2"))
    with pytest.raises(UserError, match="largest of imagenet-lt is 2, its card says 3"):
        open_split(DataSpec(name="imagenet-lt"))


def flatten(folder: Path) -> None:
    """The validation images as ILSVRC's archive unpacks."""
    for path in (folder / "val").rglob("*.JPEG"):
        path.rename(folder / "val" / path.name)


def say_flat(folder: Path) -> None:
    path = folder / "ImageNet_LT_test.txt"
    path.write_text("".join(f"val/{line.rpartition('/')[2]}\n" for line in path.read_text().splitlines()))


WRONG = {
    "flat val": (flatten, r"3 of 3 images are missing, .*; val is flat, as its archive unpacks: sort it"),
    "flat list": (say_flat, r"val has class folders and the test list says that it is flat"),
    "archives": (
        lambda folder: (move(folder, "train", "elsewhere"), move(folder, "val", "train/n01440764.tar")),
        r"3 of 3 images are missing, .*; train holds an archive of each class, as its own archive unpacks; unpack each",
    ),
    "deep": (lambda folder: move(folder, "train", "imagenet/train"), r"the folder lies one level too deep"),
    "kaggle": (
        lambda folder: move(folder, "train", "ILSVRC/Data/CLS-LOC/train"),
        r"the images lie in ILSVRC/Data/CLS-LOC; move or link",
    ),
    "no list": (
        lambda folder: (folder / "ImageNet_LT_val.txt").unlink(),
        r"imagenet/ImageNet_LT_val.txt: there is no such list of images; lists: data/ImageNet_LT of github.com/face",
    ),
    "no images": (
        lambda folder: move(folder, "train", "elsewhere"),
        r"3 of 3 images are missing, .*; images: train and val of ILSVRC-2012, which need a registration",
    ),
    "nothing": (
        lambda folder: move(folder, ".", "../elsewhere"),
        r"no data for imagenet-lt: .*; images: train and val of .*; lists: data/ImageNet_LT",
    ),
    "beside": (
        lambda folder: (move(folder, "train", "../train"), move(folder, ".", "../elsewhere")),
        r"no data for imagenet-lt: .*; train lies beside the folder that is looked for",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_form_of_imagenet_is_recognised(imagenet: Path, case: str) -> None:
    change, message = WRONG[case]
    change(imagenet)
    with pytest.raises(MissingDataError, match=message) as error:
        open_split(DataSpec(name="imagenet-lt"))
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("; lt-bench data describe imagenet-lt tells what is expected")


TWO_ONE = hashlib.sha256(b"2,1").hexdigest()
PLACES = {
    "train": ["train/airfield/00004851.jpg 0", "train/airfield/00004852.jpg 0", "train/bakery/shop/00000001.jpg 1"],
    "val": ["train/airfield/00000009.jpg 0", "train/bakery/shop/00000009.jpg 1"],
    "test": ["val/airfield/Places365_val_00000001.jpg 0", "val/bakery/shop/Places365_val_00000002.jpg 1"],
}


def test_other_counts_of_the_same_sum_are_refused(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lists(working_folder / "data" / "places", "Places_LT", PLACES)
    wanted = hashlib.sha256(b"1,2").hexdigest()
    use_card(monkeypatch, small("places-lt", 2, Known(total=3, counts_sha256=wanted), train=3, validation=2, test=2))
    with pytest.raises(UserError, match=f"counts_sha256 of places-lt is {TWO_ONE}, its card says {wanted}"):
        open_split(DataSpec(name="places-lt"))


def as_ordinary(line: str) -> str:
    """A line of the easy directory structure as that of the ordinary download says it."""
    file, label = line.split()
    if file.startswith("val/"):
        return f"val_256/{Path(file).name} {label}"
    _, rest = file.split("/", 1)
    return f"data_256/{rest[0]}/{rest} {label}"


@pytest.mark.parametrize("ordinary", [False, True])
def test_places_lt_in_both_spellings(working_folder: Path, monkeypatch: pytest.MonkeyPatch, ordinary: bool) -> None:
    lists = {part: [as_ordinary(line) if ordinary else line for line in lines] for part, lines in PLACES.items()}
    folder = working_folder / "data" / "places"
    write_lists(folder, "Places_LT", lists)
    use_card(monkeypatch, small("places-lt", 2, Known(total=3, counts_sha256=TWO_ONE), train=3, validation=2, test=2))
    split = open_split(DataSpec(name="places-lt"))
    assert split.counts.tolist() == [2, 1]
    assert split.class_names == ("airfield", "shop")
    other = {part: [line if ordinary else as_ordinary(line) for line in lines] for part, lines in PLACES.items()}
    for part, lines in other.items():
        (folder / f"Places_LT_{part}.txt").write_text("\n".join(lines) + "\n")
    wanted = "easy directory structure, in train/<class>" if not ordinary else "ordinary 256 x 256 download"
    with pytest.raises(MissingDataError, match=f"; the images are those .*{wanted}"):
        open_split(DataSpec(name="places-lt"))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("data_large/a/airfield/00004851.jpg", "data_large holds the images in high resolution"),
        ("data_256_standard/a/airfield/00004851.jpg", "data_256_standard is what torchvision calls data_256"),
        ("places365_standard/train/airfield/00004851.jpg", "the folder lies one level too deep"),
    ],
)
def test_wrong_forms_of_places(working_folder: Path, monkeypatch: pytest.MonkeyPatch, found: str, message: str) -> None:
    folder = working_folder / "data" / "places"
    photo(folder / found)
    for part, lines in PLACES.items():
        (folder / f"Places_LT_{part}.txt").write_text("\n".join(lines) + "\n")
    use_card(monkeypatch, small("places-lt", 2, Known(total=3), train=3, validation=2, test=2))
    with pytest.raises(MissingDataError, match=f"; {message}"):
        open_split(DataSpec(name="places-lt"))


# --- verify ------------------------------------------------------------------------------------------


def test_verify_names_the_first_ten_and_counts_all(imagenet: Path, lt_bench: LtBench) -> None:
    done = lt_bench("data", "verify", "imagenet-lt")
    assert (done.code, done.err) == (0, "")
    assert "6 training images agree with the card in total, largest, smallest, groups" in done.out
    gone = [line.split()[0] for line in (*TRAIN, *IMAGENET["val"], *IMAGENET["test"])]
    for file in gone[:11]:
        (imagenet / file).unlink()
    (imagenet / gone[11]).write_bytes(b"no image")
    done = lt_bench("data", "verify", "imagenet-lt")
    assert done.code == 2
    assert done.out.splitlines() == [f"{file}: missing" for file in gone[:10]]
    (line,) = done.err.splitlines()
    assert "12 of 12 images are missing or unreadable, of which the first 10 are named above; images: train" in line


def test_verify_reads_every_image(imagenet: Path, lt_bench: LtBench) -> None:
    (imagenet / IMAGENET["test"][1].split()[0]).write_bytes(PIXELS.tobytes())
    done = lt_bench("data", "verify", "imagenet-lt")
    assert done.code == 2
    assert done.out.startswith("val/n01443537/ILSVRC2012_val_00000001.JPEG: none of the formats PNG, WEBP, JPEG")
    assert "1 of 12 images are missing or unreadable, named above" in done.err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "class-folders"}, "names: class-folders and annotations need a file of them"),
        ({"names": "wnids.txt"}, "names: class-folders and annotations need a file of them"),
        ({"folder": "val"}, "folder: is for coco and annotations, the form is lines"),
        ({"form": "class-folders", "names": "wnids.txt", "sha256": "0"}, "class-folders are no file with a digest"),
    ],
)
def test_a_card_says_of_a_list_what_its_form_has(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageList.read({"file": "train", "images": 3, **settings})


# --- the cards ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "classes", "parts", "known"),
    [
        ("imagenet-lt", 1000, (115_846, 20_000, 50_000), (115_846, 1280, 5, (385, 479, 136))),
        ("places-lt", 365, (62_500, 7_300, 36_500), (62_500, 4980, 5, (131, 163, 71))),
        ("inaturalist2018", 8142, (437_513, 24_426), (437_513, 1000, 2, None)),
        ("tiny-imagenet-lt", 200, (100_000, 10_000), None),
    ],
)
def test_the_cards_say_what_the_papers_do(name: str, classes: int, parts: tuple[int, ...], known: Any) -> None:
    card = load_card(name)
    assert isinstance(card.source, FolderSource)
    assert card.classes == classes
    assert tuple(images.images for images in card.source.parts.values()) == parts
    for part, images in card.source.parts.items():
        assert part == "train" or images.per_class == images.images / classes
    if known is not None:
        (facts,) = card.known
        assert (facts.total, facts.largest, facts.smallest, facts.groups) == known


@pytest.mark.parametrize("name", SETS)
def test_what_is_expected_of_each_is_told_without_its_files(lt_bench: LtBench, name: str) -> None:
    done = lt_bench("data", "describe", name, "--data-root", "nowhere")
    assert (done.code, done.err) == (0, "")
    assert "missing" in done.out
    assert "images: " in done.out
    line = lt_bench("data", "verify", name, "--data-root", "nowhere").err
    assert line.startswith(f"lt-bench: nowhere: no data for {name}: looked for the folder ")
    assert "; images: " in line
