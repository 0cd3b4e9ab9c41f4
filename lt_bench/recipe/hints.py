"""What somebody may have meant by a setting that stands at the wrong place, such as `epochs=2`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lt_bench.data.spec import DataSpec
from lt_bench.errors import nearest
from lt_bench.protocol import Protocol
from lt_bench.recipe.files import Node
from lt_bench.recipe.layers import FIELDS
from lt_bench.recipe.schema import ModelSettings
from lt_bench.registry import members
from lt_bench.settings import Settings
from lt_bench.validation import ending, paths

BLOCKS: dict[str, type[Settings]] = {"protocol": Protocol, "data": DataSpec, "model": ModelSettings}
"""What is in every recipe, whatever its components."""
SHARED = ("warmup_epochs", "momentum", "mean", "scale")
"""Settings in it whose names components have too, beside second stages: all others take no import of components."""


def meant(key: str, recipe: Node) -> list[str]:
    """The full names in a recipe's plain data that end with this word, or with the one nearest to it.

    `lr` is `protocol.optimizer.lr`, and where there is a second stage `second_stage.lr` first.
    """
    known = [*FIELDS, *(path for field, block in BLOCKS.items() for path in paths(block, field))]
    found = ending(key, known)
    if found and key not in SHARED and "second_stage" not in recipe:
        return found
    known = [*_own_settings(recipe), *known]
    found = ending(key, known)
    if found:
        return found
    return [name for word in nearest(key, {name.rpartition(".")[2] for name in known}) for name in ending(word, known)]


def _own_settings(recipe: Node) -> Iterator[str]:
    """The full names of the settings of all components that a recipe names."""
    for field, kind, given in _components(recipe):
        name = given.get("name") if isinstance(given, Mapping) else given
        if isinstance(name, str) and (component := members(kind).get(name)):
            yield from paths(component.Config, field)


def _components(recipe: Node) -> Iterator[tuple[str, str, Any]]:
    """Field and family of all that a recipe may name, with what it says there."""
    for kind in ("sampler", "mix", "loss", "method"):
        yield kind, kind, recipe.get(kind)
    model = recipe.get("model")
    yield "model.head", "head", model.get("head") if isinstance(model, Mapping) else None
    yield "second_stage", "stage", recipe.get("second_stage")
