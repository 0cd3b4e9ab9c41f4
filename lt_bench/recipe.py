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
from lt_bench.protocol import Protocol, Schedule
from lt_bench.recipe_files import Node, apply_override, find_recipe, first_stage_file, inherit, merge, parse_override
from lt_bench.registry import lookup, plugin_digest
from lt_bench.resources import resource_folder
from lt_bench.settings import Settings, added
from lt_bench.stages import Stage
from lt_bench.validation import validated
from lt_bench.yaml_files import read_yaml

Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$", max_length=500)]
"""Text that a record can carry."""

DEFAULTS = {"sampler": "instance", "mix": "none", "loss": "cross-entropy", "method": "standard"}
PHASE_FAMILIES = ("sampler", "mix", "loss")
FIELDS = ("extends", "protocol", "data", "model", *DEFAULTS, "phases", "second_stage", "reported", "notes")
"""What a recipe file may say."""
NOT_IDENTITY = ("name", "reported", "notes", "overrides", "first_stage")
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


class Composition(Settings):
    """What an epoch is trained with."""

    sampler: Node
    mix: Node
    loss: Node


class PhaseSettings(Composition):
    """What holds from the end of the previous phase until before epoch `until`."""

    until: int


class SecondStage(Composition):
    """What becomes of the trained network's classifier, and what it is trained with."""

    stage: Node


class FirstStage(Settings):
    """What the recipe of the first stage says beside its identity: the run of that recipe is an ordinary one."""

    name: Line
    reported: tuple[Reported, ...] = ()
    notes: str = ""
    overrides: tuple[Line, ...] = ()
    plugins: dict[str, str] = Field(default={})


