"""iNaturalist 2018 from a small tree: annotations in COCO's JSON, joined to their images or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_data import photo, small, use_card

from lt_bench.data import DataSpec, describe, open_split
from lt_bench.data.cards import Known
from lt_bench.errors import MissingDataError, UserError


def coco(rows: list[tuple[str, int]]) -> dict[str, Any]:
    """Annotations in another order than the images."""
    images = [{"id": 10 + k, "file_name": file, "width": 8, "height": 8} for k, (file, _) in enumerate(rows)]
    annotations = [{"id": k, "image_id": 10 + k, "category_id": label} for k, (_, label) in enumerate(rows)]
    return {"info": {}, "images": images, "annotations": annotations[::-1], "categories": []}


SPECIES = [("Plantae", 0, "a"), ("Aves", 1, "b"), ("Plantae", 0, "c"), ("Fungi", 2, "d"), ("Aves", 1, "e")]
INATURALIST = {
    "train": [(f"train_val2018/{group}/{label}/{key}.jpg", label) for group, label, key in SPECIES],
    "val": [
        ("train_val2018/Aves/1/y.jpg", 1),
        ("train_val2018/Plantae/0/x.jpg", 0),
        ("train_val2018/Fungi/2/z.jpg", 2),
    ],
}


@pytest.fixture
def inaturalist(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = working_folder / "data" / "inaturalist2018"
    for part, rows in INATURALIST.items():
        for file, _ in rows:
            photo(folder / file)
        (folder / f"{part}2018.json").write_text(json.dumps(coco(rows)))
    use_card(monkeypatch, small("inaturalist2018", 3, Known(total=5, largest=2, smallest=1), train=5, test=3))
    return folder


def test_inaturalist_joins_annotations_to_images_by_id(inaturalist: Path) -> None:
    split = open_split(DataSpec(name="inaturalist2018"))
    assert split.train.labels.tolist() == [0, 1, 0, 2, 1]
    assert split.test.files == tuple(file for file, _ in INATURALIST["val"])
    assert split.test.labels.tolist() == [1, 0, 2]
    assert split.validation is None
    assert split.class_names == ("0", "1", "2")
    assert describe(split)["total"] == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda json: json["images"][3].update(file_name="../d.jpg"),
            r"images\[3\]: '../d.jpg' leaves the data folder",
        ),
        (lambda json: json["annotations"][1].update(category_id=3), r"annotations\[1\]: category_id 3 is not in 0..2"),
        (lambda json: json["annotations"].pop(2), r"images\[2\]: no annotation is of the image 12"),
        (lambda json: json["images"].pop(2), r"annotations: there is no image of the id 12"),
        (lambda json: json["images"][4].update(id=10), r"images\[4\]: its id 10 is that of images\[0\] too"),
        (
            lambda json: json["annotations"].append({"image_id": 11, "category_id": 2}),
            r"annotations\[5\]: the image 11 has the label 2 here and 1 before",
        ),
        (lambda json: json["images"][0].pop("file_name"), r"images\[0\]: file_name: expected str, found 'None'"),
        (lambda json: json["annotations"][0].update(category_id=True), "category_id: expected int, found 'True'"),
        (lambda json: json.pop("annotations"), "annotations: expected a list of them, as in COCO's form"),
        (lambda json: json["annotations"][0].update(image_id=None), r"annotations\[0\]: image_id: expected a number"),
        (lambda json: (json["images"].pop(), json["annotations"].pop(0)), "lists 4 images, expected 5"),
        (
            lambda json: json["images"][3].update(file_name="train_val2018/Aves/1/y.jpg"),
            r"val2018.json: images\[0\]: train_val2018/Aves/1/y.jpg is in train2018.json too",
        ),
        (
            lambda json: json["images"][3].update(file_name="train_val2018/Aves/1/b.jpg"),
            r"images\[3\]: train_val2018/Aves/1/b.jpg has the label 2 here and 1 before",
        ),
        (lambda json: json["annotations"][1].update(category_id=0), "1 of 3 classes have no training image"),
    ],
)
def test_a_wrong_annotation_is_named(inaturalist: Path, change: Callable[[Any], Any], message: str) -> None:
    path = inaturalist / "train2018.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as error:
        open_split(DataSpec(name="inaturalist2018"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '{"images": 3}', '{"images": [], "annotations": [7]}'])
def test_what_is_no_annotations_is_told_in_one_line(inaturalist: Path, text: str) -> None:
    (inaturalist / "train2018.json").write_text(text)
    with pytest.raises(UserError, match=r"train2018.json: ") as error:
        open_split(DataSpec(name="inaturalist2018"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("train_val2018", "train_val2018/train_val2018", "the images lie one level too deep"),
        ("train_val2018/Plantae", "Plantae", "the super-categories lie in the folder itself"),
        ("train2018.json", "train2018.json.tar.gz", "there are archives in the folder; unpack them there"),
        (".", "../inaturalist2018/inaturalist2018", "the folder lies one level too deep"),
    ],
)
def test_wrong_forms_of_inaturalist(inaturalist: Path, source: str, target: str, message: str) -> None:
    aside = inaturalist.parent / "aside"
    (inaturalist / source).rename(aside)
    (inaturalist / target).parent.mkdir(parents=True, exist_ok=True)
    aside.rename(inaturalist / target)
    with pytest.raises(MissingDataError, match=f"; {message}"):
        open_split(DataSpec(name="inaturalist2018"))
