"""Fuzzed recipes and overrides through `validate`: a valid recipe with one identity, or one line."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutations
from harness import Trial, Verdict
from processes import here, judged

LIMIT_S = 20
SHOWN = 80
"""Characters of each argument that a fault shows."""


def part(trial: Trial) -> Iterator[Verdict]:
    for name in mutations.names():  # read here, so that no child has to
        mutations.resolved(name)
    yield from judged(trial.cases, lambda case, _: _judge(trial, case), trial.scratch, LIMIT_S)


def _judge(trial: Trial, case: int) -> Verdict:
    arguments = draw(trial, case)
    done = here("validate", "--", *arguments)
    fault = done.fault or ("" if done.code else _inconsistent(arguments))
    how = " ".join(shlex.quote(text if len(text) <= SHOWN else f"{text[:SHOWN]}…") for text in arguments)
    return Verdict(case, "recipe", refused=done.code == 2, fault=fault, how=how)


def draw(trial: Trial, case: int) -> list[str]:
    """The arguments of `validate`: a recipe, shipped or in a file beside it, and overrides."""
    rng = trial.rng(case)
    if rng.random() < 0.5:
        return [mutations.name(rng), *(mutations.override(rng) for _ in range(rng.choice((1, 1, 2, 3))))]
    text, complete = mutations.file(rng)
    path = Path(trial.scratch, f"case{case}.yaml")
    path.write_bytes(text.encode(errors="surrogatepass"))
    name = str(path) if complete else f"{rng.choice(('digits-lt', 'cifar100-lt', 'imagenet-lt'))}/{path.stem}"
    return [name, *(mutations.override(rng) for _ in range(rng.choice((0, 0, 0, 1))))]


def _inconsistent(arguments: list[str]) -> str:
    """What is wrong with a recipe that was accepted."""
    from lt_bench.recipe import Recipe, load_recipe
    from lt_bench.recipe.overrides import split_arguments

    names, overrides = split_arguments(arguments)
    for name in names:
        recipe = load_recipe(name, overrides)
        plain = recipe.resolved()
        if load_recipe(name, overrides).sha256() != recipe.sha256():
            return "has another sha256 at each load"
        if Recipe.read(json.loads(json.dumps(plain))).sha256() != recipe.sha256():
            return "has another sha256 once it was written to a record"
        if (place := _not_finite(plain)) is not None:
            return f"accepted with {place} not finite"
        recipe.phase_choices()
    return ""


def _not_finite(tree: Any, place: str = "") -> str | None:
    """The place of a number that is none."""
    if isinstance(tree, float) and not math.isfinite(tree):
        return place
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return next((found for key, value in items if (found := _not_finite(value, f"{place}.{key}"))), None)
