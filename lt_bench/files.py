"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

TEMPORARY = ".*.tmp"
"""Pattern of the names that files have while they are written; a process that is killed then leaves one behind."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file beside its place and move it there: whoever looks finds the old one or the new one, never a part.

    A link is followed. Raises OSError, leaving what was there as it was and nothing beside it.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():  # Moved to its place, it would replace a device.
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    temporary = place.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def in_words(error: OSError) -> str:
    """The reason alone, without number and path: `No space left on device`."""
    return error.strerror or " ".join(str(error).split()) or type(error).__name__
