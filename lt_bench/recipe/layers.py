"""What each of the files behind a recipe contributes to it: layers, of which later ones go over earlier ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from lt_bench.bibliography import Papers, named
from lt_bench.data.cards import card_names, own_names
from lt_bench.data.noise import NOISES
from lt_bench.errors import UserError, is_slip, shown, unknown
from lt_bench.recipe.files import (
    OWN_SETTING,
    PROTOCOLS,
    SETTINGS,
    Node,
    Origin,
    display_path,
    locate_setting,
    own_protocols,
    path_exists,
    shipped,
    shipped_recipes,
)
from lt_bench.yaml_files import read_yaml

SETTING_FIELDS = ("protocol", "data", "model", "notes")
"""What a setting may say."""
PARTS = ("model", "sampler", "augment", "views", "regularise", "mix", "loss", "method", "phases", "second_stage")
"""What makes a method what it is."""
CONDITIONS = ("data", "factor", "noise")
"""On what a row under `on` holds; `data` it has to say."""
ROW_FIELDS = (*CONDITIONS, "protocol", *PARTS)
"""What a row under `on` may say."""
FIELDS = ("extends", "protocol", "data", *PARTS, "on", "reported", "papers", "notes")
"""What a recipe file may say."""
DEFAULTS = {"sampler": "instance", "mix": "none", "loss": "cross-entropy", "method": "standard"}
"""The components of a recipe that names no others."""
OTHER_SPLIT = ("profile", "subset_seed", "n_max")
"""What of `data` makes another split, beside its factor, which published figures tell."""
ABOUT = ("on", "reported", "papers")
"""What a file says of the recipe, and no layer of it."""


class Tried(NamedTuple):
    """What a recipe is tried on, as far as rows ask."""

    data: Any
    factor: Any
    noise: str | None
    """In words, such as `symmetric 0.4`."""


@dataclass(frozen=True)
class Layer:
    """What one source contributes to a recipe; later ones go over earlier ones."""

    source: str
    data: Node


def chain(origin: Origin) -> list[tuple[Path, Node]]:
    """The files from what is extended first to the recipe itself, each with its data.

    Raises UserError for a file that extends itself, or what cannot be extended.
    """
    files = _chain(origin.method, ())
    if origin.setting is None:
        return files
    bound = next((path for path, node in files if "data" in node), None)
    if bound is not None:
        raise UserError(f"{origin}: {bound} names a data set of its own; run the file as it is")
    return [(origin.setting, _checked(origin.setting, SETTING_FIELDS)), *files]


def _chain(path: Path, seen: tuple[Path, ...]) -> list[tuple[Path, Node]]:
    if path.resolve() in seen:
        raise UserError(f"{path}: extends itself, through {' -> '.join(p.name for p in seen)}")
    node = _checked(path, FIELDS)
    parent = node.pop("extends", None)
    if parent is None:
        return [(path, node)]
    if not isinstance(parent, str):
        raise UserError(f"{path}: extends: expected the name of a recipe or protocol, found {shown(parent)}")
    if parent.startswith(f"{PROTOCOLS}/"):
        return [(path, {"protocol": parent.removeprefix(f"{PROTOCOLS}/")}), (path, node)]
    return [*_extended(parent, path, (*seen, path.resolve())), (path, node)]


def _extended(name: str, path: Path, seen: tuple[Path, ...]) -> list[tuple[Path, Node]]:
    """The chain of what a file extends: a file beside it or in a folder above, a shipped recipe or method.

    The setting of a recipe may be the user's own, in its folder beside the file or in a folder above.
    """
    relative, folders = f"{name.removesuffix('.yaml')}.yaml", path.resolve().parents[:3]
    for folder in folders:
        file = folder / relative
        if path_exists(file) and file.resolve() != path.resolve():
            if name in shipped() and not file.samefile(shipped()[name]):
                raise UserError(
                    f"{path}: extends: {name} is a shipped method and {file} a file; {relative} is the file"
                )
            return _chain(file, seen)
    setting, slash, method = name.rpartition("/")
    places = [str(folder / setting) for folder in folders if slash and path_exists(folder / setting / OWN_SETTING)]
    places += [setting] if setting in shipped(SETTINGS) else []
    if method in shipped() and (places or not slash):
        tried_on = [locate_setting(place, f"{path}: extends: {name}") for place in places[:1]]
        return [*((place, _checked(place, SETTING_FIELDS)) for place in tried_on), *_chain(shipped()[method], seen)]
    names = [*shipped(), *shipped_recipes(), *(f"{PROTOCOLS}/{known}" for known in shipped(PROTOCOLS))]
    near = [known for known in names if known.startswith(f"{name.partition('/')[0]}/")]
    raise UserError(f"{path}: extends: {unknown('recipe or protocol', name, near or shipped())}")


def papers(files: list[tuple[Path, Node]]) -> Papers:
    """The papers that a recipe is from: those that its own file names, or else what it extends."""
    return next((named(node["papers"], path) for path, node in reversed(files) if "papers" in node), {})


@cache
def papers_of(method: str) -> Papers:
    """The papers of a shipped method; none where no such method ships."""
    path = shipped().get(method)
    return {} if path is None else papers(chain(Origin(path)))


def _checked(path: Path, fields: tuple[str, ...]) -> Node:
    """A file's data, whose top level has only such fields."""
    node = read_yaml(path)
    for key in node:
        if key not in fields:
            raise UserError(f"{path}: {unknown('field of a recipe', str(key), fields)}")
    named(node.get("papers", []), path)
    return node


