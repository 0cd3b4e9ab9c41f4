"""Which images a part of a set has and of which classes they are, from a list file or what else is published of it."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lt_bench.data.cards import MAX_CLASSES, ImageList
from lt_bench.data.reading import lines_of, read_bytes
from lt_bench.errors import MissingDataError, UserError

if TYPE_CHECKING:
    from lt_bench.data.types import IntArray

_SEPARATORS = " \t,"
_WHAT = "list of images"

Row = tuple[str, int]
"""A file, relative to the folder of the images, with its label."""
Place = Callable[[int], str]
"""Where the k-th row stands, such as `data/train.txt:17`."""


@dataclass(frozen=True)
class Listed:
    """The images of one part, in their order: files relative to the folder of the set, with labels int64 [N]."""

    path: Path
    """What says so: a list file, or the folder of class folders."""
    files: tuple[str, ...]
    labels: IntArray
    place: Place
    names: tuple[str, ...] = ()
    """The names that the labels stand for, where the form has any."""


def read_listed(folder: Path, images: ImageList, classes: int) -> Listed:
    """What a card says of one part of the images in `folder`. A file may come more than once, but with one label.

    Raises UserError with the line, MissingDataError where there is nothing. Published lists are taken as they are.
    """
    path = folder / images.file
    if not path.exists():
        kind = "folder" if images.form == "class-folders" else _WHAT
        raise MissingDataError(f"{path}: there is no such {kind}", images.file)
    listed = _listed(folder, images, classes)
    if len(listed.files) != images.images:
        raise UserError(f"{path}: lists {len(listed.files)} images, expected {images.images}")
    counts = np.bincount(listed.labels, minlength=classes)
    if images.per_class is not None and len(other := np.flatnonzero(counts != images.per_class)):
        raise UserError(f"{path}: class {other[0]} has {counts[other[0]]} images, expected {images.per_class} of each")
    return listed


def _listed(folder: Path, images: ImageList, classes: int) -> Listed:
    path = folder / images.file
    if images.form == "lines":
        data = _published(path, images)
        rows, place = parse_lines(data, path, classes)
        if not images.git_blobs:
            check_labels(rows, place)
        return _of(path, rows, place)
    from lt_bench.data import list_forms  # noqa: PLC0415 (of few sets)

    below = "" if images.folder is None else f"{os.path.relpath(folder / images.folder, folder)}/"
    if images.form == "coco":
        rows, place = list_forms.coco(_published(path, images), path, classes, below)
        check_labels(rows, place)
        return _of(path, rows, place)
    names = list_forms.sorted_names(folder, images.names, classes) if images.names else ()
    if images.form == "annotations":
        rows, place = list_forms.annotated(_published(path, images), path, names, below)
        return _of(path, rows, place, names)
    rows = list_forms.class_folders(path, folder, names)
    return _of(path, rows, lambda k: f"{folder / rows[k][0]}", names)


def read_any_list(path: Path) -> tuple[Listed, str]:
    """Read a list of lines that no card describes yet, with its sha256. Raises UserError.

    Its labels say how many classes there are.
    """
    data = read_bytes(path, _WHAT)
    rows, place = parse_lines(data, path, MAX_CLASSES)
    check_labels(rows, place)
    if not rows:
        raise UserError(f"{path}: lists no images")
    return _of(path, rows, place), hashlib.sha256(data).hexdigest()


def _of(path: Path, rows: Sequence[Row], place: Place, names: tuple[str, ...] = ()) -> Listed:
    files, labels = zip(*rows, strict=True) if rows else ((), ())
    return Listed(path, files, np.asarray(labels, dtype=np.int64), place, names)


def _published(path: Path, images: ImageList) -> bytes:
    """The bytes of a list. Raises UserError where they are not those that the card knows."""
    data = read_bytes(path, _WHAT)
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # what `git hash-object` prints
    if images.git_blobs and not blob.startswith(images.git_blobs):
        raise UserError(f"{path}: not the published list (git blob {blob}, known: {', '.join(images.git_blobs)})")
    if images.sha256 and (found := hashlib.sha256(data).hexdigest()) != images.sha256:
        raise UserError(
            f"{path}: not the list that the card was made for (its sha256 is {found[:16]}, on the card"
            f" {images.sha256[:16]}); make the card anew"
        )
    return data


# --- lines of `relative/path label` ------------------------------------------------------------------


def parse_lines(data: bytes, path: Path, classes: int) -> tuple[list[Row], Place]:
    """The rows of a list of `relative/path label` lines (space, tab or comma). Raises UserError with the line."""
    numbered = [(number, line) for number, line in enumerate(lines_of(data, path, _WHAT), 1) if line.strip()]
    rows = [_parse_line(line, path, number, classes) for number, line in numbered]
    return rows, lambda k: f"{path}:{numbered[k][0]}"


def _parse_line(line: str, path: Path, number: int, classes: int) -> Row:
    # Cut from the end: a regular expression would try every blank of a line of blanks.
    rest = line.rstrip(" \t")
    front = rest.rstrip("0123456789")
    file, digits = front.rstrip(_SEPARATORS), rest[len(front) :]
    if not file or file == front or not digits or file[0] in " \t":
        raise UserError(f"{path}:{number}: expected 'relative/path label' with a label from 0, found {line[:80]!r}")
    if wrong := outside(file):
        raise UserError(f"{path}:{number}: {wrong}")
    label = digits.lstrip("0") or "0"
    if len(label) > 9 or int(label) >= classes:
        raise UserError(f"{path}:{number}: label {label[:20]} is not in 0..{classes - 1}")
    return file, int(label)


def outside(file: str) -> str | None:
    """Why a path is none of a file below the folder of the images; None if it is one."""
    if file.startswith("/") or (".." in file and ".." in file.split("/")):
        return f"{file[:80]!r} leaves the data folder"
    return f"{file[:80]!r} holds NUL, which no name of a file does" if "\0" in file else None


# --- what holds of any list --------------------------------------------------------------------------


def check_labels(rows: Sequence[Row], place: Place) -> None:
    """Raises UserError for a file with two labels."""
    label_of: dict[str, int] = {}
    for k, (file, label) in enumerate(rows):
        if (known := label_of.setdefault(_plain(file), label)) != label:
            raise UserError(f"{place(k)}: {file} has the label {label} here and {known} before")


def check_complete(train: Listed, classes: int) -> None:
    """Raises UserError for a class without an image, with the line before which it is missed in a sorted list."""
    empty = np.flatnonzero(np.bincount(train.labels, minlength=classes) == 0)
    if not len(empty):
        return
    after = int(np.searchsorted(train.labels, empty[0]))
    is_sorted = after < len(train.labels) and bool((np.diff(train.labels) >= 0).all())
    where = train.place(after) if is_sorted else train.path
    raise UserError(f"{where}: {len(empty)} of {classes} classes have no training image, the first is {empty[0]}")


def check_apart(parts: Sequence[tuple[ImageList, Listed]]) -> None:
    """Raises UserError for an image in two of the parts.

    By path: copies under other names are not looked for. Lists that are all published are the set, overlaps included.
    """
    if all(images.git_blobs for images, _ in parts):
        return
    for (_, first), (_, second) in combinations(parts, 2):
        known = set(map(_plain, first.files))
        shared = [k for k, file in enumerate(second.files) if _plain(file) in known]
        if shared:
            file, more = second.files[shared[0]], f", as are {len(shared) - 1} behind it" if len(shared) > 1 else ""
            raise UserError(f"{second.place(shared[0])}: {file} is in {first.path.name} too{more}")


def _plain(file: str) -> str:
    """A path in its one spelling; most are in it already, and half a million are compared."""
    return posixpath.normpath(file) if "//" in file or "./" in file else file
