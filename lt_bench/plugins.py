"""A user's own components: files that `--plugin` loads, and packages in the entry point group `lt_bench.plugins`.

Runs and records know a plug-in by one sha256: that of its file or, where this imports others from its folder or
package, of all of them.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator
from functools import cache
from importlib.abc import SourceLoader
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from lt_bench.data.reading import read_bytes
from lt_bench.errors import UserError

MOST_SOURCE = 2**24
"""Bytes of one file."""

_loaded: list[ModuleType] = []
_digests: dict[str, str] = {}


def load_plugin(path: Path, sha256: str | None = None) -> None:
    """Import a user's file, so that the components it defines can be named in recipes.

    Raises UserError where it cannot be imported, or is not the one with that `sha256`.
    """
    path = path.expanduser().resolve()
    # With a digest of the path, because two plug-ins may have one file name.
    module_name = f"lt_bench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    source = read_bytes(path, "plug-in", MOST_SOURCE)
    beside = _imported(path, source)
    digest = _digest(source, beside)
    if sha256 not in (None, digest):
        raise UserError(
            f"--plugin {path}: has changed since the sweep began; the same command begins with what it is now"
        )
    if _digests.get(module_name) == digest:
        return
    if module_name in _digests:  # and what it imports may have changed
        for name in beside:
            sys.modules.pop(name, None)
    _loaded[:] = [m for m in _loaded if m.__name__ != module_name] + [_executed(module_name, path, source, beside)]
    _digests[module_name] = digest


def _executed(name: str, path: Path, source: bytes, beside: dict[str, Path]) -> ModuleType:
    """The module made of what was read, whatever stands there by now, and of no bytecode of another version."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or not isinstance(spec.loader, SourceLoader):
        raise UserError(f"--plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if beside and str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        exec(spec.loader.source_to_code(source, str(path)), vars(module))
        _check_own(beside)
    except (Exception, SystemExit) as error:  # a script may end what imports it
        del sys.modules[name]
        raise UserError(f"--plugin {path}: {_in_one_line(error)}") from error
    return module


def _check_own(beside: dict[str, Path]) -> None:
    """Raise ImportError where another module took the name of a file beside a plug-in."""
    for name, path in beside.items():
        other = getattr(sys.modules.get(name), "__file__", None)
        if other and Path(other).resolve() != path.resolve():
            raise ImportError(f"imports {name} from {other}, not the one beside it")


def plugin_files() -> dict[Path, str]:
    """The files loaded by `load_plugin`, each with its sha256, for a process that has to load them too."""
    return {Path(inspect.getfile(module)): _digests[module.__name__] for module in _loaded}


def loaded_plugins() -> list[str]:
    """The sha256 of every plug-in in this process, whether or not a recipe names a component of it, sorted."""
    packaged = (_digest_of(Path(inspect.getfile(module))) for module in _packaged())
    return sorted({*plugin_files().values(), *packaged})


def plugin_digest(component: type) -> str | None:
    """The sha256 of the plug-in that defines a component, None for a shipped one."""
    if component.__module__.startswith("lt_bench."):
        return None
    return _digests.get(component.__module__) or _digest_of(Path(inspect.getfile(component)))


def plugin_modules() -> list[ModuleType]:
    """Those that may define components: of packages first, then of files, in the order in which they were loaded."""
    return [*_packaged(), *_loaded]


@cache
def _packaged() -> list[ModuleType]:
    return [_load_entry_point(entry) for entry in entry_points(group="lt_bench.plugins")]


def _load_entry_point(entry: EntryPoint) -> ModuleType:
    try:
        module: ModuleType = entry.load()
    except Exception as error:
        raise UserError(f"plug-in {entry.name} ({entry.value}): {_in_one_line(error)}") from error
    return module


def _in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _digest_of(path: Path) -> str:
    source = path.read_bytes()
    return _digest(source, _imported(path.resolve(), source))


def _digest(source: bytes, beside: dict[str, Path]) -> str:
    own = hashlib.sha256(source).hexdigest()
    if not beside:
        return own
    others = [[name, hashlib.sha256(path.read_bytes()).hexdigest()] for name, path in sorted(beside.items())]
    return hashlib.sha256(json.dumps([own, *others]).encode()).hexdigest()


def _imported(path: Path, source: bytes) -> dict[str, Path]:
    """The files of its folder or package that a file imports, and those that they import, by names of modules."""
    root = path.parent
    while (root / "__init__.py").exists():
        root = root.parent
    found: dict[str, Path] = {}
    waiting = [(path, source)]
    while waiting:
        for file in _files(*waiting.pop(), root):
            name = _module_name(file, root)
            if file != path and name not in found:
                found[name] = file
                waiting.append((file, read_bytes(file, "plug-in", MOST_SOURCE)))
    return found


def _module_name(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _files(path: Path, source: bytes, root: Path) -> Iterator[Path]:
    """Those under `root` that stand for a part of what a file imports, if it can be parsed at all."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # as it will say when it is executed
        return
    for base, dotted in (found for node in ast.walk(tree) for found in _sought(node, path, root)):
        for depth in range(1, len(dotted) + 1):
            at = base.joinpath(*dotted[:depth])
            for file in (at.parent / f"{at.name}.py", at / "__init__.py"):
                if file.is_file() and file.is_relative_to(root):
                    yield file


def _sought(node: ast.AST, path: Path, root: Path) -> Iterator[tuple[Path, list[str]]]:
    """What a statement imports but for this suite: the folder in which it is sought, and the parts of its name."""
    if isinstance(node, ast.Import):
        found = [(root, alias.name.split(".")) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = path.parents[min(node.level, len(path.parents)) - 1] if node.level else root
        stem = node.module.split(".") if node.module else []
        found = [(base, [*stem, alias.name]) for alias in node.names]
    else:
        found = []
    yield from ((base, parts) for base, parts in found if (base, parts[0]) != (root, __package__))