class Recipe(Settings):
    """A resolved recipe: nothing in it depends on another file any more."""

    name: Line
    """The recipe file's stem, which names the method in tables."""
    protocol: Protocol
    data: DataSpec
    model: ModelSettings
    method: Node
    phases: tuple[PhaseSettings, ...]
    second_stage: SecondStage | None = added(None)
    """Follows the protocol's epochs, in a run of its own that starts from the weights of the run without it."""
    first_stage: FirstStage | None = added(None)
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

    def first(self) -> Recipe | None:
        """The recipe whose trained network this one starts from, where it has a second stage."""
        if self.first_stage is None:
            return None
        return self.model_copy(update={**dict(self.first_stage), "second_stage": None, "first_stage": None})

    @property
    def training(self) -> Protocol:
        """What holds while this recipe itself trains: the protocol, or what the second stage makes of it."""
        stage = self.stage_choice()
        if stage is None:
            return self.protocol
        config = stage.config
        assert isinstance(config, Stage.Config)
        optimizer = self.protocol.optimizer.model_copy(update={"lr": config.lr})
        if config.weight_decay is not None:
            optimizer = optimizer.model_copy(update={"weight_decay": config.weight_decay})
        schedule = Schedule(name="cosine", warmup_epochs=0)
        return self.protocol.model_copy(update={"epochs": config.epochs, "optimizer": optimizer, "schedule": schedule})

    def method_choice(self) -> Choice:
        """The training procedure; second stages have the standard one."""
        return _choice("method", self.method if self.second_stage is None else {"name": "standard"})

    def stage_choice(self) -> Choice | None:
        return None if self.second_stage is None else _choice("stage", self.second_stage.stage)

    def head_choice(self) -> Choice:
        return _choice("head", self.model.head)

    def phase_choices(self) -> tuple[Phase, ...]:
        """The phases of `training` with their components looked up."""
        if self.second_stage is not None:
            # One without training has an epoch 0 as well, in which it is evaluated.
            return (_phase(max(1, self.training.epochs), self.second_stage),)
        return tuple(_phase(phase.until, phase) for phase in self.phases)

    @property
    def compositions(self) -> tuple[Composition, ...]:
        """All that it names as sampler, mix and loss, in the order of coming into force."""
        return self.phases if self.second_stage is None else (*self.phases, self.second_stage)


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, merge, override, validate. Raises UserError in one line that names the file and the field."""
    path = find_recipe(str(name))
    parsed = [parse_override(text) for text in overrides]
    base = next((str(value) for key, value in parsed if key in ("extends", "protocol")), None)
    data = inherit(path, base)
    for key, value in parsed:
        if key not in ("extends", "protocol"):
            apply_override(data, key, value)
    changed = tuple(text for text, (key, _) in zip(overrides, parsed, strict=True) if key not in KEEPS_METHOD)
    if changed or any(key in OTHER_SPLIT for key, _ in parsed):
        # The published figures belong to the method and the split of the file.
        data.pop("reported", None)
    try:
        recipe = resolve(data, path, changed)
    except UserError as error:
        given = " ".join(" ".join(overrides).split())
        raise UserError(f"{error} (with {given})" if given else str(error)) from None
    return recipe if recipe.second_stage is None else _after_first_stage(recipe, path, overrides)


def _after_first_stage(recipe: Recipe, path: Path, overrides: Sequence[str]) -> Recipe:
    """The recipe with what it has to know of its first stage. Raises UserError if that is another experiment."""
    own = [text for text in overrides if not re.match(r"second_stage\b", text.strip())]
    first = load_recipe(first_stage_file(path), own)
    kept = {name: getattr(first, name) for name in FirstStage.model_fields}
    recipe = recipe.model_copy(update={"first_stage": FirstStage(**kept)})
    again = recipe.first()
    assert again is not None
    if again.sha256() != first.sha256():
        raise UserError(
            f"{path}: second_stage: beside it the recipe changes what it extends; the first stage has to be "
            f"{first.name} itself, whose trained network is where the second starts"
        )
    return recipe


def data_spec(card: str, settings: Sequence[str]) -> DataSpec:
    """The split that a card's name and `key=value` settings ask for, such as factor=50."""
    known = load_card(card)
    given = dict(map(parse_override, settings))
    if "name" in given:
        raise UserError(f"{card} name={given['name']}: the name of the data set comes first, without `name=`")
    spec: DataSpec = validated(DataSpec, {"name": card, **given}, Path(card), "data")
    return spec.resolve(known)


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
    if "second_stage" in data:
        data["second_stage"] = _second_stage(data["second_stage"], path)
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
        changed = merge({kind: top[kind] for kind in PHASE_FAMILIES}, {k: v for k, v in phase.items() if k != "until"})
        parts = {kind: _component(kind, given, path, f"{field}.{kind}") for kind, given in changed.items()}
        expanded.append({"until": _whole_epochs(phase.get("until"), epochs, f"{path}: {field}.until"), **parts})
    ends: list[int] = [phase["until"] for phase in expanded]
    if ends != sorted(set(ends)) or ends[0] < 1:
        rounded = f"; percentages are rounded to whole epochs of {epochs}" if ends == sorted(ends) else ""
        raise UserError(f"{path}: phases: `until` must increase, found {ends}{rounded}")
    if ends[-1] != epochs:
        raise UserError(
            f"{path}: phases: the last one ends at epoch {ends[-1]} but the protocol trains {epochs}; "
            "percentages (until: 80%) fit every protocol"
        )
    return expanded


