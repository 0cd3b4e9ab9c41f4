"""From merged plain data to a recipe: every component with all its settings, every phase in whole epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from lt_bench.corrections import settings_of, with_revision
from lt_bench.data.augment import Augmentation
from lt_bench.data.cards import load_card
from lt_bench.data.noise import words
from lt_bench.data.spec import DataSpec
from lt_bench.epochs import phase_ends, with_whole_epochs
from lt_bench.errors import UserError, shown, unknown
from lt_bench.plugins import plugin_digest
from lt_bench.protocol import Protocol
from lt_bench.recipe.files import Node
from lt_bench.recipe.hints import check_fields
from lt_bench.recipe.layers import DEFAULTS, merge
from lt_bench.recipe.rules import check, of_no_stream
from lt_bench.recipe.schema import PHASE_FAMILIES, Recipe, Reported
from lt_bench.registry import NETWORK, check_name, lookup, named
from lt_bench.validation import validated

EXAMPLES = {"augment": "{cutout: {side: 8}}", "regularise": "{dropout: {rate: 0.5}}"}
"""The families of which a recipe may name several, each with how it does."""
TAKEN_BACK = ("views", "phases", "second_stage")
"""What a recipe may do without: null takes back what it extends, or a method in front of an override, says of it."""


def resolve(data: Node, path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Validate a merged recipe read from `path`, changed by `overrides`."""
    _in(path, check_fields, data, field="")
    kept = {key: value for key, value in data.items() if value is not None or key not in TAKEN_BACK}
    data = {**deepcopy(kept), "name": path.stem, "overrides": list(overrides)}
    # First what needs no component: the first one takes seconds to import.
    data["protocol"] = _protocol(data.get("protocol"), path)
    _check_names(data, path)
    if isinstance(data.get("data"), dict):
        data["data"] = _data(data["data"], path)
    top = {key: component(kind=key, given=data.pop(key, default), path=path) for key, default in DEFAULTS.items()}
    model = data.get("model")
    if isinstance(model, dict):
        model["head"] = component("head", model.get("head", "linear"), path, field="model.head")
        model["backbone"] = _backbone(model.get("backbone"), data, path)
        for kind in ("tuner", "start"):
            if model.get(kind) is not None:
                model[kind] = component(kind, model[kind], path, f"model.{kind}")
    for kind in (kind for kind in EXAMPLES if kind in data):
        data[kind] = _several(kind, data[kind], path, kind)
    if "views" in data:
        data["views"] = _views(data["views"], lookup("method", top["method"]["name"]), _side(data), path)
    data["phases"] = _expand_phases(data.get("phases", [{"until": "100%"}]), top, data["protocol"]["epochs"], path)
    if "second_stage" in data:
        data["second_stage"] = _second_stage(data["second_stage"], data["phases"][-1], path)
    data["method"] = top["method"]
    recipe: Recipe = validated(Recipe, data, path, "")
    reported = tuple(figure for figure in recipe.reported if _is_of(figure, recipe.data))
    return checked(recipe.model_copy(update={"reported": reported, "plugins": _plugin_digests(recipe)}), path)


def _is_of(figure: Reported, data: DataSpec) -> bool:
    """Whether a published figure was obtained on this factor and under this label noise."""
    noise = None if data.noise is None else words(data.noise)
    return figure.factor in (None, data.factor) and figure.noise == noise


def checked(recipe: Recipe, path: Path) -> Recipe:
    """The resolved recipe from `path`. Raises UserError where it breaks a rule or is of other plug-ins than these."""
    _in(path, check, recipe, field="")
    _in(path, check_plugins, recipe, field="")
    return recipe


def check_plugins(recipe: Recipe) -> None:
    """Raise UserError where a resolved recipe is of other plug-ins than those that are loaded."""
    if recipe.plugins != (found := _plugin_digests(recipe)):
        differing = sorted(set(recipe.plugins.items()) ^ set(found.items()))
        raise UserError(f"plugins: {differing[0][0]} is of another file than the plug-in here")


def lookup_in(path: Path, field: str, kind: str, name: Any) -> type[Any]:
    """Look a component up, naming the file and field in the error."""
    if not isinstance(name, str):
        raise UserError(f"{path}: {field}: expected the name of a {kind}, found {shown(name)}")
    found: type[Any] = _in(path, lookup, kind, name, field=field)
    return found


def component(kind: str, given: Any, path: Path, field: str | None = None) -> Node:
    """A component's name with all its settings, validated; `given` is a name or a mapping."""
    field = field or kind
    settings = {"name": given} if isinstance(given, str) else given
    if not isinstance(settings, dict):
        raise UserError(f"{path}: {field}: expected a name or a mapping with a name, found {shown(given)}")
    settings = dict(settings)
    # An override such as loss.tau=2 of a recipe that leaves the loss out means the default component.
    name = settings.pop("name", DEFAULTS.get(kind, "linear"))
    found = lookup_in(path, f"{field}.name" if isinstance(given, dict) else field, kind, name)
    config = validated(found.Config, settings, path, field)
    return with_revision(kind, {"name": name, **config.model_dump(mode="json")})


def _backbone(given: Any, data: Node, path: Path) -> str | Node:
    """A backbone with all its settings for the images of the data set, a bare word where it has none."""
    field = "model.backbone"
    if not isinstance(given, str | dict):
        lookup_in(path, field, "backbone", given)
    node = component("backbone", named(given), path, field)
    found, side = lookup("backbone", node["name"]), _side(data)
    if side is not None:
        config = _in(
            path, found.fitted, validated(found.Config, settings_of("backbone", node), path, field), side, field=""
        )
        node = {"name": node["name"], **config.model_dump(mode="json")}
    return node["name"] if len(node) == 1 else node


def _side(data: Node) -> int | None:
    """Pixels on a side of what a network sees; None where no data set is named, which is refused later."""
    where = data.get("data")
    if not isinstance(where, dict):
        return None
    return Protocol.read(data["protocol"]).augmentation.side(load_card(where["name"]))


def _several(kind: str, given: Any, path: Path, field: str) -> Node:
    """Components of one family with all their settings; `given` is a mapping from names to settings."""
    if not isinstance(given, dict):
        raise UserError(f"{path}: {field}: expected such as {EXAMPLES[kind]}, found {shown(given)}")
    found = {}
    for name, settings in given.items():
        if not isinstance(settings, dict | None):
            raise UserError(f"{path}: {field}.{name}: expected settings, found {shown(settings)}")
        found[name] = component(kind, {**(settings or {}), "name": name}, path, f"{field}.{name}")
    return {name: {key: value for key, value in node.items() if key != "name"} for name, node in found.items()}


def _protocol(given: Any, path: Path) -> Node:
    """A protocol's settings, validated, in whole epochs."""
    if not isinstance(given, dict):
        raise UserError(f"{path}: protocol: required, such as `protocol: cifar-200ep`, or its settings")
    if isinstance(optimizer := given.get("optimizer"), str):
        given = {**given, "optimizer": {"name": optimizer}}
    protocol: Protocol = validated(Protocol, _in(path, with_whole_epochs, given, field=""), path, "protocol")
    node: Node = protocol.model_dump(mode="json")
    return {**node, "augmentation": _augmentation(protocol.augmentation, path, "protocol.augmentation")}


def _augmentation(given: Augmentation, path: Path, field: str) -> Node:
    """An augmentation's settings, with all those of what it names."""
    node: Node = given.model_dump(mode="json")
    return {**node, "then": _several("augment", given.then, path, f"{field}.then")} if given.then else node


def _views(given: Any, method: type[Any], side: int | None, path: Path) -> Node:
    """The augmentations of single streams of a method, each a whole one, with all their settings.

    Crops that do not say it are brought to the `side` of the protocol's images; null takes a view back.
    """
    if not isinstance(given, dict):
        raise UserError(f"{path}: views: expected such as {{key: {{kind: resized-crop}}}}, found {shown(given)}")
    for complaint in of_no_stream(given, method):
        raise UserError(f"{path}: {complaint}")
    kept = {name: view for name, view in given.items() if view is not None}
    return {name: _view(view, side, path, f"views.{name}") for name, view in kept.items()}


def _view(given: Any, side: int | None, path: Path, field: str) -> Node:
    cropped = isinstance(given, dict) and given.get("kind") == "resized-crop"
    sized = {"size": side, **given} if cropped and side else given
    return _augmentation(validated(Augmentation, sized, path, field), path, field)


def _data(given: Node, path: Path) -> Node:
    """The split's settings, validated, with those of its card."""
    spec: DataSpec = validated(DataSpec, given, path, "data")
    card = _in(path, load_card, spec.name, field="data.name")
    resolved: DataSpec = _in(path, spec.resolve, card, field="")
    return resolved.model_dump(mode="json")


def _check_names(data: Node, path: Path) -> None:
    """Raise UserError for a name that no component has."""
    for field, kind, given in _named(data):
        name, where = (given.get("name"), f"{field}.name") if isinstance(given, dict) else (given, field)
        if isinstance(name, str):
            _in(path, check_name, kind, named(name)["name"], field=where)


def _named(data: Node) -> Iterator[tuple[str, str, Any]]:
    """Field, kind and content of every place in a merged recipe that may name a component."""
    model, second, phases = (data.get(key) for key in ("model", "second_stage", "phases"))
    yield from ((kind, kind, data.get(kind)) for kind in DEFAULTS)
    if isinstance(model, dict):
        yield from ((f"model.{kind}", kind, model.get(kind)) for kind in NETWORK)
    for kind in EXAMPLES:
        several = data.get(kind)
        yield from ((f"{kind}.{name}", kind, name) for name in (several if isinstance(several, dict) else ()))
    yield "second_stage", "stage", second
    parts = [(f"phases[{index}]", phase) for index, phase in enumerate(phases if isinstance(phases, list) else [])]
    for where, part in [*parts, ("second_stage", second)]:
        if isinstance(part, dict):
            yield from ((f"{where}.{kind}", kind, part.get(kind)) for kind in PHASE_FAMILIES)


def _expand_phases(phases: Any, top: Mapping[str, Node], epochs: int, path: Path) -> list[Node]:
    """Phases with whole epochs and complete components; each phase changes the recipe's top level."""
    if not isinstance(phases, list) or not phases or not all(isinstance(phase, dict) for phase in phases):
        raise UserError(f"{path}: phases: expected a list of mappings with `until`, found {shown(phases)}")
    plain = {kind: _as_given(kind, top[kind]) for kind in PHASE_FAMILIES}
    expanded: list[Node] = []
    for index, phase in enumerate(phases):
        field = f"phases[{index}]"
        for key in phase:
            if key not in ("until", *PHASE_FAMILIES):
                raise UserError(f"{path}: {field}: {unknown('field', str(key), ('until', *PHASE_FAMILIES))}")
        changed = merge(plain, {k: v for k, v in phase.items() if k != "until"})
        expanded.append({kind: component(kind, given, path, f"{field}.{kind}") for kind, given in changed.items()})
    ends = phase_ends([phase.get("until") for phase in phases], epochs, f"{path}: phases")
    return [{"until": end, **parts} for end, parts in zip(ends, expanded, strict=True)]


def _as_given(kind: str, node: Node) -> Node:
    """A complete component as a recipe would say it."""
    return {"name": node["name"], **settings_of(kind, node)}


def _second_stage(given: Any, last_phase: Node, path: Path) -> Node:
    """The stage apart from what it trains with, each with all its settings; `given` is a name or a mapping."""
    settings = {"name": given} if isinstance(given, str) else given
    if not isinstance(settings, dict) or "name" not in settings:
        raise UserError(f"{path}: second_stage: expected a name or a mapping with a name, found {shown(given)}")
    own = {key: value for key, value in settings.items() if key not in PHASE_FAMILIES}
    node = {"stage": component("stage", own, path, "second_stage")}
    stage = lookup("stage", own["name"])
    defaults = stage.defaults | {kind: _as_given(kind, last_phase[kind]) for kind in stage.goes_on_with}
    for kind in PHASE_FAMILIES:
        node[kind] = component(kind, merge({kind: defaults[kind]}, settings)[kind], path, f"second_stage.{kind}")
    return node


def _plugin_digests(recipe: Recipe) -> dict[str, str]:
    model = recipe.model
    parts = [("method", recipe.method["name"]), ("head", model.head["name"])]
    parts.append(("backbone", named(model.backbone)["name"]))
    parts += [(kind, node["name"]) for kind, node in (("tuner", model.tuner), ("start", model.start)) if node]
    if recipe.second_stage is not None:
        parts.append(("stage", recipe.second_stage.stage["name"]))
    seen = [recipe.protocol.augmentation, *recipe.views.values()]
    parts += [("augment", name) for name in [*recipe.augment, *(name for one in seen for name in one.then)]]
    parts += [("regularise", name) for name in recipe.regularise]
    parts += [(kind, getattr(part, kind)["name"]) for part in recipe.compositions for kind in PHASE_FAMILIES]
    digests = {f"{kind}/{name}": plugin_digest(lookup(kind, name)) for kind, name in parts}
    return {key: digest for key, digest in sorted(digests.items()) if digest}


def _in(path: Path, call: Any, *arguments: Any, field: str = "data") -> Any:
    """Call, prefixing a UserError with the recipe's file and field."""
    try:
        return call(*arguments)
    except UserError as error:
        raise UserError(f"{path}: {field}: {error}" if field else f"{path}: {error}") from None
