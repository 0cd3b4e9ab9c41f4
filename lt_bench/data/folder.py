"""Image files named by list files, as ImageNet-LT, Places-LT and iNaturalist 2018 are given."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from lt_bench.data.arrays import extract
from lt_bench.data.cards import Card, FolderSource, ImageList
from lt_bench.data.spec import DataSpec
from lt_bench.data.split import Split
from lt_bench.errors import UserError

if TYPE_CHECKING:
    from lt_bench.data.types import IntArray

_LINE = re.compile(r"(\S.*?)[\s,]+(\d+)\s*")


@dataclass(frozen=True)
class FilePart:
    """Image files relative to a folder, with labels int64 [N]."""

    folder: Path
    files: tuple[str, ...]
    labels: IntArray

    def sha256(self) -> str:
        """Of the files, their labels and sizes, in order. Raises UserError as `sizes` does."""
        rows = zip(self.files, self.labels.tolist(), self.sizes(), strict=True)
        return hashlib.sha256("".join(f"{file} {label} {size}\n" for file, label, size in rows).encode()).hexdigest()

    def sizes(self) -> list[int]:
        """Size of every file in bytes. Raises UserError that says how many are missing."""
        sizes, missing = [], []
        for file in self.files:
            try:
                sizes.append((self.folder / file).stat().st_size)
            except OSError:
                missing.append(file)
        if missing:
            raise UserError(
                f"{self.folder}: {len(missing)} of {len(self.files)} images are missing, the first is {missing[0]}"
                " (lists exist for validation images in class folders, val/<wnid>/, and for all of them flat in val/:"
                " take the one that fits)"
            )
        return sizes


def open_folder(card: Card, source: FolderSource, spec: DataSpec, root: Path, cache: Path) -> Split:
    """The split that a card's list files give. Raises UserError for a missing or altered list or image."""
    folder = root / source.folder
    archive = root / f"{source.folder}.tar"
    if not folder.is_dir() and archive.is_file():
        folder = extract(archive, cache) / source.folder
    if not folder.is_dir():
        raise UserError(
            f"{root}: no data for {card.name}: looked for the folder {source.folder} and for {archive.name};"
            " name the folder above it with --data-root or LT_BENCH_DATA"
        )
    train, test = (read_list(folder, images, card.classes) for images in (source.train, source.test))
    validation = None if source.validation is None else read_list(folder, source.validation, card.classes)
    for part in (validation, test):
        if part is not None:
            part.sizes()
    return Split(
        card=card,
        spec=spec,
        class_names=_class_names(folder, source, train, card.classes),
        train=train,
        validation=validation,
        test=test,
        train_indices=np.arange(len(train.labels)),
        validation_indices=np.arange(0),
        content_sha256=train.sha256(),
        content_kind="files",
        origin=str(folder),
    )


def read_list(folder: Path, images: ImageList, classes: int) -> FilePart:
    """Read a list of `relative/path label` lines (space, tab or comma). Raises UserError with the line."""
    path = folder / images.file
    try:
        data = path.read_bytes()
        lines = data.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable list of images: {error}") from None
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # what `git hash-object` prints
    if images.git_blobs and blob not in images.git_blobs:
        raise UserError(f"{path}: not the published list (git blob {blob}, known: {', '.join(images.git_blobs)})")
    rows = [_parse_line(line, f"{path}:{number}", classes) for number, line in enumerate(lines, 1) if line.strip()]
    if len(rows) != images.images:
        raise UserError(f"{path}: lists {len(rows)} images, expected {images.images}")
    files, labels = zip(*rows, strict=True)
    return FilePart(folder, files, np.asarray(labels, dtype=np.int64))


def _parse_line(line: str, where: str, classes: int) -> tuple[str, int]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise UserError(f"{where}: expected 'relative/path label', found {line[:80]!r}")
    file, label = match[1], int(match[2])
    if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
        raise UserError(f"{where}: {file!r} leaves the data folder")
    if label >= classes:
        raise UserError(f"{where}: label {label} is not in 0..{classes - 1}")
    return file, label


def _class_names(folder: Path, source: FolderSource, train: FilePart, classes: int) -> tuple[str, ...]:
    """First words of the class file, or the folder each class's images lie in."""
    if source.class_names is None:
        parents = dict(
            zip(train.labels.tolist(), (PurePosixPath(file).parent.name for file in train.files), strict=True)
        )
        return tuple(parents.get(c, str(c)) for c in range(classes))
    path = folder / source.class_names
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable list of classes: {error}") from None
    if len(lines) != classes:
        raise UserError(f"{path}: names {len(lines)} classes, expected {classes}")
    return tuple(line.partition("\t")[2].split(",")[0] or line for line in lines)
