"""Paths as people write them on a command line."""

from __future__ import annotations

import os
from pathlib import Path

from lt_bench.errors import UserError

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes that common file systems allow."""


def parse_path(word: str | Path) -> Path:
    """The path that a word of the command line stands for; `~` is the home folder, which `--option=~/x` leaves to us.

    Raises UserError for what no path can be.
    """
    text = str(word)  # a default is a path already
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{_short(text)}: there is no user of that name, so no home folder") from None
    if not text or "\0" in text:
        raise UserError(f"{text!r} is not a path")
    sizes = [len(os.fsencode(name)) for name in path.parts]
    if max(sizes, default=0) > LONGEST_NAME or len(os.fsencode(path)) > LONGEST_PATH:
        raise UserError(f"{_short(text)}: longer than a name ({LONGEST_NAME} bytes) or a path ({LONGEST_PATH}) can be")
    return path


def parse_file(word: str | Path) -> Path:
    """As `parse_path`, of something that is there; what is in it is another question."""
    path = parse_path(word)
    if not os.path.lexists(path):
        raise UserError(f"{path}: there is no such file")
    return path


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
