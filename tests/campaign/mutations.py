"""Recipes as they should not be: shipped ones with something dropped, renamed, swapped, replaced or misspelt."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

Path_ = tuple[Any, ...]

NUMBERS = ("0", "-1", "1", "7", "0.5", "-5", "1e-300", "1e308", "1e400", "-1e38", ".inf", "-.inf", ".nan", "NaN")
LONG_NUMBERS = ("1" * 400, "-" + "9" * 5000, "1" * 30 + ".5", "9" * 400 + "%", "9" * 20, "0x" + "f" * 300, "1_000")
TEXTS = ("''", "' '", '"a\\nb"', '"\\0"', '"\\u2028"', "=cmd|x", "../../etc/passwd", "~nobody", "é", "a" * 300, "'" * 2)
WORDS = ("true", "null", "~", "yes", "none", "100%", "101%", "-5%", "50 %", "1:30", "2026-01-01", "<<", "*x", "&x 1")
SHAPES = ("[]", "{}", "[[]]", "{name: {}}", "[1, 2", "[null]", "{1: 2}", "{null: 1}", "[" * 2000, "{a: " * 200)
TAGS = (
    *("!!bool maybe", "!!int ''", "!!float x", "!!map [a]", "!!seq {a: 1}", "!!set {a}", "!!binary '*'", "!!null x"),
    *("!!timestamp x", "!!omap [a]", "!!pairs [a]", "!!str [a]", "!!python/object/apply:os.system [true]", "!x y", "!"),
)
VALUES = (*NUMBERS, *LONG_NUMBERS, *TEXTS, *WORDS, *SHAPES, *TAGS)
"""YAML text of every kind that a person, a program or an attacker may put where something else belongs."""


@cache
def method_files() -> list[Any]:
    """The content of every shipped method file. The one place that knows where files of recipes lie."""
    from lt_bench.recipe.files import shipped
    from lt_bench.yaml_files import read_yaml

    return [read_yaml(path) for path in shipped().values()]


@cache
def names() -> list[str]:
    """All shipped methods on all shipped settings, whether or not they fit."""
    from lt_bench.recipe.files import shipped_recipes

    return shipped_recipes()


@cache
def resolved(name: str) -> Any:
    """A shipped method on a shipped setting; None where they do not fit."""
    from lt_bench.errors import UserError
    from lt_bench.recipe import load_recipe

    try:
        return load_recipe(name).resolved()
    except UserError:
        return None


def name(rng: random.Random) -> str:
    """A shipped method on a shipped setting that it fits."""
    while resolved(drawn := rng.choice(names())) is None:
        pass
    return drawn


def file(rng: random.Random) -> tuple[str, bool]:
    """The text of a recipe file with one to three things wrong, and whether it is complete or needs a setting."""
    kind = rng.choice(("method", "complete", "resolved"))
    data = copy.deepcopy(rng.choice(method_files()) if kind != "resolved" else resolved(name(rng)))
    if kind == "complete":
        place = resolved(name(rng))
        own = {"protocol": place["protocol"], "data": place["data"], "model": {"backbone": place["model"]["backbone"]}}
        data = copy.deepcopy(own) | data
    blanks: list[str] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice((_drop, _rename, _replace, _replace, _replace, _swap, _nest, _add))(rng, data, blanks)
    text = yaml.safe_dump(data, sort_keys=False)
    for number, value in enumerate(blanks):
        text = text.replace(f"BLANK{number}BLANK", value)
    return _misspelt(rng, text) if rng.random() < 0.2 else text, kind != "method"


def override(rng: random.Random) -> str:
    """One `key=value`, the key mostly that of a field."""
    tree = resolved(name(rng))
    key = ".".join(str(part) for part in rng.choice(list(_places(tree))))
    if rng.random() < 0.2:
        key = rng.choice((key[:-1], f"{key}.x", f".{key}", key.upper(), key.replace(".", ".."), "", "a" * 300, "é"))
    if rng.random() < 0.5:
        return f"{key}={_plausible(rng, tree, key)}"
    return f"{key}{rng.choice(('=', '=', '=', '==', ' = ', ''))}{rng.choice(VALUES)}"


def _plausible(rng: random.Random, tree: Any, key: str) -> str:
    """A value of the right kind: what another recipe or another field has, a number near, the name of a component."""
    from lt_bench.listing import all_members

    others = [resolved(name(rng)), tree, tree]
    same = [_at(other, path) for other in others for path in _places(other) if ".".join(map(str, path)) == key]
    members = [name for family in all_members().values() for name in family]
    value = rng.choice((*same, rng.choice(members), _at(tree, rng.choice(list(_places(tree))))))
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = rng.choice((value, value + 1, -value, value * 2, value * 10, value / 3, value * 10**9, 0))
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).splitlines()[0]


def _places(tree: Any, above: Path_ = ()) -> Iterator[Path_]:
    """Paths of everything inside a tree of mappings and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from _places(value, (*above, key))


