"""YAML as recipes and cards are read: safe, without duplicate keys, numbers as people write them."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from lt_bench.errors import UserError, shown

_NOT_RESOLVED = (":bool", ":int", ":float", ":timestamp", ":merge", ":value")


LARGEST = 2**53
"""Whole numbers beyond it have no place in a recipe, nor in the JSON of a record."""


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2's booleans and numbers, refusing duplicate keys, aliases and explicit tags."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the library's own class attribute)
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(_NOT_RESOLVED)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # An alias can contain itself, or unfold a few lines into gigabytes.
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, f"the alias *{event.anchor[:80]} is not read", event.start_mark
            )
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise yaml.composer.ComposerError(None, None, f"the tag {shown(event.tag)} is not read", event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        # Python refuses to read thousands of digits at once; a hundred fit no setting either.
        if len(node.value) > 20 or abs(int(node.value)) > LARGEST:
            raise _refused(f"the number {node.value[:20]}... is beyond {LARGEST}", node)
        return int(node.value)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | None):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{shown(key)} cannot be a key", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {shown(key)}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _refused(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
# YAML 1.1 reads 010 as eight and 1:30 as ninety; people mean neither, so they stay text.
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9]\d*)$"), list("-+0123456789"))
# YAML 1.1 reads 1e-4 as text; people mean a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf))$"),
    list("-+0123456789."),
)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    """Nothing may change it: behind every recipe stand the same cards, settings and protocols, each parsed once."""
    return yaml.load(text, Loader=_Loader)


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML text. Raises UserError naming `where` and the line."""
    try:
        return deepcopy(_parsed(text))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{where}{line}: not readable YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: numbers of absurd length, ill-formed tagged values.
        raise UserError(f"{where}: not readable YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{where}: not readable YAML: nested too deeply") from None


def pieces(text: str, where: str) -> list[str]:
    """The elements of a YAML list whose brackets are left out, each as it was written. Raises UserError."""
    listed = f"[{text}]"
    if not isinstance(parse_yaml(listed, where), list):
        raise UserError(f"{where}: expected values with commas between them, found {shown(text)}")
    sequence = yaml.compose(listed, Loader=_Loader)
    assert isinstance(sequence, yaml.SequenceNode)
    return [listed[node.start_mark.index : node.end_mark.index] for node in sequence.value]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping. Raises UserError in one line."""
    return parse_mapping(read_text(path), path)


def read_text(path: Path) -> str:
    """What is in a YAML file. Raises UserError in one line."""
    if path.is_fifo():
        raise UserError(f"{path}: not a regular file")  # its writer may never come
    try:
        return path.read_text(encoding="utf-8")
    except IsADirectoryError:
        raise UserError(f"{path}: is a directory, not a YAML file") from None
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable: {error}") from None


def parse_mapping(text: str, path: Path) -> dict[str, Any]:
    """The one mapping in the text of a file. Raises UserError in one line."""
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of fields, found {type(data).__name__}")
    return data
