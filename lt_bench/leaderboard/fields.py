"""The types that fields of records share, and what columns of them must agree in."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$", max_length=500)]
"""Any text on one line; whoever prints it escapes it."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Counts = tuple[Annotated[int, Field(ge=0)], ...]
"""Per class, bin or epoch. That their sum is a `Count` is checked where it is taken: it costs less than one by one."""
Fraction = Annotated[float, Field(ge=0, le=1)]


def check_sum(field: str, counts: Counts) -> int:
    found = sum(counts)
    if found >= 2**53:
        raise ValueError(f"{field}: more than any data set has")
    return found


def same_length(**columns: tuple[Any, ...]) -> None:
    if len(set(map(len, columns.values()))) > 1:
        lengths = ", ".join(f"{name} has {len(values)}" for name, values in columns.items())
        raise ValueError(f"lengths differ: {lengths}")
