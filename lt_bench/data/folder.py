"""Image files named by list files, as ImageNet-LT, Places-LT and iNaturalist 2018 are given."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lt_bench.data.arrays import extract
from lt_bench.data.cards import Card, FolderSource, ImageList
from lt_bench.data.class_names import ClassFile, from_folders
from lt_bench.data.lists import Listed, check_apart, check_complete, read_listed
from lt_bench.data.reading import regular_size
from lt_bench.data.spec import DataSpec
from lt_bench.data.split import Split, draw_positions
from lt_bench.errors import MissingDataError

if TYPE_CHECKING:
    from lt_bench.data.types import IntArray

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
            " (or it is no regular file)",
            missing[0],
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
    lists = {part: read_listed(folder, images, card.classes) for part, images in source.parts.items()}
    check_complete(lists["train"], card.classes)
    parts = {part: _part(folder, listed) for part, listed in lists.items()}
    for part in ("validation", "test"):  # of the training part it is the content that is digested below
        if part in parts:
            parts[part].sizes()
    check_apart([(source.parts[part], listed) for part, listed in lists.items()])
    names = lists["train"].names or _class_names(card, folder, [parts["train"], parts["test"]])
    indices: IntArray = np.arange(len(parts["train"].labels))
    held_out: IntArray = np.arange(0)
    if spec.factor is not None:
        indices, held_out = draw_positions(spec, parts["train"].labels, names)
    train = parts["train"].take(indices)
    return Split(
        card=card,
        spec=spec,
        class_names=names,
        train=train,
        validation=parts["train"].take(held_out) if len(held_out) else parts.get("validation"),
        test=parts["test"],
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
    """The images of one part. Raises UserError with the line, MissingDataError where there is nothing."""
    return _part(folder, read_listed(folder, images, classes))


def _part(folder: Path, listed: Listed) -> FilePart:
    return FilePart(folder, listed.files, listed.labels)


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
