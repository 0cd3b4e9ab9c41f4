"""Where the data cards and recipes lie: the repository's own folders in a checkout, the wheel's copies otherwise."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def resource_folder(name: str) -> Path:
    """The folder `datasets` or `recipes` that belongs to the running code."""
    shipped = _PACKAGE / "_resources" / name
    return shipped if shipped.is_dir() else _PACKAGE.parent / name
