"""Typed, frozen settings that forbid unknown fields and silent conversions."""

from __future__ import annotations

import json
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"
Line = Annotated[str, Field(pattern=ONE_LINE, max_length=500)]
"""Text that a record can carry."""


class Settings(BaseModel):
    """Base of everything that is read from YAML.

    Types are strict: the text "0.1" is not a number and 1 is not `true`, so that a slip in a recipe
    is an error and never another experiment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")

    @classmethod
    def read(cls, data: Any) -> Self:
        """Validate plain YAML data (mappings, lists, scalars). Raises pydantic's ValidationError."""
        # Through JSON, because strict mode then still lets a list stand for a tuple, which YAML cannot write.
        return cls.model_validate_json(json.dumps(data, default=str))

    @model_serializer(mode="wrap")
    def _without_unused_additions(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = plain(self)
        for name, field in type(self).model_fields.items():
            if field.json_schema_extra == _ADDED and getattr(self, name) == field.default:
                data.pop(name, None)
        return data


_ADDED: dict[str, Any] = {"added": True}


def added(default: Any, **bounds: Any) -> Any:
    """A setting that came after runs had been recorded; `default` must mean what was done before.

    While it has its default it is left out of the resolved recipe, so that those runs keep their identity.
    Takes the bounds that pydantic's Field takes.
    """
    return Field(default=default, json_schema_extra=_ADDED, **bounds)
