"""A resolved recipe as YAML that `run` takes back, with where each value came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lt_bench.errors import UserError
from lt_bench.files import in_words, write_atomically
from lt_bench.recipe.files import Node, display_path, is_resolved, locate
from lt_bench.recipe.layers import Layer, merge
from lt_bench.recipe.loading import load_recipe, recipe_layers
from lt_bench.recipe.overrides import apply_override, parse_override
from lt_bench.recipe.schema import PHASE_FAMILIES, Recipe
from lt_bench.validation import validated
from lt_bench.yaml_files import parse_yaml

Keys = tuple[str | int, ...]
"""Where a value stands in a resolved recipe."""
DEFAULT = "default"
RECORD = "from: record"
CARD = "card of the data set"
OF_THE_CARD = (("data", "factor"), ("data", "profile"), ("data", "n_max"))
WORDS = (("pictures", "folder"), ("teacher", "weights"))
"""What a word in place of a mapping stands for, beside the name of a component."""
SOURCED = ("protocol", "data", "augment", "views", "regularise", "model", "method", "phases", "second_stage")
"""What a recipe says; the rest of a resolved one is about it."""


def show(name: str, overrides: Sequence[str] = ()) -> str:
    """The recipe as YAML, a value a line with its source behind it. Raises UserError as `load_recipe` does."""
    recipe = load_recipe(name, overrides)
    return _annotated(f"{name}, recipe sha256 {recipe.sha256()}", recipe, _sources(name, overrides, recipe))


def copy(name: str, path: Path, overrides: Sequence[str] = (), *, force: bool = False) -> Recipe:
    """Write the recipe as `show` gives it, for its user to change: under the name of the file, and without the figures
    that papers reported of what it no longer has to be. Its sha256 stays until something is changed.

    Raises UserError as `load_recipe` does, for a file that is there unless `force`, and for one that cannot be written.
    """
    recipe = load_recipe(name, overrides, to_copy=True)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name the file to write, such as {path / recipe.name}.yaml")
    if path.exists() and not force:
        raise UserError(f"{path}: exists already; --force overwrites it")
    own: dict[str, Any] = {"reported": (), "overrides": ()}
    first = recipe.first_stage
    if first is not None:
        own["first_stage"] = first.model_copy(update={**own, "name": f"{path.stem}-first-stage"})
    mine = recipe.model_copy(update={**own, "name": path.stem})
    text = _annotated(f"A copy of {name}, recipe sha256 {recipe.sha256()}", mine, _sources(name, overrides, recipe))
    validated(Recipe, parse_yaml(text, str(path)), path)  # the name of the file may be none of a recipe
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {in_words(error)}") from None
    return mine


@dataclass(frozen=True)
class Said(Layer):
    """A layer, with what all layers up to it say together."""

    after: Node


def _sources(name: str, overrides: Sequence[str], recipe: Recipe) -> list[Said]:
    """All that said something of the recipe, in the order in which later words go over earlier ones."""
    origin = locate(name)
    if is_resolved(origin):
        found = [Layer(display_path(origin.method), recipe.resolved())]
    else:
        found = recipe_layers(origin, dict(map(parse_override, overrides)))
    said, after = [], Node()
    for layer in found:
        after = merge(after, layer.data)
        said.append(Said(layer.source, layer.data, after))
    for text in (text for text in overrides if text != _protocol_by_name(text)):
        data, after = Node(), deepcopy(after)
        for node in (data, after):
            apply_override(node, *parse_override(text))
        said.append(Said(f"override {text}", data, after))
    return said


def show_recorded(recipe: Recipe, title: str) -> str:
    """The recipe of a record as YAML: all its values are the record's."""
    resolved = recipe.resolved()
    return _annotated(f"{title}, recipe sha256 {recipe.sha256()}", recipe, [Said(RECORD, resolved, resolved)])


def _annotated(head: str, recipe: Recipe, layers: Sequence[Said]) -> str:
    rows = [(text, keys and source(keys, layers)) for text, keys in _lines(recipe.resolved(), ())]
    width = min(80, max(len(text) for text, _ in rows))
    said = [f"{text:{width}}  # {source}" if source else text for text, source in rows]
    return "\n".join([f"# {head}", *said]) + "\n"


def source(keys: Keys, layers: Sequence[Said]) -> str:
    """Where the value at `keys` of a resolved recipe was said last: a file, a row of its table, an override."""
    places = _spellings(keys)
    spoken = {place: last for place in places if (last := _last_word(place, layers))}
    # A phase's own words go over those of the recipe's top level.
    return next((spoken[place] for place in places if place in spoken), CARD if keys in OF_THE_CARD else DEFAULT)


def _last_word(place: Keys, layers: Sequence[Said]) -> str:
    """Which layer said a place last and was not undone by a later one, which names another component; empty if none."""
    found = ""
    for layer in layers:
        if _says(layer.data, place):
            found = layer.source
        elif not _says(layer.after, place):
            found = ""
    return found


def _spellings(keys: Keys) -> list[Keys]:
    """How a recipe may write a place of the resolved recipe, from the most to the least particular."""
    if keys[0] == "phases" and len(keys) > 2 and keys[2] in PHASE_FAMILIES:
        return [keys, keys[2:]]
    if keys[:2] == ("second_stage", "stage"):
        return [("second_stage", *keys[2:]), keys]
    return [keys]


def _says(node: Any, keys: Keys) -> bool:
    """Whether plain data says something at a place; a word may stand for a mapping, see WORDS."""
    if not keys:
        return True
    if isinstance(node, list):
        return isinstance(keys[0], int) and keys[0] < len(node) and _says(node[keys[0]], keys[1:])
    if not isinstance(node, dict):
        return keys == ("name",)
    if keys in WORDS and isinstance(node.get(keys[0]), str):
        return True
    return keys[0] in node and _says(node[keys[0]], keys[1:])


def _protocol_by_name(override: str) -> str | None:
    """The override itself where it names a protocol, whose settings are a layer of their own."""
    key, value = parse_override(override)
    return override if key == "protocol" and isinstance(value, str) else None


def _lines(node: Any, keys: Keys, indent: str = "") -> Iterator[tuple[str, Keys]]:
    """Lines of YAML, each with the place of the value on it, empty where it has none of its own."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        head = f"{indent}{key}:" if isinstance(node, dict) else f"{indent}-"
        if value and (isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict))):
            yield head, ()
            yield from _lines(value, (*keys, key), f"{indent}  ")
        else:
            place = (*keys, key)
            yield f"{head} {_flow(value)}", place if place[0] in SOURCED else ()


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
