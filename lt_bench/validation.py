"""Validation of settings with errors of one line, in the words of the file and not of the library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from lt_bench.errors import UserError, unknown


def validated(model: type[BaseModel], data: Any, path: Path, field: str = "") -> Any:
    """An instance of `model` made from plain data that stands at `field` of the file at `path`.

    Raises UserError for the first thing that is wrong.
    """
    try:
        return model.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise UserError(f"{path}: {_complaint(error, model, field)}") from None


def _complaint(error: ValidationError, model: type[BaseModel], prefix: str) -> str:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    where = ".".join([prefix, *location] if prefix else location) or "recipe"
    if first["type"] == "extra_forbidden":
        owner = _model_at(model, location[:-1])
        inside = ".".join([prefix, *location[:-1]] if prefix else location[:-1]) or "a recipe"
        fields = owner.model_fields if owner else ()
        return f"{where}: {unknown(f'field of {inside}', location[-1], fields)}"
    if first["type"] == "missing":
        return f"{where}: this field is required"
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return f"{where}: {message}, found {first['input']!r}"


def _model_at(model: type[BaseModel], location: Sequence[str]) -> type[BaseModel] | None:
    """The settings class that a location inside `model` belongs to."""
    current: type[BaseModel] | None = model
    for part in location:
        if part.isdecimal():  # A place in a list, whose class the list's own annotation names.
            continue
        field = current.model_fields.get(part) if current else None
        current = _model_in(field.annotation) if field else None
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings class in an annotation such as `X`, `X | None` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
