"""Image files named by list files, as ImageNet-LT, Places-LT and iNaturalist 2018 are given."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from lt_bench.data.arrays import extract
from lt_bench.data.cards import MAX_CLASSES, Card, FolderSource, ImageList
from lt_bench.data.class_names import ClassFile, from_folders
from lt_bench.data.reading import lines_of, read_bytes, regular_size
from lt_bench.data.spec import DataSpec
from lt_bench.data.split import Split, draw_positions
from lt_bench.errors import MissingDataError, UserError

if TYPE_CHECKING:
    from lt_bench.data.types import IntArray

_SEPARATORS = " \t,"
_WHAT = "list of images"
_ROOT_HINT = "name the folder above it with --data-root or LT_BENCH_DATA"


@dataclass(frozen=True)
class FilePart:
    """Image files relative to a folder, with labels int64 [N]."""

    folder: Path
    files: tuple[str, ...]
    labels: IntArray

    def take(self, positions: IntArray) -> FilePart:
        return FilePart(self.folder, tuple(self.files[k] for k in positions), self.labels[positions])

    def sha256(self) -> str:
        """Of the files, their labels and sizes, in order. Raises UserError as `sizes` does."""
        rows = zip(self.files, self.labels.tolist(), self.sizes(), strict=True)
        return hashlib.sha256("".join(f"{file} {label} {size}\n" for file, label, size in rows).encode()).hexdigest()

    def sizes(self) -> list[int]:
        """Size of every file in bytes. Raises UserError that says how many are missing."""
        try:
            return [regular_size(self.folder / file) for file in self.files]
        except OSError:
            missing = self.missing()
        raise MissingDataError(
            f"{self.folder}: {len(missing)} of {len(self.files)} images are missing, the first is {missing[0]:.200}"
            " (or it is no regular file; lists exist for validation images in class folders, val/<wnid>/, and for"
            " all of them flat in val/: take the one that fits)"
        )

    def missing(self) -> list[str]:
        """The files that are not there, or are no regular ones."""
        return [file for file in self.files if not _is_regular(self.folder / file)]


def _is_regular(path: Path) -> bool:
    try:
        regular_size(path)
    except OSError:
        return False
    return True


def open_folder(card: Card, source: FolderSource, spec: DataSpec, root: Path, cache: Path) -> Split:
    """The split that a card's list files are, or one drawn from them where the resolved spec has a factor.

    Raises UserError for a missing or altered list or image, or where classes are too small for the split.
    """
    folder = images_folder(card, source, root, cache)
    listed, test = (read_list(folder, images, card.classes) for images in (source.train, source.test))
    validation = None if source.validation is None else read_list(folder, source.validation, card.classes)
    _check_train(listed, folder / source.train.file, card.classes)
    for part in (validation, test):
        if part is not None:
            part.sizes()
    _check_apart([(source.train, listed), (source.validation, validation), (source.test, test)])
    names = _class_names(card, folder, [listed, test])
    indices: IntArray = np.arange(len(listed.labels))
    held_out: IntArray = np.arange(0)
    if spec.factor is not None:
        indices, held_out = draw_positions(spec, listed.labels, names)
    train = listed.take(indices)
    return Split(
        card=card,
        spec=spec,
        class_names=names,
        train=train,
        validation=listed.take(held_out) if len(held_out) else validation,
        test=test,
        train_indices=indices,
        validation_indices=held_out,
        content_sha256=train.sha256(),
        content_kind="files",
        origin=str(folder),
    )


def images_folder(card: Card, source: FolderSource, root: Path, cache: Path) -> Path:
    """The folder of a set's images, unpacked where there is only its archive. Raises MissingDataError."""
    folder, archive = root / source.folder, root / f"{source.folder}.tar"
    if not folder.is_dir() and archive.is_file():
        folder = extract(archive, cache) / folder.name
    if not folder.is_dir():
        hint = "its card says where it is" if Path(source.folder).is_absolute() else _ROOT_HINT
        raise MissingDataError(
            f"{folder.parent}: no data for {card.name}: looked for the folder {folder.name} and for {archive.name};"
            f" {hint}"
        )
    return folder