def _second_stage(given: Any, path: Path) -> Node:
    """The stage apart from what it trains with, each with all its settings; `given` is a name or a mapping."""
    settings = {"name": given} if isinstance(given, str) else given
    if not isinstance(settings, dict) or "name" not in settings:
        raise UserError(f"{path}: second_stage: expected a name or a mapping with a name, found {given!r}")
    own = {key: value for key, value in settings.items() if key not in PHASE_FAMILIES}
    node = {"stage": _component("stage", own, path, "second_stage")}
    defaults = lookup("stage", own["name"]).defaults
    for kind in PHASE_FAMILIES:
        node[kind] = _component(kind, merge({kind: defaults[kind]}, settings)[kind], path, f"second_stage.{kind}")
    return node


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
    stage = None if recipe.second_stage is None else lookup("stage", recipe.second_stage.stage["name"])
    if stage is not None and head.name not in stage.heads:
        needed = " or ".join(sorted(stage.heads))
        raise UserError(f"{path}: second_stage: {stage.name} starts from the head {needed}, found {head.name}")
    if recipe.second_stage is not None and not recipe.training.epochs:
        _check_untrained(recipe.second_stage, path)
    if method.heads is not None and head.name not in method.heads:
        raise UserError(f"{path}: model.head: the method {method.name} needs {' or '.join(sorted(method.heads))}")
    if method.heads is None and head.has_training_layers:
        raise UserError(f"{path}: model.head: {head.name} has layers that the method {method.name} does not train")
    card = load_card(recipe.data.name)
    _in(path, recipe.protocol.augmentation.check, card, field="protocol")
    try:
        method.check(_choice("method", recipe.method).config, recipe.head_choice().config, card.classes)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # The second stage trains by the standard method, whatever the first one's brings.
    for part in recipe.compositions if "loss" in method.uses else recipe.compositions[len(recipe.phases) :]:
        loss = lookup("loss", part.loss["name"])
        if loss.takes_cosines and not head.gives_cosines:
            raise UserError(f"{path}: model.head: the loss {loss.name} needs the head cosine, found {head.name}")
        if head.gives_cosines and not loss.takes_cosines:
            raise UserError(f"{path}: model.head: {head.name} gives cosines in [-1, 1], too flat for {loss.name}")
        if loss.takes_features and not head.gives_features:
            raise UserError(f"{path}: model.head: the loss {loss.name} needs a head of one branch, found {head.name}")


def _check_untrained(second: SecondStage, path: Path) -> None:
    """Refuse what has no effect beside a stage that trains nothing, as most of what an epoch is trained with."""
    stage = lookup("stage", second.stage["name"])
    for kind in PHASE_FAMILIES:
        node = getattr(second, kind)
        choice = _choice(kind, node)
        if node == _component(kind, stage.defaults[kind], path):
            continue
        if kind != "loss":
            raise UserError(f"{path}: second_stage.{kind}: {stage.name} trains nothing; leave it out")
        if not choice.component.changes_scores(choice.config):
            name = node["name"]
            raise UserError(
                f"{path}: second_stage.loss: {stage.name} trains nothing, and {name} leaves the logits alone"
            )


def _plugin_digests(recipe: Recipe) -> dict[str, str]:
    model = recipe.model
    named = [("method", recipe.method["name"]), ("head", model.head["name"]), ("backbone", model.backbone)]
    if recipe.second_stage is not None:
        named.append(("stage", recipe.second_stage.stage["name"]))
    named += [(kind, getattr(part, kind)["name"]) for part in recipe.compositions for kind in PHASE_FAMILIES]
    digests = {f"{kind}/{name}": plugin_digest(lookup(kind, name)) for kind, name in named}
    return {key: digest for key, digest in sorted(digests.items()) if digest}


def _phase(until: int, parts: Composition) -> Phase:
    sampler, mix, loss = (_choice(kind, getattr(parts, kind)) for kind in PHASE_FAMILIES)
    return Phase(until, sampler, mix, loss)


def _choice(kind: str, node: Node) -> Choice:
    component = lookup(kind, node["name"])
    settings = {key: value for key, value in node.items() if key != "name"}
    return Choice(component, validated(component.Config, settings, Path("resolved recipe"), kind))


def _in(path: Path, call: Any, *arguments: Any, field: str = "data") -> Any:
    """Call, prefixing a UserError with the recipe's file and field."""
    try:
        return call(*arguments)
    except UserError as error:
        raise UserError(f"{path}: {field}: {error}") from None


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
