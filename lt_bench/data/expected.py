"""What a card of image files expects on the disk, what of it is there, and what to do about the rest."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from lt_bench.data.cards import Card, FolderSource, ImageList
from lt_bench.data.folder import FilePart, images_folder, read_list
from lt_bench.data.scan import read_all
from lt_bench.errors import MissingDataError, UserError

PARTS = {"train": "training", "validation": "validation", "test": "test"}


def expected(card: Card, source: FolderSource, root: Path, cache: Path) -> Iterator[str]:
    """Lines that tell folder, lists and images, what is there and what is missing, and how one comes by them."""
    total = sum(images.images for images in source.parts.values())
    space = f", about {total * source.image_bytes / 1e9:.0f} GB" if source.image_bytes else ""
    yield f"{card.title}: {card.classes:,} classes, {total:,} images{space}; not all of it is there"
    yield ""
    try:
        folder, state = images_folder(card, source, root, cache), "there"
    except MissingDataError:
        folder = root / source.folder
        state = f"missing, as is {folder.name}.tar in its place"
    states = {images.file: _state(folder, images, card.classes, PARTS[part]) for part, images in source.parts.items()}
    yield f"{folder}: {state}"
    yield from (f"  {file:{max(map(len, states))}}  {said}" for file, (said, _) in states.items())
    yield from (f"  {place}" for place in source.tree)
    yield ""
    missing = [missing for _, missing in states.values() if missing] if folder.is_dir() else [""]
    yield from dict.fromkeys(filter(None, (wrong_form(source, folder, file) for file in missing)))
    yield from _origins(source)
    if not Path(source.folder).is_absolute():  # as it is on a card of one's own
        yield f"{root} is the folder that --data-root or LT_BENCH_DATA names, else data"


def _state(folder: Path, images: ImageList, classes: int, part: str) -> tuple[str, str]:
    """What there is to say of a list and the images in it, and the first file that is missing, if any."""
    what = f"list of the {images.images:,} {part} images"
    try:
        listed = read_list(folder, images, classes)
    except MissingDataError as error:
        return f"missing: {what}", error.file
    except UserError as error:
        return str(error).removeprefix(f"{folder / images.file}: "), ""
    missing = listed.missing()
    if not missing:
        return f"there: {what}, all there", ""
    return f"there: {what}; {len(missing):,} of them are missing, the first is {missing[0]:.200}", missing[0]


def _origins(source: FolderSource, *wanted: str) -> Iterator[str]:
    """Where one comes by what is wanted, by default by all."""
    origins = {"images": source.images_from, "lists": source.lists_from}
    yield from (f"{what}: {said}" for what, said in origins.items() if said and (not wanted or what in wanted))


# --- missing files -----------------------------------------------------------------------------------


def advice(source: FolderSource, folder: Path, file: str) -> str:
    """What to do where a file is missing, as the end of a line: which wrong form it has, else where it comes from."""
    if found := wrong_form(source, folder, file):
        return f"; {found}"
    lists = [name for images in source.parts.values() for name in (images.file, images.names)]
    wanted = () if not file else ("lists",) if file in lists and source.lists_from else ("images",)
    return "".join(f"; {origin}" for origin in _origins(source, *wanted))


def wrong_form(source: FolderSource, folder: Path, file: str) -> str | None:
    """What the card says of the wrong form that is there instead of a missing file; None where none is recognised."""
    for form in source.wrong_forms:
        pattern = os.path.normpath(os.path.join(glob.escape(str(folder)), form.found))  # noqa: PTH118 (not of a path)
        missed = file.startswith(form.instead_of) if form.instead_of else not file
        if missed and next(glob.iglob(pattern), None) is not None:  # noqa: PTH207 (a Path would not go up from nothing)
            return form.said
    return None


def damaged(card: Card, source: FolderSource, folder: Path) -> list[str]:
    """The images of all parts that are missing or cannot be decoded, each with the reason. Reads every one of them.

    Raises UserError for a list that is missing or wrong.
    """
    parts = [read_list(folder, images, card.classes) for images in source.parts.values()]
    return [fault for part in parts for fault in _faults(part)]


def _faults(part: FilePart) -> Iterator[str]:
    missing = part.missing()
    yield from (f"{file}: missing" for file in missing)
    absent = set(missing)
    there = [file for file in dict.fromkeys(part.files) if file not in absent]
    _, broken = read_all(part.folder, there)
    yield from (f"{file}: {reason}" for file, reason in broken.items())