def read_list(folder: Path, images: ImageList, classes: int) -> FilePart:
    """Read a list of `relative/path label` lines (space, tab or comma).

    Raises UserError with the line, MissingDataError where there is none.

    A file may stand in it more than once, but with one label. What a published list says is taken as it is.
    """
    path = folder / images.file
    if not path.exists():
        raise MissingDataError(f"{path}: there is no such list of images")
    data = read_bytes(path, _WHAT)
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # what `git hash-object` prints
    if images.git_blobs and blob not in images.git_blobs:
        raise UserError(f"{path}: not the published list (git blob {blob}, known: {', '.join(images.git_blobs)})")
    if images.sha256 and (found := hashlib.sha256(data).hexdigest()) != images.sha256:
        raise UserError(
            f"{path}: not the list that the card was made for (its sha256 is {found[:16]}, on the card"
            f" {images.sha256[:16]}); make the card anew"
        )
    rows = _rows(data, path, classes, checked=not images.git_blobs)
    if len(rows) != images.images:
        raise UserError(f"{path}: lists {len(rows)} images, expected {images.images}")
    return _part(folder, rows)


def read_any_list(folder: Path, path: Path) -> tuple[FilePart, str]:
    """Read a list that no card describes yet, with its sha256. Raises UserError.

    Its labels say how many classes there are.
    """
    data = read_bytes(path, _WHAT)
    rows = _rows(data, path, MAX_CLASSES, checked=True)
    if not rows:
        raise UserError(f"{path}: lists no images")
    return _part(folder, rows), hashlib.sha256(data).hexdigest()


def _part(folder: Path, rows: Sequence[tuple[str, int]]) -> FilePart:
    files, labels = zip(*rows, strict=True)
    return FilePart(folder, files, np.asarray(labels, dtype=np.int64))


def _rows(data: bytes, path: Path, classes: int, checked: bool) -> list[tuple[str, int]]:
    """The files and labels of a list; `checked`: no file has two labels. Raises UserError with the line."""
    lines = [(line, f"{path}:{number}") for number, line in enumerate(lines_of(data, path, _WHAT), 1) if line.strip()]
    rows = [_parse_line(line, where, classes) for line, where in lines]
    if checked:
        _check_labels(rows, lines)
    return rows


def _parse_line(line: str, where: str, classes: int) -> tuple[str, int]:
    # Cut from the end: a regular expression would try every blank of a line of blanks.
    rest = line.rstrip(" \t")
    front = rest.rstrip("0123456789")
    file, digits = front.rstrip(_SEPARATORS), rest[len(front) :]
    if not file or file == front or not digits or file[0] in " \t":
        raise UserError(f"{where}: expected 'relative/path label', found {line[:80]!r}")
    if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
        raise UserError(f"{where}: {file[:80]!r} leaves the data folder")
    if "\0" in file:
        raise UserError(f"{where}: {file[:80]!r} holds NUL, which no name of a file does")
    label = digits.lstrip("0") or "0"
    if len(label) > 9 or int(label) >= classes:
        raise UserError(f"{where}: label {label[:20]} is not in 0..{classes - 1}")
    return file, int(label)


def _check_labels(rows: Sequence[tuple[str, int]], lines: Sequence[tuple[str, str]]) -> None:
    """Raises UserError for a file with two labels."""
    label_of: dict[str, int] = {}
    for (file, label), (_, where) in zip(rows, lines, strict=True):
        if label_of.setdefault(posixpath.normpath(file), label) != label:
            known = label_of[posixpath.normpath(file)]
            raise UserError(f"{where}: {file} has the label {label} here and {known} before")


def _check_train(train: FilePart, path: Path, classes: int) -> None:
    empty = np.flatnonzero(np.bincount(train.labels, minlength=classes) == 0)
    if len(empty):
        raise UserError(f"{path}: {len(empty)} of {classes} classes have no training image, the first is {empty[0]}")


def _check_apart(parts: Sequence[tuple[ImageList | None, FilePart | None]]) -> None:
    """Raises UserError for an image in two of the parts.

    By path: copies under other names are not looked for. Lists that are all published are the set, overlaps included.
    """
    lists = [(images, part) for images, part in parts if images and part]
    if all(images.git_blobs for images, _ in lists):
        return
    files = [(part.folder / images.file, set(map(posixpath.normpath, part.files))) for images, part in lists]
    for (one, first), (other, second) in combinations(files, 2):
        if shared := first & second:
            raise UserError(f"{other}: {len(shared)} of its images are in {one.name} too, the first is {min(shared)}")


def _class_names(card: Card, folder: Path, parts: Sequence[FilePart]) -> tuple[str, ...]:
    """From the card, from the class file, or from the folders of the training images."""
    assert isinstance(card.source, FolderSource)
    if card.class_names is not None:
        return card.class_names
    if card.source.class_names is None:
        return from_folders(parts[0], card.classes)
    names = ClassFile(folder / card.source.class_names, card.classes)
    for part in parts:
        names.check_folders(part)
    return names.names
