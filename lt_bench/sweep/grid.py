"""Several values of a setting, each with each of the others: `--grid KEY=V1,V2`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lt_bench.errors import UserError, shown
from lt_bench.recipe.overrides import parse_override
from lt_bench.yaml_files import parse_yaml, pieces

Point = tuple[str, ...]
"""One value of each key, as overrides `key=value`."""


def points(grid: Sequence[str], overrides: Sequence[str] = ()) -> list[Point]:
    """Every combination, the last key varying fastest; without a grid the one point that changes nothing.

    Values are what YAML has between the brackets of a list: `loss.max_margin=0.3,0.5`, `mix=cutmix,{name: mixup}`.
    Raises UserError for a key without values, with one of them twice, or that is given in another place too.
    """
    axes: dict[str, list[str]] = {}
    given = {parse_override(text)[0] for text in overrides}
    for text in grid:
        key, values = _axis(text)
        if key in axes or key in given:
            raise UserError(f"--grid {key}: is given {'twice' if key in axes else 'as an override too'}")
        axes[key] = values
    return list(itertools.product(*([f"{key}={value}" for value in values] for key, values in axes.items())))


def _axis(text: str) -> tuple[str, list[str]]:
    """Key and values, each as it was written."""
    key, equals, listed = (part.strip() for part in text.partition("="))
    if not equals or not key or not listed:
        raise UserError(f"--grid {shown(text)}: expected KEY=V1,V2")
    values = pieces(listed, f"--grid {key}")
    read = [parse_yaml(value, f"--grid {key}") for value in values]
    twice = next((value for place, value in enumerate(values) if read[place] in read[:place]), None)
    if twice is not None:
        raise UserError(f"--grid {key}: has {twice} twice")
    return key, values
