"""The page of all methods, `docs/methods.md`: a pure function of the shipped components and recipes."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lt_bench
from lt_bench.data.augment import Augmentation
from lt_bench.errors import UserError
from lt_bench.files import beginning, in_words, write_atomically
from lt_bench.listing import KINDS, Members, all_members, combines_with
from lt_bench.losses import ClassWeights
from lt_bench.markdown import escape, link, table_row
from lt_bench.plugins import plugin_digest
from lt_bench.recipe import DEFAULTS, PHASE_FAMILIES, Recipe, Reported, load_recipe
from lt_bench.recipe.files import PROTOCOLS, SETTINGS, Node, shipped, shipped_recipes
from lt_bench.recipe.layers import papers_of
from lt_bench.registry import FAMILIES, NETWORK, lookup, members, named
from lt_bench.settings import Settings
from lt_bench.yaml_files import read_yaml

PAGE = "methods.md"
MARK = "<!-- Generated from the code and the recipes by `lt-bench docs` (`make docs`). Do not edit. -->\n"

INTRO = """# Methods

A method is a recipe: a short file that names components of the families below, and is run on a setting. This page has
what `lt-bench list methods` prints from the code, the recipes made of it, and the published figures that the recipes
carry. [Add one of your own](#add-one-of-your-own) says how it comes in here.
"""
RECIPES = """## Recipes

`lt-bench run SETTING/RECIPE` trains one, `lt-bench cite RECIPE` prints its papers as BibTeX: the first proposes the
method, further ones are of what it is combined with. Parts: the loss, and whatever else differs from the defaults of
a recipe (instance sampler, no mix, linear head, standard method) or, for backbone and protocol, from those of the
setting; in brackets the settings that differ from the part's own defaults. A percentage is the share of the epochs
after which a part changes; a stage follows when they are over. A name with several lines has other parts on other
settings; what does not fit a setting is not listed for it. Cost: arithmetic of a training step, before any stage,
relative to plain cross entropy on the same backbone, with all parts in their default settings.
"""
FIGURES = """## Published figures

What the recipes carry under `reported` as found at the source named here: accuracies in percent, none of them measured
by this project; its own are on the [leaderboard](../leaderboard/v1/README.md). A protocol with a link ships with this
suite, and the figure is to be compared with a run under it; the other names stand for protocols of the source. On
CIFAR-LT most papers print the best epoch on the test set, this suite the last one.
"""
COMPONENTS = """## Components

By family, in the words a recipe uses. Cost is the arithmetic of a training step relative to plain cross entropy.
Combines with goes two by two: what a recipe may name beside the component; *own* is what it brings itself, so that a
recipe must not name another.
"""
OWN = """## Add one of your own

One class in one file, and one recipe: [CONTRIBUTING.md](../CONTRIBUTING.md#add-a-method-of-your-own) has an example
that runs. `lt-bench list methods --plugin FILE` shows it beside the shipped ones; inside this repository `make docs`
writes it into this page.
"""


def write(folder: Path) -> Path:
    """Write the page into a folder and return its path.

    Raises:
        UserError: The file there was not made by this command, or it cannot be written.
    """
    path = folder / PAGE
    try:
        if beginning(path, len(MARK.encode())) not in (None, MARK.encode()):
            raise UserError(f"{path}: was not made by this command, so it is not overwritten")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, page().encode())
    except OSError as error:
        raise UserError(f"{path}: could not be written: {in_words(error)}") from None
    return path


def page() -> str:
    """The page in Markdown, with links relative to `docs/`. Plug-ins are left out."""
    blocks = [MARK, INTRO, RECIPES, _table(_recipe_rows(_fitting())), FIGURES, _table(list(_figures())), COMPONENTS]
    return "\n".join([*blocks, components(), OWN])


def components() -> str:
    """Its tables of components, family by family."""
    every = {kind: _shipped(family) for kind, family in all_members().items()}
    tables = [
        f"{_family_head(word, kind)}\n{_table([_component(kind, part, every) for part in every[kind].values()])}"
        for word, kind in KINDS.items()
    ]
    return "\n".join(tables)


# --- recipes -----------------------------------------------------------------------------------------


def _fitting() -> dict[str, Recipe]:
    """The shipped recipes on the shipped settings, by SETTING/METHOD, where their parts fit.

    Not those with wrong labels or balanced classes, on which a recipe is what it is without.
    """
    data = {setting: read_yaml(path)["data"] for setting, path in shipped(SETTINGS).items()}
    left_out = {setting for setting, spec in data.items() if "noise" in spec or spec.get("factor") == 1}
    found = {}
    for name in shipped_recipes():
        with suppress(UserError):
            if name.partition("/")[0] not in left_out:
                found[name] = load_recipe(name)
    return found


def _recipe_rows(recipes: Mapping[str, Recipe]) -> list[dict[str, str]]:
    """One row for each name and what it is made of, with all settings that give these parts."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for name, recipe in recipes.items():
        setting = name.partition("/")[0]
        parts = "; ".join([_parts(recipe), *_apart(recipe, recipes[f"{setting}/ce"])])
        grouped.setdefault((recipe.name, parts, _recipe_cost(recipe)), []).append(setting)
    return [
        {"Recipe": _linked(name, f"recipes/{name}.yaml"), "Paper": _papers(name), "Parts": parts}
        | {"On": ", ".join(settings), "Cost": cost}
        for (name, parts, cost), settings in sorted(grouped.items(), key=lambda item: item[0][0])
    ]


def _papers(method: str) -> str:
    """The papers of a shipped method, each with a link where there is one."""
    found = papers_of(method).values()
    return "; ".join(link(paper.citation, paper.link) if paper.link else escape(paper.citation) for paper in found)


def _parts(recipe: Recipe) -> str:
    """What a recipe is made of, its defaults left out."""
    free = [
        _part(kind, [(0, {"name": name, **settings})])
        for kind, nodes in {"augment": recipe.augment, "regularise": recipe.regularise}.items()
        for name, settings in nodes.items()
    ]
    others = [
        _part(kind, timeline) + (_trained_with(recipe) if kind == "stage" else "")
        for kind, timeline in _used(recipe).items()
        if kind == "loss" or not all(_is_default(kind, node) for _, node in timeline)
    ]
    views = [_view(stream, seen) for stream, seen in recipe.views.items()]
    return "; ".join([*free, *views, *others])


def _view(stream: str, seen: Augmentation) -> str:
    """What a stream with an augmentation of its own sees."""
    return f"view `{stream}` of " + ", ".join(f"`{name}`" for name in (seen.kind, *seen.steps()))


def _apart(recipe: Recipe, usual: Recipe) -> Iterator[str]:
    """The backbone and the protocol of a recipe where they are not those of its setting."""
    if recipe.model.backbone != usual.model.backbone:
        yield f"backbone `{named(recipe.model.backbone)['name']}`"
    if recipe.protocol.name != usual.protocol.name:
        yield f"protocol {_protocol(recipe.protocol.name)}"


def _trained_with(recipe: Recipe) -> str:
    """What the second stage is trained with, the defaults of a recipe left out."""
    second = recipe.resolved()["second_stage"]
    parts = [_part(kind, [(0, second[kind])]) for kind in PHASE_FAMILIES if not _is_default(kind, second[kind])]
    return f" with {', '.join(parts)}" if parts else ""


def _is_default(kind: str, node: Node) -> bool:
    name = DEFAULTS.get(kind, "linear")
    return bool(node["name"] == name and not _changed(node, _defaults(kind, name)))


def _used(recipe: Recipe) -> dict[str, list[tuple[int, Node]]]:
    """The components of each family of which there is one at a time, with the percentage at which they start."""
    resolved = recipe.resolved()
    starts = [0, *(round(100 * phase.until / recipe.protocol.epochs) for phase in recipe.phases)]
    used: dict[str, list[tuple[int, Node]]] = {}
    for kind in (kind for kind in FAMILIES if kind not in ("augment", "backbone", "regularise")):
        if kind not in PHASE_FAMILIES:
            node = {**resolved, **resolved["model"], **resolved.get("second_stage", {})}.get(kind)
            used[kind] = [(0, node)] if isinstance(node, dict) else []
        elif kind in lookup("method", recipe.method["name"]).uses:
            used[kind] = [(start, phase[kind]) for start, phase in zip(starts, resolved["phases"], strict=False)]
    return {kind: timeline for kind, timeline in used.items() if timeline}


def _part(kind: str, timeline: Sequence[tuple[int, Node]]) -> str:
    """A component with its settings, and how later phases change it."""
    text, before = "", None
    for start, settings in timeline:
        defaults = _defaults(kind, settings["name"])
        node = {**defaults, **settings}
        if before is None or node["name"] != before["name"]:
            words = _in_brackets(_changed(node, defaults))
            text += (f", from {start}% " if before else f"{kind} ") + f"`{node['name']}`{words}"
        elif node != before:
            text += f", from {start}% with {', '.join(_changed(node, before))}"
        before = node
    return text


def _changed(node: Node, before: Node) -> list[str]:
    """The settings of a component that differ, as words."""
    differing = {field: value for field, value in node.items() if field != "name" and value != before.get(field, ...)}
    return [f"{escape(field)} {_value(value)}" for field, value in differing.items()]


def _defaults(kind: str, name: str) -> Node:
    """The settings of a component that have a default, and those."""
    return _defaults_of(lookup(kind, name).Config)


def _defaults_of(config: type[Settings]) -> Node:
    dumped = config.model_construct().model_dump(mode="json")
    # A dump leaves out the settings that were added after runs had been recorded.
    return {
        field: dumped.get(field, info.default) for field, info in config.model_fields.items() if not info.is_required()
    }


def _recipe_cost(recipe: Recipe) -> str:
    return " × ".join(escape(cost) for cost in recipe_costs(recipe)) or "1x"


def recipe_costs(recipe: Recipe) -> list[str]:
    """Of the parts that have one. That of a head is in its method's; a second stage comes after all steps."""
    parts = [(kind, node["name"]) for kind, timeline in _used(recipe).items() for _, node in timeline]
    costs = [
        lookup(kind, name).info.cost for kind, name in dict.fromkeys(parts) if kind not in ("head", "backbone", "stage")
    ]
    head = recipe.head_choice()
    usual, own = head.component.info.cost, head.component(head.config).cost
    costs = [own if cost == usual else cost for cost in costs]
    costs += [lookup("regularise", name).info.cost for name in recipe.regularise]
    return [cost for cost in costs if cost != "1x"]


def _figures() -> Iterator[dict[str, str]]:
    """One row for each verified figure that a recipe's file carries, of all data sets and factors."""
    for name, path in shipped().items():
        for row in read_yaml(path).get("reported", []):
            figure = Reported.read({key: value for key, value in row.items() if key != "data"})
            if figure.verified:
                yield {
                    "Recipe": _linked(name, f"recipes/{name}.yaml"),
                    "Data set": row["data"],
                    "Factor": _number(figure.factor),
                    "Top-1": _number(figure.top1),
                    "Many": _number(figure.many),
                    "Medium": _number(figure.medium),
                    "Few": _number(figure.few),
                    "Protocol": _protocol(figure.protocol),
                    "Source": escape(figure.paper),
                }


def _protocol(name: str | None) -> str:
    """A protocol, with a link if it is a shipped one."""
    return _linked(name, f"recipes/protocols/{name}.yaml") if name in shipped(PROTOCOLS) else escape(name or "")


# --- components --------------------------------------------------------------------------------------


def _family_head(word: str, kind: str) -> str:
    """Title of a family and the first sentence of its base class."""
    family = FAMILIES[kind]
    base = getattr(importlib.import_module(family.module), family.base)
    said = (inspect.getdoc(base) or "").split("\n\n")[0].replace("\n", " ")
    key = "second_stage" if kind == "stage" else f"model.{kind}" if kind in NETWORK else kind
    source = _linked(family.base, _source(base))
    return f"### {word.capitalize()}\n\nIn a recipe `{key}`; base class {source}. {_prose(said)}\n"


def _component(kind: str, component: type[Any], every: Members) -> dict[str, str]:
    info = component.info
    settings = [f"`{field}` {_value(value)}" for field, value in _defaults(kind, component.name).items()]
    row = {
        "Name": _linked(component.name, _source(component)),
        "What it does": escape(info.summary),
        "Paper": escape(info.paper),
        "Year": "" if info.year is None else str(info.year),
        "Settings and their defaults": ", ".join(settings),
    }
    if kind not in NETWORK:
        row |= {"Cost": escape(info.cost)}
    return row | {"Combines with": escape(combines_with(kind, component, every))}


def _shipped(family: Any) -> dict[str, type[Any]]:
    return {name: component for name, component in sorted(family.items()) if plugin_digest(component) is None}


def _source(component: type[Any]) -> str:
    """The file of a class, relative to the root of the repository."""
    package = Path(lt_bench.__file__).parent
    return Path(inspect.getfile(component)).relative_to(package.parent).as_posix()


# --- Markdown ----------------------------------------------------------------------------------------


def _table(rows: Sequence[dict[str, str]]) -> str:
    """A table of the columns that have something to show."""
    if not rows:
        return "None so far.\n"
    columns = [column for column in rows[0] if any(row[column] for row in rows)]
    numbers = ("Cost", "Year", "Factor", "Top-1", "Many", "Medium", "Few")
    lines = [columns, ["--:" if column in numbers else ":--" for column in columns]]
    lines += [[row[column] for column in columns] for row in rows]
    return "".join(f"{table_row(line)}\n" for line in lines)


def _linked(text: str, file: str) -> str:
    return link(text, f"../{file}")


def _in_brackets(words: Sequence[str]) -> str:
    return f" ({', '.join(words)})" if words else ""


def _value(value: Any) -> str:
    """A setting's value as a recipe writes it; class weights or a mix in it by name, and by what is not default."""
    if isinstance(value, dict) and "name" in value:
        mixes: Mapping[str, type[Any]] = members("mix")
        config = mixes[value["name"]].Config if value["name"] in mixes else ClassWeights
        return f"`{value['name']}`" + _in_brackets(_changed(value, _defaults_of(config)))
    if isinstance(value, list):
        return f"\\[{', '.join(map(_value, value))}\\]"
    if isinstance(value, float):
        return _number(value)
    return escape(value if isinstance(value, str) else json.dumps(value))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.12g}"


def _prose(text: str) -> str:
    """Text whose backticks are meant."""
    return "".join(part if part.startswith("`") else escape(part) for part in re.split("(`[^`]+`)", text))
