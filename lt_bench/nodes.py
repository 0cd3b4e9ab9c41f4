"""Parts of a resolved recipe as a record holds it, which need not have the form of today.

Nothing here imports a component: a table of ten thousand records is made by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Node = Mapping[str, Any]

IDLE_TUNERS = frozenset({"none"})
"""Those with which nothing learns; a test holds them to what the tuners say of themselves."""


def mapping(value: object) -> Node:
    """The value where it is a mapping, else one that says nothing."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> list[Any]:
    """The value where it is a list, else an empty one."""
    return value if isinstance(value, list) else []