def layers(files: list[tuple[Path, Node]], tried: Tried) -> list[Layer]:
    """What every file contributes to a run on this data set, factor and label noise, in order."""
    found: list[Layer] = []
    for path, node in files:
        rows = _rows(path, node.get("on", []), tried)
        plain = Layer(display_path(path), {key: value for key, value in node.items() if key not in ABOUT})
        for layer in (plain, *rows):
            found += _protocol_apart(layer, path)
    return [*found, Layer(display_path(files[-1][0]), {"reported": _figures(files, tried.data)})]


def _rows(path: Path, rows: Any, tried: Tried) -> Iterator[Layer]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: on: expected a list of rows such as {{data: cifar10-lt, ...}}, found {shown(rows)}")
    for index, row in enumerate(rows):
        for key in row:
            if key not in ROW_FIELDS:
                raise UserError(f"{path}: on[{index}]: {unknown('field', str(key), ROW_FIELDS)}")
        if "data" not in row:
            raise UserError(f"{path}: on[{index}]: data: this field is required")
        _check_condition(row, f"{path}: on[{index}]")
        if _holds(row, tried):
            change = {key: value for key, value in row.items() if key not in CONDITIONS}
            yield Layer(f"{display_path(path)}, on {_condition(row)}", change)


def _check_condition(row: Node, where: str) -> None:
    """Raise UserError for a condition that nothing fulfils. A set of one's own may be at hand elsewhere, no slip is."""
    known = [*card_names(), *own_names()]
    for name in map(str, _each(row["data"])):
        if name not in known and is_slip(name, known):
            raise UserError(f"{where}: {unknown('data set', name, known)}; one of your own has to be at hand")
    for factor in _each(row.get("factor", [])):
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor >= 1:
            raise UserError(f"{where}: factor: expected a number from 1 up, found {shown(factor)}")
    for noise in map(str, _each(row.get("noise", []))):
        if noise.partition(" ")[0] not in NOISES:
            raise UserError(f"{where}: {unknown('label noise', noise, NOISES)}")


def _holds(row: Node, tried: Tried) -> bool:
    wanted = {key: _each(row[key]) for key in CONDITIONS if key in row}
    if "noise" in wanted and (tried.noise or "").partition(" ")[0] in wanted["noise"]:
        del wanted["noise"]  # at any rate
    return all(getattr(tried, key) in values for key, values in wanted.items())


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _condition(row: Node) -> str:
    """Such as `cifar100-lt, factor 50`."""
    told = ((key, ", ".join(map(str, _each(row[key])))) for key in CONDITIONS if key in row)
    return ", ".join(values if key == "data" else f"{key} {values}" for key, values in told)


