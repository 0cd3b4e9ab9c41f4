"""From a name and overrides to a validated recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import reduce
from pathlib import Path
from textwrap import shorten
from typing import Any

from lt_bench.corrections import superseded
from lt_bench.data.cards import load_card
from lt_bench.data.noise import given_words
from lt_bench.data.spec import DataSpec
from lt_bench.errors import UserError
from lt_bench.recipe.files import OWN_SETTING, SETTINGS, Node, Origin, is_resolved, locate, shipped
from lt_bench.recipe.layers import OTHER_SPLIT, Layer, Tried, chain, layers, merge, protocol_layer
from lt_bench.recipe.overrides import apply_override, parse_override
from lt_bench.recipe.resolve import checked, resolve
from lt_bench.recipe.schema import FirstStage, Recipe
from lt_bench.validation import validated
from lt_bench.yaml_files import read_yaml

ANOTHER_SPLIT = tuple(f"data.{key}" for key in OTHER_SPLIT)
NOISE = "data.noise"
KEEPS_METHOD = ("protocol", "data.factor", "notes", NOISE, *ANOTHER_SPLIT)
"""Overrides, those inside of `data.noise` included, that leave the method what it was: tables show protocol and split
by themselves."""


def load_recipe(name: str | Path, overrides: Sequence[str] = (), *, to_copy: bool = False) -> Recipe:
    """Read, merge, override, validate. Raises UserError in one line that names the file and the field.

    `name` is SETTING/METHOD, such as `cifar100-lt/dbn-mix`, the path of a complete recipe, or that of a resolved one as
    `lt-bench show` prints it. A file that has the name of a shipped method and is another is refused, unless `to_copy`.
    """
    origin = locate(str(name))
    if not is_resolved(origin):
        recipe = _load(origin, overrides)
    elif overrides:
        raise UserError(f"{name}: is a resolved recipe, to be run as it is; change {overrides[0]} in the file")
    else:
        recipe = recorded(read_yaml(origin.method), origin.method)
    if origin.setting is None and not to_copy:
        _check_called(recipe, origin.method)
    return recipe


def _check_called(recipe: Recipe, path: Path) -> None:
    """Raise UserError where a file of the user's own has the name of a shipped method, for which tables would take it,
    and is another.
    """
    if recipe.name not in shipped() or recipe.data.name not in shipped(SETTINGS):
        return
    # What a setting says may be another's, whose file is not known any more.
    node = recipe.resolved()
    split = {f"data.{key}": value for key, value in node["data"].items() if key != "name"}
    network = {"model.backbone": node["model"]["backbone"], "model.trunk_lr_factor": recipe.model.trunk_lr_factor}
    said = {"protocol": node["protocol"], **split, **network}
    given = [f"{key}={json.dumps(value)}" for key, value in said.items()]
    given += [text for text in recipe.overrides if not parse_override(text)[0].startswith(tuple(said))]
    ships = Origin(shipped()[recipe.name], shipped(SETTINGS)[recipe.data.name])
    try:
        same = _load(ships, given).sha256() == recipe.sha256()
    except UserError:  # what it says of protocol and data does not fit the shipped one
        same = False
    if not same:
        raise UserError(
            f"{path}: is called {recipe.name}, which is a shipped method and another; give yours a name of its own, "
            "as `lt-bench cp` does"
        )


def recorded(node: Node, path: Path) -> Recipe:
    """A resolved recipe as a record or a file holds it. Raises UserError where it cannot be run as it was."""
    if (reason := superseded(node)) is not None:
        raise UserError(f"{path}: {reason}; what it resolved to cannot be run any more")
    return checked(validated(Recipe, node, path), path)


def data_spec(card: str, settings: Sequence[str]) -> DataSpec:
    """The split that a card's name and `key=value` settings ask for, such as factor=50."""
    known = load_card(card)
    given: Node = {}
    for setting in settings:
        key, value = parse_override(setting)
        apply_override(given, key.removeprefix("data."), value)  # as an override of a recipe says it
    if "name" in given:
        raise UserError(f"{card} name={given['name']}: the name of the data set comes first, without `name=`")
    spec: DataSpec = validated(DataSpec, {"name": card, **given}, Path(card), "data")
    return spec.resolve(known)


def recipe_layers(origin: Origin, given: Mapping[str, Any]) -> list[Layer]:
    """What the files behind a name contribute under these overrides, which can choose data set, factor and protocol."""
    files = chain(origin)
    found = layers(files, _tried(files, given, origin))
    protocol = given.get("protocol")
    if isinstance(protocol, str):
        found.append(protocol_layer(protocol, origin.method))
    return found


