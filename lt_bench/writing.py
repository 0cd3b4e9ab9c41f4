"""Several files that appear together, as far as a file system allows."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write all of them beside their places, and only then move each to its place, in their order.

    A full disk is met before the first one is moved. Raises OSError, leaving nothing beside them.
    """
    temporary = {Path(os.path.realpath(path)): path.with_name(f".{secrets.token_hex(8)}.tmp") for path in files}
    try:
        for data, beside in zip(files.values(), temporary.values(), strict=True):
            _write(beside, data)
        for place, beside in temporary.items():
            beside.replace(place)
    except BaseException:
        for beside in temporary.values():
            beside.unlink(missing_ok=True)
        raise


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
