"""Recipe files: where they are found, what they inherit, and what a command line changes in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lt_bench.errors import UserError, unknown
from lt_bench.resources import resource_folder
from lt_bench.yaml_files import parse_yaml, read_yaml

Node = dict[str, Any]


def find_recipe(name: str) -> Path:
    """The file of a recipe given as a path or as `<dataset>/<method>` among the shipped ones."""
    given = Path(name)
    if _exists(given):
        return given
    root = resource_folder("recipes")
    relative = name.removeprefix("recipes/").removesuffix(".yaml")
    shipped = root / f"{relative}.yaml"
    if _exists(shipped):
        return shipped
    names = [str(path.relative_to(root).with_suffix("")) for path in shipped_recipes()]
    raise UserError(f"{name}: there is no such file and {unknown('recipe', relative, names).split(' (')[0]}")


def shipped_recipes() -> list[Path]:
    """The recipe files that ship with the package, protocols left out."""
    root = resource_folder("recipes")
    return [path for path in sorted(root.rglob("*.yaml")) if path.parent.name != "protocols"]


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Recipes and overrides of a command line: what has a `=` and is no file is an override."""
    overrides = [text for text in arguments if "=" in text and not _exists(Path(text))]
    names = [text for text in arguments if text not in overrides]
    if not names:
        raise UserError("no recipe given; `lt-bench list recipes` names the shipped ones")
    given = {parse_override(text)[0]: text for text in overrides}  # of one key the last
    for later, key in enumerate(given):
        undone = next((earlier for earlier in list(given)[:later] if earlier.startswith(f"{key}.")), None)
        if undone is not None and key != "protocol":  # which is replaced before anything in it is set
            raise UserError(f"override {key}: would undo {undone}, which stands before it")
    return names, list(given.values())


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key.path=value` at the first `=`; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"override {text!r}: expected key.path=value")
    return key.strip(), parse_yaml(value, f"override {text!r}")


def inherit(path: Path, base: str | None, seen: tuple[Path, ...] = ()) -> Node:
    """The file's data merged over what it extends; `base` replaces the protocol at the root of the chain."""
    if path.resolve() in seen:
        raise UserError(f"{path}: extends itself, through {' -> '.join(p.name for p in seen)}")
    data = read_yaml(path)
    parent = data.get("extends")
    if parent is None:
        if base is not None:
            raise UserError(f"{path}: extends no protocols/..., so the protocol cannot be replaced by {base!r}")
        return data
    if not isinstance(parent, str):
        raise UserError(f"{path}: extends: expected the name of a recipe or protocol, found {parent!r}")
    if base is not None and parent.startswith("protocols/"):
        parent, base = (base if "/" in base else f"protocols/{base}"), None
    inherited = inherit(find_base(parent, path), base, (*seen, path.resolve()))
    # A published figure belongs to the file that names it, not to what is made of it.
    inherited.pop("reported", None)
    return merge(inherited, data)


def first_stage_file(path: Path) -> Path:
    """The nearest file, from `path` along what it extends, that neither has nor inherits a second stage."""
    if "second_stage" not in inherit(path, None):
        return path
    parent = read_yaml(path).get("extends")
    if parent is None or parent.startswith("protocols/"):
        raise UserError(f"{path}: second_stage: the recipe must extend that of its first stage")
    return first_stage_file(find_base(parent, path))


def find_base(name: str, path: Path) -> Path:
    """The file that `path` extends: beside it, in a folder above it, or among the shipped recipes."""
    relative = f"{name.removesuffix('.yaml')}.yaml"
    for folder in [*path.resolve().parents[:3], resource_folder("recipes")]:
        if (folder / relative).is_file() and (folder / relative).resolve() != path.resolve():
            return folder / relative
    root = resource_folder("recipes")
    names = [str(p.relative_to(root).with_suffix("")) for p in sorted(root.rglob("*.yaml"))]
    beside = [known for known in names if known.startswith(f"{name.partition('/')[0]}/")]
    raise UserError(f"{path}: extends: {unknown('recipe or protocol', name, beside or names)}")


def merge(base: Node, change: Mapping[str, Any]) -> Node:
    """`change` over `base`, mapping by mapping; a component of another name replaces the old one whole."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if isinstance(old, str) and isinstance(value, dict) and value.get("name", old) == old:
            old = {"name": old}
        if isinstance(old, dict) and isinstance(value, dict) and value.get("name", old.get("name")) == old.get("name"):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def apply_override(data: Node, key: str, value: Any) -> None:
    """Apply one override. A component may be set by its name: `mix=remix`."""
    *parents, last = key.split(".")
    node = data
    for depth, parent in enumerate(parents):
        child = node.setdefault(parent, {})
        if isinstance(child, str):
            child = node[parent] = {"name": child}
        if isinstance(child, list):
            raise UserError(f"override {key}: {'.'.join(parents[: depth + 1])} is a list; override it as a whole")
        if not isinstance(child, dict):
            raise UserError(f"override {key}: {'.'.join(parents[: depth + 1])} has no fields")
        node = child
    node[last] = value


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # Such as a name longer than any file's, which a list of phases easily is.
        return False
