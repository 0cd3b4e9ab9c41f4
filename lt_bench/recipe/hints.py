"""Fields that nothing has, and what somebody may have meant by them, such as `epochs=2`. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from lt_bench.data.augment import Augmentation
from lt_bench.data.spec import DataSpec
from lt_bench.errors import UserError, nearest, unknown
from lt_bench.protocol import Protocol
from lt_bench.recipe.files import Node
from lt_bench.recipe.layers import DEFAULTS, FIELDS
from lt_bench.recipe.schema import PHASE_FAMILIES, ModelSettings
from lt_bench.registry import NETWORK, named, setting_names, vocabulary
from lt_bench.settings import Settings
from lt_bench.validation import ending, paths

BLOCKS: dict[str, type[Settings]] = {"protocol": Protocol, "data": DataSpec, "model": ModelSettings}
"""What is in every recipe, whatever its components."""
SEEDS = ("seed", "seeds")


def check_fields(recipe: Node) -> None:
    """Raise UserError for the first field in a recipe's plain data that nothing has.

    It tells the full names in the recipe that end with the same word, or else with the one nearest to it: for `lr` that
    is `protocol.optimizer.lr`, and where there is a second stage `second_stage.lr` first.
    """
    parts = {field: [f"{field}.{name}" for name in names] for field, names, _ in _components(recipe)}
    known = [path for names in (*parts.values(), FIELDS, _in_blocks()) for path in names]
    _check("", recipe, FIELDS, known)
    for field, block in BLOCKS.items():
        _check(field, recipe.get(field), block.model_fields, known)
    views = recipe.get("views")
    for name, view in views.items() if isinstance(views, Mapping) else ():
        _check(f"views.{name}", view, Augmentation.model_fields, known)
    for field, names, given in _components(recipe):
        _check(field, given, names, known)


@cache
def _in_blocks() -> tuple[str, ...]:
    """The full names of all fields of `BLOCKS`."""
    return tuple(path for field, block in BLOCKS.items() for path in paths(block, field))


def _check(field: str, given: Any, names: Iterable[str], known: list[str]) -> None:
    for key in map(str, given if isinstance(given, Mapping) else ()):
        if not field and key in SEEDS:
            raise UserError(f"{key}: no part of a recipe, which every seed has; --seeds 0,1,2 says which are run")
        if key not in names:
            what = unknown(f"field of {field or 'a recipe'}", key, names, _meant(field, key, names, known))
            raise UserError(f"{field}.{key}: {what}" if field else what)


def _meant(field: str, key: str, names: Iterable[str], known: list[str]) -> list[str]:
    """Inside of the same field, anywhere, or by a word that is near, of the same field first."""
    elsewhere = ending(key, known)
    inside = [path for path in elsewhere if field and path.startswith(f"{field}.")]
    near = nearest(key, names) if field else []
    words = {name.rpartition(".")[2] for name in known}
    return inside or elsewhere or near or [name for word in nearest(key, words) for name in ending(word, known)]


def _components(recipe: Node) -> Iterator[tuple[str, tuple[str, ...], Node]]:
    """Field, names of its settings, and settings given, of every known component of a recipe, apart from phases."""
    for field, kind, given, usual in _places(recipe):
        if isinstance(given, str | Mapping):
            settings = {"name": usual, **named(given)}
            name = settings.pop("name")
            if isinstance(name, str) and name in vocabulary(kind):
                yield field, setting_names(kind, name), settings


def _places(recipe: Node) -> Iterator[tuple[str, str, Any, str]]:
    """Field, family, content and usual name of all that may name a component."""
    model, second = recipe.get("model"), recipe.get("second_stage")
    yield from ((kind, kind, recipe.get(kind, usual), usual) for kind, usual in DEFAULTS.items())
    if isinstance(model, Mapping):
        usual = {"head": "linear"}
        yield from ((f"model.{kind}", kind, model.get(kind), usual.get(kind, "")) for kind in NETWORK)
    if isinstance(second, Mapping):
        second = {key: value for key, value in second.items() if key not in PHASE_FAMILIES}
    yield "second_stage", "stage", second, ""
