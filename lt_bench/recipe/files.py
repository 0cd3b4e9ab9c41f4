"""Where the YAML files behind a recipe's name lie.

`cifar100-lt/dbn-mix` is the method `dbn-mix` on the setting `cifar100-lt`. A *method* file says what a method is, and
under `on` what its authors change from one data set or factor to the next. A *setting* says what it is tried on: data
set, factor, protocol, backbone. A complete recipe file says both. `my-birds/ce` and `path/to/my-birds/ce` are on the
setting of the user's own in that folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from lt_bench.bibliography import FILE as PAPERS
from lt_bench.data.cards import remember
from lt_bench.errors import UserError, unknown
from lt_bench.resources import resource_folder, shipped_files
from lt_bench.yaml_files import read_yaml

Node = dict[str, Any]

PROTOCOLS = "protocols"
SETTINGS = "settings"
MOST_BYTES = 1_000_000
"""A file that is longer is no recipe."""
OWN_SETTING = "setting.yaml"
"""Of the user's own, in the folder of its name, where the card of the data set may lie too."""


@dataclass(frozen=True)
class Origin:
    """The files that a name stands for: a method on a setting, or one complete recipe."""

    method: Path
    setting: Path | None = None

    def __str__(self) -> str:
        return f"{setting_name(self.setting)}/{self.method.stem}" if self.setting else str(self.method)


def recipes_folder() -> Path:
    return resource_folder("recipes")


def shipped(folder: str = "") -> dict[str, Path]:
    """The shipped methods by name, or with a folder the settings or protocols."""
    return {name: path for name, path in shipped_files(recipes_folder() / folder).items() if path.name != PAPERS}


def shipped_recipes() -> list[str]:
    """The names of all shipped methods on all shipped settings, whether or not their parts fit."""
    return [f"{setting}/{method}" for setting in shipped(SETTINGS) for method in shipped()]


def own_recipes(setting: str) -> list[str]:
    """The names of all shipped methods on a setting of the user's own, given by name or path; none if there is none."""
    return [f"{setting}/{method}" for method in shipped()] if path_exists(Path(setting, OWN_SETTING)) else []


def headline(path: Path) -> str:
    """The first sentence of the comment that a shipped file begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.removeprefix("# ") for line in takewhile(lambda line: line.startswith("#"), lines))
    return re.split(r"(?<=\.) ", comment, maxsplit=1)[0]


def locate(name: str) -> Origin:
    """The files of a recipe given as SETTING/METHOD or as a path. Raises UserError with the nearest valid name."""
    if path_exists(Path(name, OWN_SETTING)):
        raise UserError(f"{name}: is a setting; say what is run on it, such as {name}/ce")
    if path_exists(Path(name)):
        return Origin(Path(name))
    setting, slash, method = name.removeprefix("recipes/").removesuffix(".yaml").rpartition("/")
    name = name if len(name) <= 200 else f"{name[:197]}..."
    if slash:
        place = locate_setting(setting, name)
        return Origin(_method(method, place, name), place)
    if method in shipped():
        places = ", ".join(f"{setting}/{method}" for setting in islice(_settings(), 8))
        raise UserError(f"{name}: is a method; say what it is run on, such as {places}")
    if method in shipped(SETTINGS):
        raise UserError(f"{name}: is a setting; say what is run on it, such as {method}/ce")
    raise UserError(f"{name}: there is no such file and {_known('method', method, shipped(), 'cifar100-lt/')}")


def locate_setting(setting: str, name: str) -> Path:
    """A shipped setting, or one of the user's own in a folder given by name or path, whose card is then found too.

    Raises UserError for the `name` that it is a part of.
    """
    own, known = Path(setting, OWN_SETTING), shipped(SETTINGS).get(setting)
    if path_exists(own) and known is not None:
        raise UserError(f"{name}: {setting} is a shipped setting and {own} a file here; rename your folder")
    if path_exists(own):
        remember(own.parent)
        return own
    if known is None:
        raise UserError(f"{name}: there is no such file and {_known('setting', setting, _settings())}")
    return known


def own_settings() -> dict[str, Path]:
    """The settings of the user's own in the working folder, by name."""
    return {setting_name(path): path for path in sorted(Path().glob(f"*/{OWN_SETTING}"))}


def own_protocols() -> dict[str, Path]:
    """The protocols of the user's own in the working folder, by name."""
    return {path.stem: path for path in sorted(Path(PROTOCOLS).glob("*.yaml"))}


def _settings() -> dict[str, Path]:
    """All settings that a name can stand for, the user's own first."""
    return own_settings() | shipped(SETTINGS)


def setting_name(setting: Path) -> str:
    """The word that names a setting: the user's own is called as its folder."""
    return setting.absolute().parent.name if setting.name == OWN_SETTING else setting.stem


def _method(method: str, setting: Path, name: str) -> Path:
    """A shipped method, or a method file of the user's own in the working folder."""
    own, known = Path(f"{method}.yaml"), shipped().get(method)
    if path_exists(own) and known is not None:
        raise UserError(f"{name}: {method} is a shipped method and {own} a file here; rename yours")
    if path_exists(own):
        return own
    if known is None:
        own_methods = {path.stem: path for path in Path().glob("*.yaml")}
        known_methods = _known("method", method, own_methods | shipped(), f"{setting_name(setting)}/")
        raise UserError(f"{name}: there is no such file and {known_methods}")
    return known


def _known(what: str, name: str, allowed: Mapping[str, Path], prefix: str = "") -> str:
    text = unknown(what, name, allowed).split(" (allowed")[0]
    return text.replace("did you mean ", f"did you mean {prefix}")


def is_record(name: str) -> bool:
    """Whether a word of the command line is not a recipe but the record of a run."""
    path = Path(name)
    return name.endswith(".json") and path_exists(path) and not _saved_recipe(path)


def _saved_recipe(path: Path) -> bool:
    """Whether it is a resolved recipe as JSON, as `--dry-run` prints it."""
    try:
        return path.is_file() and path.stat().st_size < MOST_BYTES and _says_resolved(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return False


def is_resolved(origin: Origin) -> bool:
    """Whether a file holds a resolved recipe."""
    return origin.setting is None and _says_resolved(read_yaml(origin.method))


def _says_resolved(node: Any) -> bool:
    """It alone carries a name."""
    return isinstance(node, dict) and {"name", "plugins"} <= node.keys()


def path_exists(path: Path) -> bool:
    """Whether there is such a file; a text that cannot be the name of one is none."""
    try:
        return path.exists()
    except (OSError, ValueError):  # Longer than any name, as a list of phases easily is; or with a NUL in it.
        return False


def display_path(path: Path) -> str:
    """A file's path as one writes it: a shipped one from the root of the repository."""
    root = recipes_folder().parent
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