def _load(origin: Origin, overrides: Sequence[str]) -> Recipe:
    given = dict(map(parse_override, overrides))
    with _as_asked(origin, overrides):
        files = reduce(merge, (layer.data for layer in recipe_layers(origin, given)), Node())
    data = deepcopy(files)
    for key, value in given.items():
        if key != "protocol" or not isinstance(value, str):
            apply_override(data, key, value)
    changed = tuple(text for text in overrides if not _keeps_method(parse_override(text)[0]))
    if changed or any(key in ANOTHER_SPLIT for key in given):
        # The published figures belong to the method and the split of the file.
        data.pop("reported", None)
    with _as_asked(origin, overrides):
        recipe = resolve(data, origin.method, changed)
    setting, ships = origin.setting, shipped(SETTINGS)
    if setting is not None and setting not in ships.values() and recipe.data.name in ships:
        recipe = _naming_its_network(recipe, read_yaml(setting), files["model"])
    return recipe if recipe.second_stage is None else _after_first_stage(recipe, origin, overrides)


@contextmanager
def _as_asked(origin: Origin, overrides: Sequence[str]) -> Iterator[None]:
    """Say of a refusal what was asked for: overrides, and for the file of a shipped method its name."""
    try:
        yield
    except UserError as error:
        said = f" (with {shorten(' '.join(overrides), 200, placeholder=' ...')})" if overrides else ""
        ships = origin.setting is not None and origin.method in shipped().values()
        text = f"{origin}: {str(error).removeprefix(f'{origin.method}: ')}" if ships else str(error)
        raise UserError(f"{text}{said}") from None


def _naming_its_network(recipe: Recipe, setting: Node, model: Node) -> Recipe:
    """The recipe on a setting of one's own, whose network is an override of the setting that ships for its data set:
    the methods of both stand in one table. `model` is what the files make of it, before any override.
    """
    ships = read_yaml(shipped(SETTINGS)[recipe.data.name])["model"]
    given = {parse_override(text)[0] for text in recipe.overrides}
    network = [
        f"model.{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in (setting.get("model") or {}).items()
        if value != ships.get(key) and value == model.get(key) and not given & {"model", f"model.{key}"}
    ]
    return recipe.model_copy(update={"overrides": (*network, *recipe.overrides)})


def _keeps_method(key: str) -> bool:
    return key in KEEPS_METHOD or key.startswith(f"{NOISE}.")


def _tried(files: list[tuple[Path, Node]], given: Mapping[str, Any], origin: Origin) -> Tried:
    """What rows ask about, as it will be. Validated later."""
    blocks = [node["data"] for _, node in files if "data" in node]
    if not blocks:
        method = origin.method.stem
        raise UserError(
            f"{origin}: says what a method is, not what it is tried on; run it on a setting, such as "
            f"cifar100-lt/{method}, or give the file `data`, `protocol` and `model.backbone`"
        )
    data = reduce(merge, (block for block in blocks if isinstance(block, dict)), Node())
    node = {"data": deepcopy(data)}
    for key, value in given.items():
        if key.startswith("data."):
            apply_override(node, key, value)
    data = node["data"]
    return Tried(data.get("name"), data.get("factor"), given_words(data.get("noise")))


def _after_first_stage(recipe: Recipe, origin: Origin, overrides: Sequence[str]) -> Recipe:
    """The recipe with what it has to know of its first stage. Raises UserError if that is another experiment."""
    own = [text for text in overrides if not re.match(r"second_stage\b", text.strip())]
    first = _load(_first_stage(origin), own)
    kept = {name: getattr(first, name) for name in FirstStage.model_fields}
    recipe = recipe.model_copy(update={"first_stage": FirstStage(**kept)})
    again = recipe.first()
    assert again is not None
    if again.sha256() != first.sha256():
        raise UserError(
            f"{origin.method}: second_stage: beside it the recipe changes what it extends; the first stage has to be "
            f"{first.name} itself, whose trained network is where the second starts"
        )
    return recipe


def _first_stage(origin: Origin) -> Origin:
    """What the recipe would be without its second stage: the last file on the way to it that has none."""
    files = chain(origin)
    second = next((index for index, (_, node) in enumerate(files) if "second_stage" in node), None)
    if second is None:  # It came by an override.
        return origin
    settings = (origin.setting, *shipped(SETTINGS).values())
    setting = next((path for path, _ in files if path in settings or path.name == OWN_SETTING), None)
    before = [path for path, _ in files[:second] if path not in (setting, files[second][0])]
    if not before:
        raise UserError(f"{origin.method}: second_stage: the recipe must extend that of its first stage")
    return Origin(before[-1], setting)