def _protocol_apart(layer: Layer, path: Path) -> Iterator[Layer]:
    """A layer that names a protocol as two: the settings of the protocol, and the rest."""
    name = layer.data.get("protocol")
    if not isinstance(name, str):
        yield layer
        return
    yield protocol_layer(name, path)
    yield Layer(layer.source, {key: value for key, value in layer.data.items() if key != "protocol"})


def protocol_layer(name: str, path: Path) -> Layer:
    """The protocol of this name: beside the recipe at `path`, in a folder above it, shipped, or in the working folder.

    Raises UserError for none, or one that is not as protocols are written.
    """
    name = name.removeprefix(f"{PROTOCOLS}/").removesuffix(".yaml")
    relative = Path(PROTOCOLS, f"{name}.yaml")
    beside = (folder / relative for folder in path.resolve().parents[:3])
    own, ours = own_protocols(), shipped(PROTOCOLS)
    found = next(filter(path_exists, beside), None) or ours.get(name) or own.get(name)
    if found is None:
        raise UserError(f"{path}: protocol: {unknown('protocol', name, own | ours)}")
    if name in own and name in ours and found.samefile(ours[name]) and not found.samefile(own[name]):
        raise UserError(f"{own[name]}: {name} is a shipped protocol; rename yours")
    node = read_yaml(found)
    if not isinstance(node.get("protocol"), dict):
        raise UserError(f"{found}: protocol: required, a mapping with name, epochs and the rest")
    if (called := node["protocol"].get("name")) != found.stem:
        raise UserError(f"{found}: protocol.name: expected that of the file, {found.stem}, found {shown(called)}")
    return Layer(display_path(found), {"protocol": node["protocol"]})


def _figures(files: list[tuple[Path, Node]], dataset: Any) -> Any:
    """The published figures of the recipe on a data set: its own file's, or those of what it extends without a change.

    A figure belongs to the method that it was published for, and to the split and network of its setting. Under another
    protocol that is the same method.
    """
    for path, node in files:
        if path.name == OWN_SETTING and not any(_alike(node, read_yaml(one)) for one in shipped(SETTINGS).values()):
            return []
    for _, node in reversed(files):
        figures = node.get("reported")
        another = any(part in node or _in_rows(part, node) for part in PARTS) or _splits_otherwise(node)
        if figures is not None or another:
            return _of_dataset(figures or [], dataset)
    return []


def _alike(setting: Node, other: Node) -> bool:
    """Whether two settings try methods by one network on one split, as far as published figures tell splits apart."""
    data, same = setting.get("data"), setting.get("model") == other.get("model")
    return (
        same and isinstance(data, dict) and data.get("name") == other["data"]["name"] and not _splits_otherwise(setting)
    )


def _splits_otherwise(node: Node) -> bool:
    """Whether a file says for itself which images of a data set are trained on."""
    return isinstance(node.get("data"), dict) and any(key in node["data"] for key in OTHER_SPLIT)


def _in_rows(part: str, node: Node) -> bool:
    return any(isinstance(row, dict) and part in row for row in node.get("on", []))


def _of_dataset(figures: Any, dataset: Any) -> Any:
    if not isinstance(figures, list) or not all(isinstance(figure, dict) for figure in figures):
        return figures  # which validation refuses
    # A complete recipe's figures need not name its data set.
    return [
        {key: value for key, value in figure.items() if key != "data"}
        for figure in figures
        if figure.get("data", dataset) == dataset
    ]


def merge(base: Node, change: Mapping[str, Any]) -> Node:
    """`change` over `base`, mapping by mapping; a component of another name replaces the old one whole."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if isinstance(old, str) and isinstance(value, dict) and value.get("name", old) == old:
            old = {"name": old}
        if isinstance(old, dict) and isinstance(value, dict) and value.get("name", old.get("name")) == old.get("name"):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged
