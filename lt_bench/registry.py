"""The closed sets of names that a recipe may use, found by walking the packages.

A component is a class with a `name`, a nested `Config` and the base class of its family. The file it
stands in is its registration: nothing else has to be edited. A user's own components come in through
`load_plugin` (the command line's `--plugin FILE`) or the entry point group `lt_bench.plugins`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.abc import SourceLoader
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from lt_bench.data.reading import read_bytes
from lt_bench.errors import UserError, is_slip, unknown
from lt_bench.settings import Settings
from lt_bench.validation import paths, settled
from lt_bench.written import components


@dataclass(frozen=True)
class Info:
    """What a table says about a component."""

    summary: str
    paper: str = ""
    year: int | None = None
    cost: str = "1x"
    """Arithmetic of a training step relative to plain cross entropy."""


class Component:
    """Base of all families. `name` is the word a recipe uses; `info` is what `lt-bench list` prints.

    A recipe and a script build it by one call: what it works on, then its settings, validated together (`config`) or
    one by one, as in `LDAM(counts, max_margin=0.5)`. Nothing but a family's base has an `__init__`: what else a
    component needs, it makes in `prepare`.
    """

    name: str
    info: Info
    acts: ClassVar[str] = "act"
    """What it does in its `active_epochs`, as a refusal says it behind `would`."""
    timing: ClassVar[str] = ""
    """Why not in all epochs, with the settings that say when: `warmup_epochs {warmup_epochs}`."""

    class Config(Settings):
        """A component without settings."""

    @classmethod
    def settled(cls, config: Any, settings: dict[str, Any]) -> Any:
        """The `Config`: the one given, or one with these settings. Raises UserError for a wrong name or value."""
        return settled(cls.Config, config, settings, cls.__name__)

    @classmethod
    def active_epochs(cls, config: Any, epochs: range, total: int) -> range:
        """Of the epochs in which a recipe names it, those in which it does what sets it apart from doing without it.

        Epochs count from 0 to `total` - 1, over the whole training and not from where a phase begins. A recipe that
        leaves it none trains another method than it says.
        """
        return epochs

    @classmethod
    def turns(cls, config: Any, epochs: range, total: int) -> set[int]:
        """Of these epochs, counted as there, those from which on an epoch does other things, or costs more or less."""
        active = cls.active_epochs(config, epochs, total)
        return {active.start, active.stop} if active else set()


def between(epochs: range, start: int, stop: int) -> range:
    """Those of `epochs` from `start` until before `stop`."""
    return range(max(epochs.start, start), min(epochs.stop, stop))


@dataclass(frozen=True)
class Choice:
    """A component named by a recipe together with its validated settings."""

    component: type[Any]
    config: Settings


@dataclass(frozen=True)
class Phase:
    """What holds from the end of the previous phase until before epoch `until`."""

    until: int
    sampler: Choice
    mix: Choice
    loss: Choice


@dataclass(frozen=True)
class Family:
    """Where the members of a family live: a module, or a package with one member per file."""

    kind: str
    module: str
    base: str


FAMILIES = {
    family.kind: family
    for family in (
        Family("sampler", "lt_bench.data.samplers", "Sampler"),
        Family("augment", "lt_bench.data.augmentations", "Augment"),
        Family("mix", "lt_bench.mixing", "Mix"),
        Family("loss", "lt_bench.losses", "Loss"),
        Family("head", "lt_bench.models.heads", "Head"),
        Family("backbone", "lt_bench.models.backbones", "Backbone"),
        Family("tuner", "lt_bench.models.tuners", "Tuner"),
        Family("start", "lt_bench.models.starts", "Start"),
        Family("regularise", "lt_bench.regularisers", "Regulariser"),
        Family("method", "lt_bench.methods", "Method"),
        Family("stage", "lt_bench.stages", "Stage"),
    )
}

NETWORK = ("head", "backbone", "tuner", "start")
"""Families that a recipe names under `model`: a network, what of it learns, and what its classifier begins as."""

NAME = re.compile(r"[\w.+-]+")
"""Of a component: it is a word of command lines and recipes, and a part of names of files."""

MOST_SOURCE = 2**24
"""Bytes of a plug-in's file."""

_plugin_modules: list[ModuleType] = []
_plugin_digests: dict[str, str] = {}


