"""What a run is: a recipe read from YAML, its inheritance, overrides, validation and identity.

A recipe file is merged over the file it `extends`, overrides are applied, the result is validated once.
Every component then stands in the resolved recipe with all its settings, so that the sha256 of the
resolved recipe identifies what was run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from lt_bench.data.cards import load_card
from lt_bench.data.spec import DataSpec
from lt_bench.errors import UserError, unknown
from lt_bench.methods import Choice, Phase
from lt_bench.protocol import Protocol
from lt_bench.registry import lookup, plugin_digest
from lt_bench.resources import resource_folder
from lt_bench.settings import Settings
from lt_bench.validation import validated
from lt_bench.yaml_files import parse_yaml, read_yaml

Node = dict[str, Any]
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$", max_length=500)]
"""Text that a record can carry."""

DEFAULTS = {"sampler": "instance", "mix": "none", "loss": "cross-entropy", "method": "standard"}
PHASE_FAMILIES = ("sampler", "mix", "loss")
FIELDS = ("extends", "protocol", "data", "model", *DEFAULTS, "phases", "reported", "notes")
"""What a recipe file may say."""
NOT_IDENTITY = ("name", "reported", "notes", "overrides")
"""Fields that say something about a run without changing it."""
OTHER_SPLIT = ("data.profile", "data.subset_seed", "data.n_max")
KEEPS_METHOD = ("extends", "protocol", "data.factor", "notes", *OTHER_SPLIT)
"""Overrides that leave the method what it was: tables show protocol and split by themselves."""


class Reported(Settings):
    """A figure that a paper or repository published for this recipe."""

    paper: str
    protocol: str | None = None
    """Name of the protocol it was obtained under; only under that one is a difference shown."""
    factor: float | None = None
    """Imbalance factor it was obtained at; a recipe run at another factor drops it."""
    top1: float | None = Field(default=None, ge=0, le=100)
    many: float | None = Field(default=None, ge=0, le=100)
    medium: float | None = Field(default=None, ge=0, le=100)
    few: float | None = Field(default=None, ge=0, le=100)
    verified: bool = True
    """Whether the figure was found at the source that `paper` names."""


class ModelSettings(Settings):
    """The network: a backbone and the head that completes it."""

    backbone: str
    head: Node


class PhaseSettings(Settings):
    """What holds from the end of the previous phase until before epoch `until`."""

    until: int
    sampler: Node
    mix: Node
    loss: Node


class Recipe(Settings):
    """A resolved recipe: nothing in it depends on another file any more."""

    name: Line
    """The recipe file's stem, which names the method in tables."""
    protocol: Protocol
    data: DataSpec
    model: ModelSettings
    method: Node
    phases: tuple[PhaseSettings, ...]
    reported: tuple[Reported, ...] = ()
    notes: str = ""
    overrides: tuple[Line, ...] = ()
    """The overrides that made this another method than the file's; protocol and data stand in tables anyway."""
    plugins: dict[str, str] = Field(default={})
    """sha256 of the plug-in file behind each component that did not ship with the package."""

    def sha256(self) -> str:
        """Identity of the recipe, independent of its name, reported figures and notes."""
        content = {key: value for key, value in self.resolved().items() if key not in NOT_IDENTITY}
        return _digest(content)

    def identity(self, split_digest: str, seed: int) -> str:
        """Identity of a run: resolved recipe, split and seed."""
        return _digest([self.sha256(), split_digest, seed])

    def resolved(self) -> Node:
        """The recipe as plain data."""
        data: Node = self.model_dump(mode="json")
        return data

    def protocol_modified(self) -> bool:
        """Whether the protocol's settings differ from the shipped protocol of the same name."""
        path = resource_folder("recipes") / "protocols" / f"{self.protocol.name}.yaml"
        return not path.is_file() or Protocol.read(read_yaml(path)["protocol"]) != self.protocol

    def method_choice(self) -> Choice:
        return _choice("method", self.method)

    def head_choice(self) -> Choice:
        return _choice("head", self.model.head)

    def phase_choices(self) -> tuple[Phase, ...]:
        """The phases with their components looked up."""
        return tuple(
            Phase(p.until, _choice("sampler", p.sampler), _choice("mix", p.mix), _choice("loss", p.loss))
            for p in self.phases
        )


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


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Recipes and overrides of a command line: what has a `=` and is no file is an override."""
    overrides = [text for text in arguments if "=" in text and not _exists(Path(text))]
    names = [text for text in arguments if text not in overrides]
    if not names:
        raise UserError("no recipe given; `lt-bench list recipes` names the shipped ones")
    return names, overrides


def shipped_recipes() -> list[Path]:
    """The recipe files that ship with the package, protocols left out."""
    root = resource_folder("recipes")
    return [path for path in sorted(root.rglob("*.yaml")) if path.parent.name != "protocols"]


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, merge, override, validate. Raises UserError in one line that names the file and the field."""
    path = find_recipe(str(name))
    parsed = [parse_override(text) for text in overrides]
    base = next((str(value) for key, value in parsed if key in ("extends", "protocol")), None)
    data = _inherit(path, base)
    for key, value in parsed:
        if key not in ("extends", "protocol"):
            _set(data, key, value)
    changed = tuple(text for text, (key, _) in zip(overrides, parsed, strict=True) if key not in KEEPS_METHOD)
    if changed or any(key in OTHER_SPLIT for key, _ in parsed):
        # The published figures belong to the method and the split of the file.
        data.pop("reported", None)
    return resolve(data, path, changed)


