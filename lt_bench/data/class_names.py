"""Names of classes: from the card, from the data, or made; each fits into a record."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lt_bench.data.reading import lines_of, read_bytes
from lt_bench.errors import UserError

if TYPE_CHECKING:
    from lt_bench.data.cards import Card
    from lt_bench.data.folder import FilePart

MAX_NAME = 500
_WHAT = "list of classes"
# Surrogates, which JSON can spell and UTF-8 cannot, are no text either.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def fault(name: object) -> str | None:
    """Why something cannot be the name of a class in a record; None if it can."""
    if not isinstance(name, str):
        return "is not text"
    if not name.strip():
        return "is blank"
    if len(name) > MAX_NAME:
        return f"has {len(name)} characters, the most is {MAX_NAME}"
    return "holds a line break or another control character" if _CONTROL.search(name) else None


def made(classes: int) -> tuple[str, ...]:
    """Names where none can be had: "0", "1", ..."""
    return tuple(map(str, range(classes)))


def check(names: Sequence[object], classes: int, places: Sequence[str]) -> None:
    """Raises UserError, which begins with the place of the name, where names are not one for each class."""
    first: dict[object, str] = {}
    for name, place in zip(names, places, strict=True):
        if wrong := fault(name):
            raise UserError(f"{place}: the class name {str(name)[:80]!r} {wrong}")
        if name in first:
            raise UserError(f"{place}: the class name {name!r} is that of {first[name]} too")
        first[name] = place
    if len(names) != classes:
        raise UserError(f"{places[-1] if places else 'no names'}: {len(names)} classes are named, expected {classes}")


def agreed(card: Card, found: Sequence[object], where: str) -> tuple[str, ...]:
    """The names of the card, which those found in the data (if any) must repeat; else those found; else made.

    Raises UserError naming `where` the names were found.
    """
    if not found:
        return card.class_names or made(card.classes)
    check(found, card.classes, [f"{where}, class {k}" for k in range(len(found))])
    names = tuple(map(str, found))
    for k, (name, wanted) in enumerate(zip(names, card.class_names or names, strict=True)):
        if name != wanted:
            raise UserError(f"{where}: class {k} is called {name!r}, on the card of {card.name} {wanted!r}")
    return names


class ClassFile:
    """A file of `key, tab, words` lines in label order, such as ImageNet's, or of plain names."""

    def __init__(self, path: Path, classes: int) -> None:
        """Raises UserError naming the line."""
        self.path = path
        lines = lines_of(read_bytes(path, _WHAT, most=2**26), path, _WHAT)
        if len(lines) != classes and all(map(str.strip, lines)):
            raise UserError(f"{path}: names {len(lines)} classes, expected {classes}")
        places = [f"{path}:{number}" for number in range(1, len(lines) + 1)]
        self.keys = [line.partition("\t")[0] for line in lines]
        check(self.keys, classes, places)
        self.names = _distinct([_first_words(line) for line in lines], self.keys)
        check(self.names, classes, places)

    def check_folders(self, part: FilePart) -> None:
        """Raises UserError where the images in the folder of one class are labelled as another."""
        label_of = {key: label for label, key in enumerate(self.keys)}
        for file, label in zip(part.files, part.labels.tolist(), strict=True):
            folder = _folder(file).rpartition("/")[2]
            if label_of.get(folder, label) != label:
                raise UserError(
                    f"{self.path}:{label_of[folder] + 1}: {folder} is class {label_of[folder]}, but the label of"
                    f" {file} is {label}"
                )


def from_folders(part: FilePart, classes: int) -> tuple[str, ...]:
    """The folders of the classes' images where each class has one of its own, else names are made.

    The last part of the folder's path is the name; the path below all of them where that would not do, as in
    Places365 with its `bakery/shop` and `gift/shop`.
    """
    pairs = {(label, _folder(file)) for file, label in zip(part.files, part.labels.tolist(), strict=True)}
    paths = [path for _, path in sorted(pairs)]
    if len(pairs) != classes or "" in paths:
        return made(classes)
    common = os.path.commonpath(paths)
    for names in ([path.rpartition("/")[2] for path in paths], [os.path.relpath(path, common) for path in paths]):
        if len(set(names)) == classes and not any(map(fault, names)):
            return tuple(names)
    return made(classes)


def _first_words(line: str) -> str:
    key, _, words = line.partition("\t")
    return words.split(",")[0].strip() or key


def _distinct(names: list[str], keys: list[str]) -> tuple[str, ...]:
    """ImageNet has two cranes, the bird and the machine: the key is added to what would be repeated."""
    times = Counter(names)
    return tuple(
        f"{name} ({key})" if times[name] > 1 and name != key else name for name, key in zip(names, keys, strict=True)
    )


def _folder(file: str) -> str:
    return os.path.normpath(os.path.dirname(file)) if "/" in file else ""  # noqa: PTH120 (half a million files)