def named(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe says of a component as a mapping; `timm/resnet18` is the component `timm` with that `model`."""
    node = {"name": given} if isinstance(given, str) else dict(given)
    name, slash, model = str(node.get("name", "")).partition("/")
    return {**node, "name": name, "model": model} if slash else node


def members(kind: str) -> dict[str, type[Component]]:
    """All components of a family by name, plug-ins included. Two of one name are an error."""
    found = dict(_shipped(kind))
    for module in [*_entry_point_modules(), *_plugin_modules]:
        for name, component in _components_in(module, kind).items():
            if name in found and found[name] is not component:
                raise UserError(f"{module.__file__}: the {kind} {name!r} already exists in {found[name].__module__}")
            found[name] = component
    return found


def lookup(kind: str, name: str) -> type[Any]:
    """The component class called `name`. Raises UserError with the nearest valid name."""
    check_name(kind, name)
    return members(kind)[name]


def check_name(kind: str, name: str) -> None:
    """Raise UserError with the nearest valid name if no component of the kind is called `name`."""
    known = vocabulary(kind)
    if name not in known:
        own = "" if is_slip(name, known) else "; one of your own comes in by --plugin FILE"
        raise UserError(unknown(kind, name, known) + own)


def vocabulary(kind: str) -> Mapping[str, tuple[str, ...]]:
    """The names of a family's components, each with the names of its settings.

    Without plug-ins, which import torch themselves, that takes no import of a component, which would take seconds.
    """
    if _entry_point_modules() or _plugin_modules:
        return {name: tuple(paths(component.Config)) for name, component in members(kind).items()}
    return components(FAMILIES[kind].module)


def load_plugin(path: Path, sha256: str | None = None) -> None:
    """Import a user's file, so that the components it defines can be named in recipes.

    Raises UserError where it cannot be imported, or is not the one with that `sha256`.
    """
    path = path.expanduser().resolve()
    # With a digest of the path, because two plug-ins may have one file name.
    module_name = f"lt_bench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    source = read_bytes(path, "plug-in", MOST_SOURCE)
    digest = hashlib.sha256(source).hexdigest()
    if sha256 not in (None, digest):
        raise UserError(
            f"--plugin {path}: has changed since the sweep began; the same command begins with what it is now"
        )
    if _plugin_digests.get(module_name) == digest:
        return
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or not isinstance(spec.loader, SourceLoader):
        raise UserError(f"--plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        # What was read, whatever stands there by now, and no bytecode of another version.
        exec(spec.loader.source_to_code(source, str(path)), vars(module))
    except (Exception, SystemExit) as error:  # a script may end what imports it
        del sys.modules[module_name]
        raise UserError(f"--plugin {path}: {_in_one_line(error)}") from error
    _plugin_modules[:] = [m for m in _plugin_modules if m.__name__ != module_name] + [module]
    _plugin_digests[module_name] = digest


def plugin_files() -> dict[Path, str]:
    """The files loaded by `load_plugin`, each with its sha256, for a process that has to load them too."""
    return {Path(inspect.getfile(module)): _plugin_digests[module.__name__] for module in _plugin_modules}


def loaded_plugins() -> list[str]:
    """The sha256 of every plug-in file in this process, whether or not a recipe names a component of it, sorted."""
    packaged = (Path(inspect.getfile(module)) for module in _entry_point_modules())
    return sorted({*plugin_files().values(), *(hashlib.sha256(path.read_bytes()).hexdigest() for path in packaged)})


def plugin_digest(component: type[Component]) -> str | None:
    """The sha256 of the plug-in file that defines a component, None for a shipped one."""
    if component.__module__.startswith("lt_bench."):
        return None
    known = _plugin_digests.get(component.__module__)
    return known or hashlib.sha256(Path(inspect.getfile(component)).read_bytes()).hexdigest()


@cache
def _shipped(kind: str) -> dict[str, type[Component]]:
    package = importlib.import_module(FAMILIES[kind].module)
    modules = [package]
    if hasattr(package, "__path__"):
        modules = [
            importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)
        ]
    found: dict[str, type[Component]] = {}
    for module in modules:
        for name, component in _components_in(module, kind).items():
            if name in found:
                raise RuntimeError(f"two components called {kind} {name!r}: {found[name]} and {component}")
            found[name] = component
    return found


@cache
def _entry_point_modules() -> list[ModuleType]:
    return [_load_entry_point(entry) for entry in entry_points(group="lt_bench.plugins")]


def _load_entry_point(entry: EntryPoint) -> ModuleType:
    try:
        module: ModuleType = entry.load()
    except Exception as error:
        raise UserError(f"plug-in {entry.name} ({entry.value}): {_in_one_line(error)}") from error
    return module


def _in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _components_in(module: ModuleType, kind: str) -> dict[str, type[Component]]:
    """The family's members that a module itself defines, not those it imports; base classes have no name."""
    family = FAMILIES[kind]
    base: type[Component] = getattr(importlib.import_module(family.module), family.base)
    own = [value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__]
    found: dict[str, type[Component]] = {}
    for component in (value for value in own if issubclass(value, base) and "name" in vars(value)):
        missing = _missing(component)
        if missing:
            raise UserError(f"{module.__file__}: the {kind} {component.name!r} {missing}")
        if found.get(component.name, component) is not component:
            raise UserError(f"{module.__file__}: two {kind} classes are called {component.name!r}")
        found[component.name] = component
    return found


def _missing(component: type[Component]) -> str:
    """What a class lacks that every component has, empty for nothing."""
    if not (isinstance(component.name, str) and NAME.fullmatch(component.name)):
        return "has a `name` that is no text of letters, digits and _ . + -"
    if not isinstance(getattr(component, "info", None), Info):
        return "has no `info`, such as info = Info('what it does')"
    if not (inspect.isclass(component.Config) and issubclass(component.Config, Settings)):
        return "has a `Config` that is no subclass of its base's `Config`"
    if hasattr(component, "prepare") and "config" in [*inspect.signature(component.__init__).parameters][1:2]:
        return "has an `__init__(config, ...)`; what it makes goes into `prepare`, with the settings in self.config"
    unwritten = sorted(getattr(component, "__abstractmethods__", ()))
    return f"does not define {', '.join(unwritten)}" if unwritten else ""
