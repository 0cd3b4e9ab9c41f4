"""Image files that belong to no data set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lt_bench.data.scan import ENDINGS
from lt_bench.errors import UserError


def image_files(place: Path) -> Iterator[str]:
    """A file itself, or the images below a folder in the order of their names, hidden ones left out.

    Raises UserError where there is none, and for a name that is no text.
    """
    if not place.is_dir():
        if not place.is_file():
            raise UserError(f"{place}: there is no such image or folder of images")
        yield _text(place)
        return
    found = sorted(_below(place))
    if not found:
        raise UserError(f"{place}: holds no images")
    yield from map(_text, found)


def _below(folder: Path) -> Iterator[Path]:
    """Images in it and its folders; links are followed, a folder that they lead to again is not entered again."""
    seen = set()
    for at, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(at)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(at, name) for name in files if not name.startswith(".")]
        yield from (path for path in paths if path.suffix.lower() in ENDINGS and path.is_file())


def _text(path: Path) -> str:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{str(path)!a}: a name in no UTF-8, which a table cannot hold") from None
    return str(path)
