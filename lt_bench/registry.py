"""The closed sets of names that a recipe may use, found by walking the packages.

A component is a class with a `name`, a nested `Config` and the base class of its family. The file it
stands in is its registration: nothing else has to be edited. A user's own components come in through `plugins`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, ClassVar

from lt_bench import written
from lt_bench.errors import UserError, is_slip, unknown
from lt_bench.plugins import plugin_modules
from lt_bench.settings import Settings
from lt_bench.validation import paths, settled


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


def named(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe says of a component as a mapping; `timm/resnet18` is the component `timm` with that `model`."""
    node = {"name": given} if isinstance(given, str) else dict(given)
    name, slash, model = str(node.get("name", "")).partition("/")
    return {**node, "name": name, "model": model} if slash else node


def members(kind: str) -> dict[str, type[Component]]:
    """All components of a family by name, plug-ins included. Two of one name are an error."""
    found = dict(_shipped(kind))
    home: dict[str, str] = {}
    for module in plugin_modules():
        for name, component in _components_in(module, kind).items():
            if name in found and found[name] is not component:
                there = home.get(name, found[name].__module__)
                raise UserError(f"{module.__file__}: the {kind} {name!r} already exists in {there}; rename one")
            found[name], home[name] = component, str(module.__file__)
    return found


def lookup(kind: str, name: str) -> type[Any]:
    """The component class called `name`. Raises UserError with the nearest valid name."""
    check_name(kind, name)
    return members(kind)[name] if plugin_modules() else _one(kind, name)


@cache
def _one(kind: str, name: str) -> type[Component]:
    """A component that ships, alone: to import all of its family takes half a second."""
    return _components_in(importlib.import_module(written.homes(FAMILIES[kind].module)[name]), kind)[name]


def check_name(kind: str, name: str) -> None:
    """Raise UserError with the nearest valid name if no component of the kind is called `name`.

    Where plug-ins are loaded it tells what they define; else it says how one comes in, unless the name is but a slip.
    """
    known = vocabulary(kind)
    if name not in known:
        own = "" if is_slip(name, known) else "; one of your own comes in by --plugin FILE"
        if plugin_modules():
            defined = [f"{family} {own_name}" for family in FAMILIES for own_name in _of_plugins(family)]
            none = "no component, which is a class with a `name` and the base class of its family"
            own = f"; the plug-ins define {', '.join(defined) or none}"
        raise UserError(unknown(kind, name, known) + own)


def _of_plugins(kind: str) -> list[str]:
    return [name for module in plugin_modules() for name in _components_in(module, kind)]


def vocabulary(kind: str) -> Collection[str]:
    """The names of a family's components.

    Without plug-ins, which import torch themselves, that takes no import of a component, which would take seconds.
    """
    return members(kind).keys() if plugin_modules() else written.homes(FAMILIES[kind].module).keys()


def setting_names(kind: str, name: str) -> tuple[str, ...]:
    """The names of a component's settings, as cheaply. Raises KeyError where there is none of that name."""
    if plugin_modules():
        return tuple(paths(members(kind)[name].Config))
    return written.settings(written.homes(FAMILIES[kind].module)[name], name)


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
