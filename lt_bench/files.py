"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

TEMPORARY = ".*.tmp"
"""Pattern of the names that files have while they are written; a process that is killed then leaves one behind."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file beside its place and move it there: whoever looks finds the old one or the new one, never a part.

    A link is followed. Raises OSError, leaving what was there as it was and nothing beside it.
    """
    write_together({path: data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write all of them beside their places, and only then move each to its place, in their order.

    A full disk is met before the first one is moved. Raises OSError, leaving nothing beside them.
    """
    places = {_place(path): data for path, data in files.items()}
    beside = {place: place.with_name(f".{secrets.token_hex(8)}.tmp") for place in places}
    try:
        for place, data in places.items():
            _write(beside[place], data)
        for place, temporary in beside.items():
            temporary.replace(place)
    except BaseException:
        for temporary in beside.values():
            temporary.unlink(missing_ok=True)
        raise


def beginning(path: Path, most: int) -> bytes | None:
    """The first bytes of a regular file, `most` of them; None where there is none. Raises OSError."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(most)


def sha256_of(path: Path) -> str:
    """Of a file's bytes, in hex, however large it is."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_words(error: OSError) -> str:
    """The reason alone, without number and path: `No space left on device`."""
    return error.strerror or " ".join(str(error).split()) or type(error).__name__


def _place(path: Path) -> Path:
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():  # Moved to its place, a file would replace a device.
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return place


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
