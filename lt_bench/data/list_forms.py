"""Other forms than lines in which it is published which images a set has: COCO's JSON, class folders, annotations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lt_bench.data.lists import Place, Row, outside
from lt_bench.data.reading import lines_of, read_bytes
from lt_bench.data.scan import ENDINGS
from lt_bench.errors import MissingDataError, UserError
from lt_bench.files import in_words

Json = dict[str, Any]


def coco(data: bytes, path: Path, classes: int, below: str) -> tuple[list[Row], Place]:
    """The rows of a JSON of `images` with `id` and `file_name` and `annotations` with `image_id` and `category_id`.

    In the order of the images; a category's id is its label. Raises UserError with the entry: an image has one label.
    """
    content = _json(data, path)
    label_of = _labels(_list(content, "annotations", path), path, classes)
    images = _list(content, "images", path)
    rows: list[Row] = []
    first: dict[int | str, int] = {}
    for k, image in enumerate(images):
        file, key = _field(image, "file_name", str, path, f"images[{k}]"), _id(image, "id", path, f"images[{k}]")
        if wrong := outside(file):
            raise UserError(f"{path}: images[{k}]: {wrong}")
        if key not in label_of:
            raise UserError(f"{path}: images[{k}]: no annotation is of the image {key!r}")
        if first.setdefault(key, k) != k:
            raise UserError(f"{path}: images[{k}]: its id {key!r} is that of images[{first[key]}] too")
        rows.append((below + file, label_of[key]))
    if strange := label_of.keys() - first.keys():
        raise UserError(f"{path}: annotations: there is no image of the id {min(strange, key=str)!r}")
    return rows, lambda k: f"{path}: images[{k}]"


def _labels(annotations: Sequence[Any], path: Path, classes: int) -> dict[int | str, int]:
    """Labels by the id of the image."""
    label_of: dict[int | str, int] = {}
    for k, annotation in enumerate(annotations):
        where = f"annotations[{k}]"
        label = _field(annotation, "category_id", int, path, where)
        if not 0 <= label < classes:
            raise UserError(f"{path}: {where}: category_id {label} is not in 0..{classes - 1}")
        image = _id(annotation, "image_id", path, where)
        if (known := label_of.setdefault(image, label)) != label:
            raise UserError(f"{path}: {where}: the image {image!r} has the label {label} here and {known} before")
    return label_of


def _json(data: bytes, path: Path) -> Json:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping with images and annotations, found a {type(content).__name__}")
    return content


def _list(content: Json, key: str, path: Path) -> list[Any]:
    found = content.get(key)
    if not isinstance(found, list):
        raise UserError(f"{path}: {key}: expected a list of them, as in COCO's form (is it another file of the set?)")
    return found


def _field(entry: Any, key: str, kind: type[Any], path: Path, where: str) -> Any:
    found = entry.get(key) if isinstance(entry, dict) else None
    if type(found) is not kind:
        raise UserError(f"{path}: {where}: {key}: expected {kind.__name__}, found {str(found)[:80]!r}")
    return found


def _id(entry: Any, key: str, path: Path, where: str) -> int | str:
    """What stands for an image: a number in COCO's form, in some of its kin text."""
    found: Any = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise UserError(f"{path}: {where}: {key}: expected a number or text, found {str(found)[:80]!r}")
    return found


def sorted_names(folder: Path, file: str, classes: int) -> tuple[str, ...]:
    """The names of the classes in a file, a line each, in label order, which is that of the sorted names."""
    path, what = folder / file, "list of classes"
    if not path.exists():
        raise MissingDataError(f"{path}: there is no such {what}", file)
    names = {line.strip() for line in lines_of(read_bytes(path, what), path, what)} - {""}
    if len(names) != classes:
        raise UserError(f"{path}: names {len(names)} classes, expected {classes}")
    return tuple(sorted(names))


def class_folders(path: Path, folder: Path, names: Sequence[str]) -> list[Row]:
    """The images in the folder of each class or in folders inside of it, sorted, relative to `folder`.

    As torchvision's ImageFolder finds them. Raises UserError for a folder that is no class's or that is missing.
    """
    label_of = {name: label for label, name in enumerate(names)}
    found = [entry.name for entry in _entries(path) if entry.is_dir()]
    if strange := [name for name in found if name not in label_of]:
        raise UserError(f"{path / strange[0]}: is the folder of none of the {len(names)} classes")
    below = os.path.relpath(path, folder)
    if missing := sorted(label_of.keys() - set(found)):
        raise MissingDataError(f"{path / missing[0]}: there is no such folder of a class", f"{below}/{missing[0]}")
    return [(file, label_of[name]) for name in found for file in _images(path / name, f"{below}/{name}")]


def _images(path: Path, below: str) -> Iterator[str]:
    inside = []
    for entry in _entries(path):
        if entry.is_dir():
            inside.append(entry.name)
        elif PurePosixPath(entry.name).suffix.lower() in ENDINGS:
            yield f"{below}/{entry.name}"
    for name in inside:
        yield from _images(path / name, f"{below}/{name}")


def _entries(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{path}: not a folder that can be read: {in_words(error)}") from None


def annotated(data: bytes, path: Path, names: Sequence[str], below: str) -> tuple[list[Row], Place]:
    """The rows of lines of a file, the name of its class and perhaps more, separated by tabs. Raises UserError."""
    label_of = {name: label for label, name in enumerate(names)}
    rows: list[Row] = []
    first: dict[str, int] = {}
    for number, line in enumerate(lines_of(data, path, "list of images"), 1):
        file, _, rest = line.partition("\t")
        name = rest.partition("\t")[0]
        if wrong := outside(file):
            raise UserError(f"{path}:{number}: {wrong}")
        if not file or name not in label_of:
            known = f"one of the {len(names)} classes"
            raise UserError(f"{path}:{number}: expected a file and {known}, found {line[:80]!r}")
        if first.setdefault(file, number) != number:
            raise UserError(f"{path}:{number}: {file} stands in line {first[file]} too")
        rows.append((below + file, label_of[name]))
    return rows, lambda k: f"{path}:{k + 1}"
