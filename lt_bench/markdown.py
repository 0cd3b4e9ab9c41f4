"""Pieces of Markdown that the generated pages share."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence


def escape(text: str) -> str:
    """Text as Markdown shows it literally, also inside a table."""
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(text, quote=False))


def table_row(cells: Sequence[str]) -> str:
    """A line of a table, without its end; the cells are Markdown already."""
    return f"| {' | '.join(cells)} |"
