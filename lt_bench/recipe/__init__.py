"""What a run is: this method, on that setting, with these overrides.

The way of a recipe: `files` finds the YAML behind a name, `layers` says what each file contributes, `overrides` changes
that as a command line asks, `resolve` completes and validates the result once, `rules` refuses parts that do not fit,
and `schema` is what comes out: a `Recipe` that depends on no file any more and identifies a run. `loading` is the order
of all that. The names below are imported on first use: where files lie is known without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lt_bench.lazy import lazily

if TYPE_CHECKING:
    from lt_bench.recipe.layers import DEFAULTS
    from lt_bench.recipe.loading import data_spec, load_recipe
    from lt_bench.recipe.schema import PHASE_FAMILIES, Recipe, Reported

__all__ = ["DEFAULTS", "PHASE_FAMILIES", "Recipe", "Reported", "data_spec", "load_recipe"]

__getattr__ = lazily(
    __name__,
    {
        "DEFAULTS": "layers",
        "PHASE_FAMILIES": "schema",
        "Recipe": "schema",
        "Reported": "schema",
        "data_spec": "loading",
        "load_recipe": "loading",
    },
)
