"""A user's own components: files that `--plugin` loads, and packages in the entry point group `lt_bench.plugins`.

Runs and records know a plug-in by one sha256: that of its file or, where a `--plugin` file imports others that lie
beside it, of all of them. They are executed from the bytes that were hashed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.abc import SourceLoader
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from lt_bench.data.reading import read_bytes
from lt_bench.errors import UserError

MOST_SOURCE = 2**24
"""Bytes of one file."""
Sources = dict[str, tuple[Path, bytes]]
"""Files that lie beside a plug-in, by the names of their modules."""


class _Beside(SourceLoader):
    """Imports what lies beside plug-ins, and no bytecode of another version of it."""

    def __init__(self) -> None:
        self.sources: Sources = {}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name in self.sources:
            file = self.sources[name][0]
            return importlib.util.spec_from_loader(name, self, is_package=file.name == "__init__.py")
        below = any(known.startswith(f"{name}.") for known in self.sources)  # a folder without __init__.py
        return ModuleSpec(name, None, is_package=True) if below else None

    def get_filename(self, name: str) -> str:
        return str(self.sources[name][0])

    def get_data(self, path: str) -> bytes:
        return next(data for file, data in self.sources.values() if str(file) == path)


_loaded: list[ModuleType] = []
_digests: dict[str, str] = {}
_beside = _Beside()


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
    _take_in(path, beside)
    _loaded[:] = [m for m in _loaded if m.__name__ != module_name] + [_executed(module_name, path, source)]
    _digests[module_name] = digest


def _executed(name: str, path: Path, source: bytes) -> ModuleType:
    """The module made of what was read, whatever stands there by now."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or not isinstance(spec.loader, SourceLoader):
        raise UserError(f"--plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        exec(spec.loader.source_to_code(source, str(path)), vars(module))
    except (Exception, SystemExit) as error:  # a script may end what imports it
        del sys.modules[name]
        raise UserError(f"--plugin {path}: {_in_one_line(error)}") from error
    return module


def _take_in(path: Path, beside: Sources) -> None:
    """Let what lies beside a plug-in be imported; what has changed is forgotten, with all that may have imported it.

    Raises UserError where a name stands for another file already.
    """
    for name, (file, _) in beside.items():
        known = _beside.sources.get(name, (file, b""))[0]
        if known != file:
            raise UserError(
                f"--plugin {path}: imports {name} from {file}, and another plug-in from {known}; rename one"
            )
    if any(_beside.sources.get(name) != source for name, source in beside.items()):
        for name in beside:
            sys.modules.pop(name, None)
    _beside.sources |= beside
    if _beside not in sys.meta_path:
        sys.meta_path.insert(0, _beside)


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
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(source: bytes, beside: Sources) -> str:
    own = hashlib.sha256(source).hexdigest()
    if not beside:
        return own
    others = [[name, hashlib.sha256(data).hexdigest()] for name, (_, data) in sorted(beside.items())]
    return hashlib.sha256(json.dumps([own, *others]).encode()).hexdigest()


def _imported(path: Path, source: bytes) -> Sources:
    """What lies beside a file and is imported by it, or by what it imports from there."""
    found: Sources = {}
    waiting = [(path, source)]
    while waiting:
        for file in _files(*waiting.pop(), path.parent):
            name = _module_name(file, path.parent)
            if file != path and name not in found:
                found[name] = file, read_bytes(file, "plug-in", MOST_SOURCE)
                waiting.append(found[name])
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
    for parts in (found for node in ast.walk(tree) for found in _sought(node, path, root)):
        if _is_own(parts[0], root):
            for depth in range(1, len(parts) + 1):
                at = root.joinpath(*parts[:depth])
                both = at / "__init__.py", at.parent / f"{at.name}.py"  # of which Python prefers the package
                yield from [file for file in both if file.is_file()][:1]


def _sought(node: ast.AST, path: Path, root: Path) -> Iterator[list[str]]:
    """What a statement imports, by the parts of its name from `root` on."""
    if isinstance(node, ast.Import):
        yield from (alias.name.split(".") for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        above = path.relative_to(root).parts[: -node.level] if node.level else ()
        stem = node.module.split(".") if node.module else []
        yield from ([*above, *stem, alias.name] for alias in node.names)


def _is_own(name: str, root: Path) -> bool:
    """Whether a name stands for what lies in `root`, and not for this suite or anything installed."""
    if name == __package__ or name in sys.stdlib_module_names:
        return False
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    if spec is None or spec.loader is _beside:
        return True
    places = [spec.origin] if spec.origin else [*(spec.submodule_search_locations or ()), str(root)]
    return Path(places[0]).resolve().is_relative_to(root)
