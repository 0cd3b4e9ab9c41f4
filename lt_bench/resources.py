"""Where things lie: what ships with the code, and what a user makes in the working folder.

What ships are the repository's own folders in a checkout and the wheel's copies otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from lt_bench.errors import UserError

_PACKAGE = Path(__file__).parent
_INSTALLED = _PACKAGE / "_resources"

TABLES = Path("results")
RECORDS = TABLES / "records"
"""Of one's own. The official ones lie in the same way on the shipped board."""
ROBUSTNESS = TABLES / "robustness"
"""Of one's own records of attacks, which are files of another kind."""


def resource_folder(name: str) -> Path:
    """The folder `datasets`, `recipes` or `leaderboard` that belongs to the running code."""
    shipped = _INSTALLED / name
    return shipped if shipped.is_dir() else _PACKAGE.parent / name


def shipped_files(folder: Path) -> Mapping[str, Path]:
    """The YAML files of a shipped folder by their stems, in the order of their names; nothing may change it."""
    return _by_stem(folder, tuple(os.listdir(folder)))  # noqa: PTH208 (Path objects take ten times as long)


@lru_cache(maxsize=16)
def _by_stem(folder: Path, names: tuple[str, ...]) -> Mapping[str, Path]:
    """Made once of what is in a folder: for one recipe the same few folders are looked at some twenty times."""
    return {Path(name).stem: folder / name for name in sorted(names) if name.endswith(".yaml")}


def shipped_board() -> Path:
    """The official tables, and in `records` what they are made of. Only maintainers write them, in a checkout."""
    return resource_folder("leaderboard") / "v1"


def shipped_robustness() -> Path:
    """The official records of attacks."""
    return resource_folder("leaderboard") / "robustness" / "records"


def refuse_installed(option: str, path: Path) -> None:
    """Raise UserError for a place inside of what was installed: the next installation would take it away."""
    if path.resolve().is_relative_to(_INSTALLED.resolve()):
        raise UserError(f"{option} {path}: part of the installed package, which is only read; choose a folder of yours")
