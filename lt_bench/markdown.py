"""Pieces of Markdown that the generated pages share."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
"""What breaks a line, moves a cursor, or turns the direction of what follows."""


def one_line(text: str) -> str:
    """Text whose line breaks and control characters have become spaces."""
    return CONTROLS.sub(" ", text)


def escape(text: str) -> str:
    """Text as Markdown shows it literally and on one line, also inside a table."""
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(one_line(text), quote=False))


def link(text: str, target: str) -> str:
    """Text that leads to an address, or a path, which holds nothing that Markdown takes for its end."""
    return f"[{escape(text)}]({target})"


def table_row(cells: Sequence[str]) -> str:
    """A line of a table, without its end; the cells are Markdown already."""
    return f"| {' | '.join(cells)} |"
