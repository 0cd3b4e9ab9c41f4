"""Files that a user or a card names: no pipe is waited for, no device is read for ever, text has plain lines."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from lt_bench.errors import UserError
from lt_bench.files import in_words
from lt_bench.paths import parse_path

MAX_LIST_BYTES = 2**30
"""Far above the longest published list, that of ImageNet-21K."""


def reason(error: Exception) -> str:
    """What an error says, in one line and without the path."""
    if isinstance(error, OSError):
        return in_words(error)
    return " ".join(str(error).split()) or type(error).__name__


def regular_size(path: Path) -> int:
    """Size of a regular file in bytes, a link followed. Raises OSError for anything else."""
    try:
        status = path.stat()
    except ValueError:
        raise OSError(errno.EINVAL, "a name cannot hold NUL") from None
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return status.st_size


def read_bytes(path: Path, what: str, most: int = MAX_LIST_BYTES) -> bytes:
    """A whole regular file of at most `most` bytes, a link followed. Raises UserError, which calls it a `what`.

    No pipe is waited for, and no device fills the memory.
    """
    try:
        return _read_regular(path, most)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{path}: not a readable {what}: {reason(error)}") from None


def _read_regular(path: Path, most: int) -> bytes:
    # Opening a pipe would wait for its writer. Not `Path.open`: ten thousand records are read for a board.
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if found.st_size > most:
            raise OSError(errno.EFBIG, f"{found.st_size:,} bytes, the most is {most:,}")
        data = os.read(file, found.st_size)
        while len(data) < found.st_size and (more := os.read(file, found.st_size - len(data))):
            data += more  # one call may read less
        return data
    finally:
        os.close(file)


def lines_of(data: bytes, path: Path, what: str) -> list[str]:
    r"""The lines of UTF-8 text, with or without a byte-order mark, that end in \n or \r\n. Raises UserError.

    Not `str.splitlines`, which also cuts at separators that may stand inside of a name.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a readable {what}: {error}") from None
    *lines, rest = text.split("\n")
    return [line.removesuffix("\r") for line in (*lines, *([rest] if rest else []))]


def user_folder(path: Path) -> Path:
    """Expand `~`, and make sure that one may look whether the folder is there. Raises UserError."""
    folder = parse_path(path)
    try:
        os.stat(folder)  # noqa: PTH116 (Path.exists would hide some errors and raise others)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise UserError(f"{path}: cannot be looked into: {in_words(error)}") from None
    return folder
