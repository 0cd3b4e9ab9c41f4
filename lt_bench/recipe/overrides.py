"""What a command line changes in a recipe: `key.path=value`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lt_bench.errors import UserError, shown
from lt_bench.recipe.files import Node, path_exists
from lt_bench.yaml_files import parse_yaml

CALLED = ("protocol.name", "protocol.version")
WHOLE = "protocol.optimizer.name"
"""Of another name it is another optimizer, which takes over no setting of the one that it replaces."""


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Recipes and overrides of a command line: what has a `=` and is no file is an override."""
    overrides = [text for text in arguments if "=" in text and not path_exists(Path(text))]
    names = [text for text in arguments if text not in overrides]
    if not names:
        raise UserError("no recipe given; `lt-bench list recipes` names the shipped ones")
    given = {parse_override(text)[0]: text for text in overrides}  # of one key the last
    for later, key in enumerate(given):
        whole = key.removesuffix(".name") if key == WHOLE else key
        undone = next((earlier for earlier in list(given)[:later] if earlier.startswith(f"{whole}.")), None)
        if undone is not None and key != "protocol":  # which is replaced before anything in it is set
            raise UserError(f"override {key}: would undo {undone}, which stands before it")
    return names, list(given.values())


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key.path=value` at the first `=`; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"override {shown(text)}: expected key.path=value")
    if key.strip() == "extends":
        raise UserError(f"override {shown(text)}: a recipe is extended in a file; protocol=NAME replaces its protocol")
    if key.strip() in CALLED:
        raise UserError(f"override {shown(text)}: says what a protocol's file is called; protocol=NAME chooses another")
    return key.strip(), parse_yaml(value, f"override {shown(text)}")


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
    if key == WHOLE and value != node.get(last, "sgd"):
        node.clear()
    node[last] = value
