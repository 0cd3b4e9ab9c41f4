"""What a card of image files expects on the disk, and what of it is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lt_bench.data.cards import Card, FolderSource, ImageList
from lt_bench.data.folder import images_folder, read_list
from lt_bench.errors import MissingDataError, UserError


def expected(card: Card, source: FolderSource, root: Path, cache: Path) -> Iterator[str]:
    """Lines that tell folder, lists and images, what is there and what is missing, and how one comes by them."""
    parts = {"training": source.train, "validation": source.validation, "test": source.test}
    lists = {part: images for part, images in parts.items() if images is not None}
    total = sum(images.images for images in lists.values())
    space = f", about {total * source.image_bytes / 1e9:.0f} GB" if source.image_bytes else ""
    yield f"{card.title}: {card.classes:,} classes, {total:,} images{space}; not all of it is there"
    yield ""
    try:
        folder, state = images_folder(card, source, root, cache), "there"
    except MissingDataError:
        folder = root / source.folder
        state = f"missing, as is {folder.name}.tar in its place"
    states = {images.file: _state(folder, images, card.classes, part) for part, images in lists.items()}
    yield f"{folder}: {state}"
    yield from (f"  {file:{max(map(len, states))}}  {said}" for file, said in states.items())
    yield from (f"  {place}" for place in source.tree)
    yield ""
    yield from source.obtained
    if not Path(source.folder).is_absolute():  # as it is on a card of one's own
        yield f"{root} is the folder that --data-root or LT_BENCH_DATA names, else data"


def _state(folder: Path, images: ImageList, classes: int, part: str) -> str:
    """What there is to say of a list and the images in it."""
    what = f"list of the {images.images:,} {part} images"
    try:
        listed = read_list(folder, images, classes)
    except MissingDataError:
        return f"missing: {what}"
    except UserError as error:
        return str(error).removeprefix(f"{folder / images.file}: ")
    missing = listed.missing()
    absent = f"; {len(missing):,} of them are missing, the first is {missing[0]:.200}" if missing else ", all there"
    return f"there: {what}{absent}"
