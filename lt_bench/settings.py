"""Typed, frozen settings that forbid unknown fields and silent conversions."""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


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