def data_spec(card: str, settings: Sequence[str]) -> DataSpec:
    """The split that a card's name and `key=value` settings ask for, such as factor=50."""
    known = load_card(card)
    data = {"name": card, **dict(map(parse_override, settings))}
    spec: DataSpec = validated(DataSpec, data, Path("data"), "")
    return spec.resolve(known)


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key.path=value` at the first `=`; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"override {text!r}: expected key.path=value")
    return key.strip(), parse_yaml(value, f"override {text!r}")


def resolve(data: Node, path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Validate a merged recipe read from `path`, changed by `overrides`."""
    for key in data:
        if key not in FIELDS:
            raise UserError(f"{path}: {unknown('field of a recipe', str(key), FIELDS)}")
    data = {**deepcopy(data), "name": path.stem, "overrides": list(overrides)}
    data.pop("extends", None)
    top = {key: _component(kind=key, given=data.pop(key, default), path=path) for key, default in DEFAULTS.items()}
    model = data.get("model")
    if isinstance(model, dict):
        model["head"] = _component("head", model.get("head", "linear"), path, field="model.head")
        lookup_in(path, "model.backbone", "backbone", model.get("backbone"))
    phases = data.pop("phases", [{"until": "100%"}])
    if not isinstance(data.get("protocol"), dict):
        raise UserError(f"{path}: protocol: required; a recipe usually has it from `extends: protocols/cifar-200ep`")
    protocol = validated(Protocol, data["protocol"], path, "protocol")
    data["phases"] = _expand_phases(phases, top, protocol.epochs, path)
    data["method"] = top["method"]
    recipe: Recipe = validated(Recipe, data, path, "")
    card = _in(path, load_card, recipe.data.name, field="data.name")
    recipe = recipe.model_copy(update={"data": _in(path, recipe.data.resolve, card)})
    reported = tuple(figure for figure in recipe.reported if figure.factor in (None, recipe.data.factor))
    recipe = recipe.model_copy(update={"reported": reported})
    recipe = recipe.model_copy(update={"plugins": _plugin_digests(recipe)})
    _check_compatible(recipe, top, path)
    return recipe


def lookup_in(path: Path, field: str, kind: str, name: Any) -> type[Any]:
    """Look a component up, naming the file and field in the error."""
    if not isinstance(name, str):
        raise UserError(f"{path}: {field}: expected the name of a {kind}, found {name!r}")
    component: type[Any] = _in(path, lookup, kind, name, field=field)
    return component


def _inherit(path: Path, base: str | None, seen: tuple[Path, ...] = ()) -> Node:
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
    inherited = _inherit(_find_base(parent, path), base, (*seen, path.resolve()))
    # A published figure belongs to the file that names it, not to what is made of it.
    inherited.pop("reported", None)
    return _merge(inherited, data)


def _find_base(name: str, path: Path) -> Path:
    """The file that `path` extends: beside it, in a folder above it, or among the shipped recipes."""
    relative = f"{name.removesuffix('.yaml')}.yaml"
    for folder in [*path.resolve().parents[:3], resource_folder("recipes")]:
        if (folder / relative).is_file() and (folder / relative).resolve() != path.resolve():
            return folder / relative
    root = resource_folder("recipes")
    names = [str(p.relative_to(root).with_suffix("")) for p in sorted(root.rglob("*.yaml"))]
    beside = [known for known in names if known.startswith(f"{name.partition('/')[0]}/")]
    raise UserError(f"{path}: extends: {unknown('recipe or protocol', name, beside or names)}")


def _merge(base: Node, change: Mapping[str, Any]) -> Node:
    """`change` over `base`, mapping by mapping; a component of another name replaces the old one whole."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if isinstance(old, str) and isinstance(value, dict) and value.get("name", old) == old:
            old = {"name": old}
        if isinstance(old, dict) and isinstance(value, dict) and value.get("name", old.get("name")) == old.get("name"):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _set(data: Node, key: str, value: Any) -> None:
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


def _component(kind: str, given: Any, path: Path, field: str | None = None) -> Node:
    """A component's name with all its settings, validated; `given` is a name or a mapping."""
    field = field or kind
    settings = {"name": given} if isinstance(given, str) else given
    if not isinstance(settings, dict):
        raise UserError(f"{path}: {field}: expected a name or a mapping with a name, found {given!r}")
    settings = dict(settings)
    # An override such as loss.tau=2 of a recipe that leaves the loss out means the default component.
    name = settings.pop("name", DEFAULTS.get(kind, "linear"))
    component = lookup_in(path, f"{field}.name" if isinstance(given, dict) else field, kind, name)
    config = validated(component.Config, settings, path, field)
    return {"name": name, **config.model_dump(mode="json")}


def _expand_phases(phases: Any, top: Mapping[str, Node], epochs: int, path: Path) -> list[Node]:
    """Phases with whole epochs and complete components; each phase changes the recipe's top level."""
    if not isinstance(phases, list) or not phases or not all(isinstance(phase, dict) for phase in phases):
        raise UserError(f"{path}: phases: expected a list of mappings with `until`, found {phases!r}")
    expanded: list[Node] = []
    for index, phase in enumerate(phases):
        field = f"phases[{index}]"
        for key in phase:
            if key not in ("until", *PHASE_FAMILIES):
                raise UserError(f"{path}: {field}: {unknown('field', str(key), ('until', *PHASE_FAMILIES))}")
        changed = _merge({kind: top[kind] for kind in PHASE_FAMILIES}, {k: v for k, v in phase.items() if k != "until"})
        parts = {kind: _component(kind, given, path, f"{field}.{kind}") for kind, given in changed.items()}
        expanded.append({"until": _whole_epochs(phase.get("until"), epochs, f"{path}: {field}.until"), **parts})
    ends: list[int] = [phase["until"] for phase in expanded]
    if ends != sorted(set(ends)) or ends[0] < 1:
        raise UserError(f"{path}: phases: `until` must increase, found {ends}")
    if ends[-1] != epochs:
        raise UserError(
            f"{path}: phases: the last one ends at epoch {ends[-1]} but the protocol trains {epochs}; "
            "percentages (until: 80%) fit every protocol"
        )
    return expanded


def _whole_epochs(until: Any, epochs: int, where: str) -> int:
    """An `until` in epochs: a whole number as it is, a percentage of the protocol's epochs rounded."""
    if isinstance(until, int) and not isinstance(until, bool):
        return until
    percent = re.fullmatch(r"(\d+(?:\.\d+)?)%", until) if isinstance(until, str) else None
    if percent is None:
        raise UserError(f"{where}: expected an epoch such as 160 or a percentage such as 80%, found {until!r}")
    return round(float(percent[1]) / 100 * epochs)


def _check_compatible(recipe: Recipe, top: Mapping[str, Node], path: Path) -> None:
    """Refuse combinations that cannot mean anything."""
    method = lookup("method", recipe.method["name"])
    for kind in PHASE_FAMILIES:
        brought = _component(kind, DEFAULTS[kind], path)
        asked = [top[kind], *(getattr(phase, kind) for phase in recipe.phases)]
        if kind not in method.uses and any(part != brought for part in asked):
            raise UserError(f"{path}: {kind}: the method {method.name} brings its own {kind}; remove this one")
    head = lookup("head", recipe.model.head["name"])
    if method.heads is not None and head.name not in method.heads:
        raise UserError(f"{path}: model.head: the method {method.name} needs {' or '.join(sorted(method.heads))}")
    if "loss" not in method.uses:
        return
    for phase in recipe.phases:
        loss = lookup("loss", phase.loss["name"])
        if loss.takes_cosines and not head.gives_cosines:
            raise UserError(f"{path}: model.head: the loss {loss.name} needs the head cosine, found {head.name}")
        if head.gives_cosines and not loss.takes_cosines:
            raise UserError(f"{path}: model.head: {head.name} gives cosines in [-1, 1], too flat for {loss.name}")


def _plugin_digests(recipe: Recipe) -> dict[str, str]:
    model = recipe.model
    named = [("method", recipe.method["name"]), ("head", model.head["name"]), ("backbone", model.backbone)]
    named += [(kind, getattr(phase, kind)["name"]) for phase in recipe.phases for kind in PHASE_FAMILIES]
    digests = {f"{kind}/{name}": plugin_digest(lookup(kind, name)) for kind, name in named}
    return {key: digest for key, digest in sorted(digests.items()) if digest}


def _choice(kind: str, node: Node) -> Choice:
    component = lookup(kind, node["name"])
    settings = {key: value for key, value in node.items() if key != "name"}
    return Choice(component, validated(component.Config, settings, Path("resolved recipe"), kind))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # Such as a name longer than any file's, which a list of phases easily is.
        return False


def _in(path: Path, call: Any, *arguments: Any, field: str = "data") -> Any:
    """Call, prefixing a UserError with the recipe's file and field."""
    try:
        return call(*arguments)
    except UserError as error:
        raise UserError(f"{path}: {field}: {error}") from None


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
