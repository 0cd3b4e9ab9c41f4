"""Validation of settings with errors of one line, in the words of the file and not of the library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from lt_bench.errors import UserError, shown, unknown
from lt_bench.settings import ONE_LINE, Settings

IN_WORDS = "in_words"
"""The type of error that `in_words` makes."""


def validated(model: type[Settings], data: Any, path: Path, field: str = "") -> Any:
    """An instance of `model` made from plain data that stands at `field` of the file at `path`.

    Raises UserError for the first thing that is wrong.
    """
    try:
        return model.read(data)
    except ValidationError as error:
        raise UserError(f"{path}: {_complaint(error, model, field)}") from None


def settled(model: type[Settings], given: Any, settings: dict[str, Any], name: str) -> Any:
    """The settings of a component called `name`: those `given`, or made from keyword arguments.

    Raises UserError for a wrong name or value, ValueError where there is both.
    """
    if given is None:
        try:
            return model.read(settings)
        except ValidationError as error:
            raise UserError(_complaint(error, model, name)) from None
    if settings:
        raise ValueError(f"{name}: both a config and {', '.join(settings)}")
    return given


def validated_inside(model: type[Settings], data: Any, name: str) -> Any:
    """`validated` for the validator of a field of a larger model, which calls the settings in it by `name`.

    Raises a ValidationError that the larger model puts at the right place.
    """
    try:
        return model.read(data)
    except ValidationError as error:
        first = error.errors()[0]
        said = in_words(_message(first, model, name))
        details = InitErrorDetails(type=said, loc=first["loc"], input=first["input"])
        raise ValidationError.from_exception_data(error.title, [details]) from None


def in_words(text: str) -> PydanticCustomError:
    """An error, for a validator to raise, that says everything itself: what was found is not added."""
    return PydanticCustomError(IN_WORDS, "{text}", {"text": text})


def _complaint(error: ValidationError, model: type[BaseModel], prefix: str) -> str:
    first = error.errors()[0]
    place = _joined(prefix, _Place.of(model, first["loc"]).path)
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):  # by a name that none of several classes has
        place = _joined(place, ["name"])
    return f"{place or 'recipe'}: {_message(first, model, prefix)}"


def _message(first: ErrorDetails, model: type[BaseModel], prefix: str) -> str:
    *parents, last = first["loc"] or [""]
    if first["type"] == IN_WORDS:
        return first["msg"]
    if first["type"] == "extra_forbidden":
        owner = _Place.of(model, parents)
        place, fields = _joined(prefix, owner.path), owner.model.model_fields if owner.model else ()
        elsewhere = [path for path in ending(str(last), paths(model, prefix)) if path != _joined(place, [last])]
        which = f" ({owner.tag})" if owner.tag else ""
        return unknown(f"field of {place or 'a recipe'}{which}", str(last), fields, elsewhere)
    if first["type"] == "union_tag_invalid":
        return unknown(str(last), first["ctx"]["tag"], _Place.of(model, first["loc"]).choices)
    if first["type"] in ("missing", "union_tag_not_found"):
        return "this field is required"
    if first.get("ctx", {}).get("pattern") == ONE_LINE:
        return f"should be one line of text, found {shown(first['input'])}"
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return f"{message}, found {shown(first['input'])}"


def paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The full names of the settings of a class, and of the classes inside of it, that stand at `prefix`."""
    for name, setting in model.model_fields.items():
        path = _joined(prefix, [name])
        yield path
        inner = setting.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from paths(inner, path)
        yield from dict.fromkeys(chain.from_iterable(paths(one, path) for one in _by_name(inner).values()))


def ending(word: str, full_names: Iterable[str]) -> list[str]:
    """Those of the full names whose last word it is, the shortest way first."""
    return sorted((name for name in full_names if name.rpartition(".")[2] == word), key=lambda name: name.count("."))


def _joined(prefix: str, location: Sequence[int | str]) -> str:
    parts = [part if len(part) <= 100 else f"{part[:97]}..." for part in map(str, location)]
    return ".".join([prefix, *parts] if prefix else parts)


@dataclass(frozen=True)
class _Place:
    """Where an error is: as a file has it, and the settings class there."""

    path: Sequence[str]
    model: type[BaseModel] | None
    tag: str = ""
    """The name that says which of several classes it is."""
    choices: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    """The classes by their names, where nothing says which."""

    @classmethod
    def of(cls, model: type[BaseModel], location: Sequence[int | str]) -> _Place:
        """From a location inside `model`, in which the name of one of several classes stands behind their field."""
        place = cls((), model)
        for part in map(str, location):
            place = place._inside(part)
        return place

    def _inside(self, part: str) -> _Place:
        if part in self.choices:
            return _Place(self.path, self.choices[part], part)
        path = (*self.path, part)
        if part.isdecimal():  # A place in a list, whose class the list's own annotation names.
            return replace(self, path=path)
        found = self.model.model_fields.get(part) if self.model else None
        if found is None:
            return _Place(path, None)
        return _Place(path, _model_in(found.annotation), choices=_by_name(found.annotation))


def _by_name(annotation: Any) -> dict[str, type[BaseModel]]:
    """The settings classes of which one is chosen by its `name`, in an annotation such as `X | Y`; none in others."""
    found = [one for one in map(_model_in, get_args(annotation)) if one is not None and "name" in one.model_fields]
    return {one.model_fields["name"].default: one for one in found} if len(found) > 1 else {}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings class in an annotation such as `X`, `X | None` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
