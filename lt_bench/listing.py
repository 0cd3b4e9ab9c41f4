"""What a recipe may name, as rows for a table or for machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lt_bench.data.cards import card_names, load_card, own_names
from lt_bench.epochs import with_whole_epochs
from lt_bench.errors import UserError, unknown
from lt_bench.protocol import Protocol
from lt_bench.recipe import PHASE_FAMILIES
from lt_bench.recipe.files import PROTOCOLS, SETTINGS, headline, own_protocols, own_settings, shipped
from lt_bench.recipe.layers import FIELDS, PARTS, protocol_layer
from lt_bench.registry import FAMILIES, NETWORK, Component, members
from lt_bench.validation import validated
from lt_bench.yaml_files import read_yaml

Members = Mapping[str, Mapping[str, type[Any]]]
"""Components by name, by the kind of their family."""

PLURALS = {
    **{"augment": "augmentations", "regularise": "regularisers"},
    **{"mix": "mixes", "loss": "losses", "method": "procedures"},
}
KINDS = {PLURALS.get(kind, f"{kind}s"): kind for kind in FAMILIES}
"""Lists of one family, by the word that asks for them."""


def listing(what: str) -> list[dict[str, Any]]:
    """Rows for one of the words in KINDS or OTHERS; `methods` are all families but those of the network."""
    if what in FILES:
        return FILES[what]()
    if what == "models":
        return listing("backbones") + listing("heads")
    if what == "methods":
        every = all_members()
        return [_method(kind, part, every) for kind in FAMILIES if kind not in NETWORK for part in _sorted(every[kind])]
    if what not in KINDS:
        raise UserError(unknown("list", what, (*KINDS, *OTHERS)))
    return [_component(part) for part in _sorted(members(KINDS[what]))]


def all_members() -> Members:
    """Every component that a recipe may name, plug-ins included."""
    return {kind: members(kind) for kind in FAMILIES}


def combines_with(kind: str, component: type[Component], every: Members) -> str:
    """What a component can stand beside in a recipe, two by two, as the classes themselves say it."""
    whole, some, own = [], [], []
    for other in FAMILIES:
        verdicts = {name: fits(kind, component, other, part) for name, part in sorted(every[other].items())}
        if other == kind or not verdicts or None in verdicts.values():
            continue
        if all(verdicts.values()):
            whole.append(other)
        elif any(verdicts.values()):
            some.append(_some_of(other, verdicts))
        elif other in PHASE_FAMILIES:
            own.append(other)
        else:
            some.append(f"no {other}")
    phrases = [f"any {', '.join(whole)}"] * bool(whole) + some + [f"own {', '.join(own)}"] * bool(own)
    return "; ".join(phrases)


def fits(kind: str, component: type[Any], other_kind: str, other: type[Any]) -> bool | None:
    """Whether a recipe may name both; None where their classes say nothing about each other.

    The facts are those that a recipe is checked against: `uses` of methods, `heads` of methods and stages, and what
    losses and some mixes need and heads give, cosines or features.
    """
    both = {kind, other_kind}
    if both & {"augment", "tuner", "start"}:
        # Images are varied before anything else sees them: not worth a word each. Of tuners only a recipe knows.
        return (kind == "augment" and not both & {"tuner", "start"}) or None
    if "regularise" in both:
        # Of a backbone it needs a place, which only the built network shows.
        return (kind == "regularise" and other_kind != "backbone") or None
    if kind in PHASE_FAMILIES and other_kind in PHASE_FAMILIES:
        return True  # Samplers, mixes and losses compose freely.
    for one, two, family in ((component, other, other_kind), (other, component, kind)):
        if family in PHASE_FAMILIES and hasattr(one, "uses"):
            return family in one.uses and (not _chooses_heads(two) or bool(_heads(one) & _heads(two)))
    if "head" in (kind, other_kind):
        head, part = (component, other) if kind == "head" else (other, component)
        return head.name in _heads(part) if _chooses_heads(part) else None
    return bool(_heads(component) & _heads(other)) if hasattr(component, "heads") and hasattr(other, "heads") else None


def _chooses_heads(component: type[Any]) -> bool:
    """Whether the class says which heads it can train."""
    return any(hasattr(component, name) for name in ("heads", "takes_cosines")) or _of_one_branch(component)


def _of_one_branch(component: type[Any]) -> bool:
    return getattr(component, "one_branch", False)


def _heads(component: type[Any]) -> set[str]:
    """The heads that a method, a stage, a loss or a mix can train."""
    if getattr(component, "heads", None) is not None:
        return set(component.heads)
    # Losses are for methods that name no head, which leave these alone.
    every: Mapping[str, type[Any]] = members("head")
    heads = {name: head for name, head in every.items() if not head.has_training_layers}
    if hasattr(component, "takes_cosines"):
        return {
            name
            for name, head in heads.items()
            if head.gives_cosines == component.takes_cosines and (head.gives_features or not component.takes_features)
        }
    return {name for name, head in heads.items() if head.gives_features or not _of_one_branch(component)}


def _some_of(kind: str, verdicts: Mapping[str, bool | None]) -> str:
    """Which of a family fit, in the fewest words."""
    fitting = [name for name, verdict in verdicts.items() if verdict]
    failing = [name for name, verdict in verdicts.items() if not verdict]
    if 2 * len(failing) <= len(fitting):
        return f"any {kind} but {_either(failing)}"
    return f"{kind} {_either(fitting)}"


def _either(names: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _sorted(family: Mapping[str, type[Any]]) -> list[type[Any]]:
    return [component for _, component in sorted(family.items())]


def _method(kind: str, component: type[Any], every: Members) -> dict[str, Any]:
    info, partners = component.info, combines_with(kind, component, every)
    row = {"name": component.name, "kind": kind, "paper": info.paper, "year": info.year}
    return {**row, "combines_with": partners, "cost": info.cost}


def _component(component: type[Any]) -> dict[str, Any]:
    info, settings = component.info, ", ".join(component.Config.model_fields)
    row = {"name": component.name, "summary": info.summary, "settings": settings}
    return {**row, "paper": info.paper, "cost": info.cost}


def _recipes() -> dict[str, Path]:
    """The shipped methods, and the recipe files of one's own in the working folder."""
    return shipped() | {str(path): path for path in sorted(Path().glob("*.yaml")) if _is_recipe(path)}


