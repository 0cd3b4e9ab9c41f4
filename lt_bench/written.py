"""What the files of components say of them, read and not imported: an import would take seconds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
NAME = re.compile(r'^    name = "(.+)"$', re.MULTILINE)
"""A component's name, as a line of its class."""


class Written(NamedTuple):
    """A class as a module's source defines it."""

    module: str
    source: ast.ClassDef


@cache
def homes(package: str) -> dict[str, str]:
    """The components of a module, or of a package's files, by name, each with the module that defines it.

    A component is a class with `name = "..."` in its body.
    """
    place = ROOT.joinpath(*package.split("."))
    files = {f"{package}.{path.stem}": path for path in place.glob("*.py") if path.stem != "__init__"}
    files = files or {package: place.with_suffix(".py")}
    return {name: module for module, path in files.items() for name in NAME.findall(path.read_text("utf-8"))}


@cache
def settings(module: str, name: str) -> tuple[str, ...]:
    """The names of the settings of a component that a module defines. What its `Config` inherits comes first."""
    owner = next(found for found in _classes(module).values() if name in _names(found.source))
    return tuple(dict.fromkeys(_fields(_inside(owner, "Config"))))


def _names(source: ast.ClassDef) -> Iterator[str]:
    for statement in source.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(name))):
                yield name


def _fields(settings: Written | None) -> Iterator[str]:
    """What a class declares, after its bases; of a field that is a class of settings also what that declares."""
    if settings is not None:
        for base in settings.source.bases:
            yield from _fields(_defined(settings.module, base))
        for statement in settings.source.body:
            match statement:
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                    yield name
                    yield from (f"{name}.{inner}" for inner in _fields(_defined(settings.module, annotation)))


def _inside(owner: Written | None, name: str) -> Written | None:
    """The class `name` in the body of another, or of one of its bases."""
    if owner is None:
        return None
    own = (node for node in owner.source.body if isinstance(node, ast.ClassDef) and node.name == name)
    inherited = (_inside(_defined(owner.module, base), name) for base in owner.source.bases)
    return next((Written(owner.module, node) for node in own), None) or next(filter(None, inherited), None)


def _defined(module: str, expression: ast.expr) -> Written | None:
    """The class that an expression such as `Mix` or `Mix.Config` stands for in a module; None for a library's."""
    match expression:
        case ast.Name(id=name):
            return _classes(module).get(name) or _imported(module, name)
        case ast.Attribute(value=owner, attr=name):
            return _inside(_defined(module, owner), name)
        case ast.Subscript(value=generic):
            return _defined(module, generic)
    return None


def _imported(module: str, name: str) -> Written | None:
    for node in _tree(module).body:
        match node:
            case ast.ImportFrom(module=str(source)) if source.split(".")[0] == __package__:
                for alias in node.names:
                    if name == (alias.asname or alias.name):
                        return _defined(source, ast.Name(alias.name))
    return None


def _classes(module: str) -> dict[str, Written]:
    return {node.name: Written(module, node) for node in _tree(module).body if isinstance(node, ast.ClassDef)}


@cache
def _tree(module: str) -> ast.Module:
    place = ROOT.joinpath(*module.split("."))
    return ast.parse((place / "__init__.py" if place.is_dir() else place.with_suffix(".py")).read_bytes())