def _at(tree: Any, path: Path_) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _pick(rng: random.Random, data: Any) -> tuple[Any, Any]:
    """Something in the tree: what holds it, and its key there."""
    *above, key = rng.choice(list(_places(data)) or [("mix",)])
    return _at(data, tuple(above)), key


def _drop(rng: random.Random, data: Any, _: list[str]) -> None:
    holder, key = _pick(rng, data)
    if isinstance(holder, list) or key in holder:
        del holder[key]


def _rename(rng: random.Random, data: Any, _: list[str]) -> None:
    holder, key = _pick(rng, data)
    if isinstance(holder, dict) and key in holder:
        holder[rng.choice((f"{key}s", str(key)[:-1], str(key).upper(), 3, None, True, ""))] = holder.pop(key)


def _replace(rng: random.Random, data: Any, blanks: list[str]) -> None:
    """Another number, or another text altogether, put in once the tree is written: it may be no YAML at all."""
    holder, key = _pick(rng, data)
    old = holder[key] if isinstance(holder, list) or key in holder else None
    if isinstance(old, int | float) and rng.random() < 0.5:
        holder[key] = rng.choice((old + 1, -old, old * 2, old * 10, old / 3, 0, old * 10**9))
        return
    holder[key] = f"BLANK{len(blanks)}BLANK"
    blanks.append(rng.choice(VALUES))


def _swap(rng: random.Random, data: Any, _: list[str]) -> None:
    """A part of another recipe in place of this one's."""
    other = rng.choice((resolved(name(rng)), rng.choice(method_files()) or {"mix": "none"}))
    holder, key = _pick(rng, data)
    holder[key] = copy.deepcopy(other.get(key) or rng.choice(list(other.values())))


def _nest(rng: random.Random, data: Any, _: list[str]) -> None:
    holder, key = _pick(rng, data)
    if isinstance(holder, list) or key in holder:
        value = holder[key]
        holder[key] = rng.choice(([value], {"name": value}, {key: value}, [value, copy.deepcopy(value)], [[[value]]]))


def _add(rng: random.Random, data: Any, blanks: list[str]) -> None:
    """A field of any recipe where it may not belong."""
    fields = [path[-1] for path in _places(resolved(name(rng))) if isinstance(path[-1], str)]
    holder, _ = _pick(rng, data)
    if isinstance(holder, dict):
        holder[rng.choice(fields)] = f"BLANK{len(blanks)}BLANK"
        blanks.append(rng.choice(VALUES))


def _misspelt(rng: random.Random, text: str) -> str:
    """The text as an editor, another system or a bad disk may leave it."""
    at = rng.randrange(len(text))
    line = rng.choice(text.splitlines() or [""])
    return rng.choice(
        (
            *(text[:at], text[:at] + rng.choice("\t\0:-#'\"[]{}&*!|>%@\u2028\ufeff\x85é") + text[at:]),
            *(text[:at] + text[at + 1 :], "\ufeff" + text, text.replace("\n", "\r\n"), text.replace("\n", "\r")),
            *(text + line + "\n", text.replace("  ", "\t"), "---\n" + text + "---\n" + text, text.upper(), ""),
        )
    )