def _is_recipe(path: Path) -> bool:
    try:
        fields = set(read_yaml(path))
    except UserError:
        return False
    return fields <= {*FIELDS} and not fields.isdisjoint(("extends", *PARTS))


def _dataset(name: str) -> dict[str, Any]:
    card = load_card(name)
    return {"name": name, "title": card.title, "classes": card.classes, "licence": card.licence}


def _setting(name: str, path: Path) -> dict[str, Any]:
    node = read_yaml(path)
    data, model = (_fields(node.get(block)) for block in ("data", "model"))
    row = {"name": name, "dataset": data.get("name"), "factor": data.get("factor"), "protocol": node.get("protocol")}
    return {**row, "backbone": model.get("backbone"), "what": headline(path)}


def _fields(block: Any) -> Mapping[str, Any]:
    """A block of a file that nobody has validated."""
    return block if isinstance(block, dict) else {}


def _protocol(name: str, path: Path) -> dict[str, Any]:
    node = protocol_layer(name, path).data["protocol"]
    protocol = validated(Protocol, with_whole_epochs(node), path, "protocol")
    return {"name": name, "epochs": protocol.epochs, "batch_size": protocol.batch_size, "what": headline(path)}


FILES: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "datasets": lambda: [_dataset(name) for name in (*card_names(), *own_names())],
    "recipes": lambda: [{"name": name, "what": headline(path)} for name, path in _recipes().items()],
    "settings": lambda: [_setting(name, path) for name, path in (shipped(SETTINGS) | own_settings()).items()],
    "protocols": lambda: [_protocol(name, path) for name, path in (own_protocols() | shipped(PROTOCOLS)).items()],
}
"""Lists of what lies in files: what ships, and what is one's own in the working folder."""
OTHERS = ("methods", "models", *FILES)
