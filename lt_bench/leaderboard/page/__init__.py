"""The board as one page: its data, style and script in a single file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lt_bench.leaderboard.naming import Shown
from lt_bench.leaderboard.page.data import page_data
from lt_bench.leaderboard.sources import Board

__all__ = ["SCRIPTS", "WEB", "assembled", "page"]

WEB = Path(__file__).parent / "web"
SCRIPTS = (
    "elements", "statistics", "board", "columns", "state", "filters", "table", "charts", "figures", "details",
    "matrix", "compare", "plot", "main",
)  # fmt: skip
"""In their order: each uses what stands before it."""


def page(shown: Sequence[Shown], board: Board, out_dir: Path | None) -> str:
    """The page of the tables.

    Args:
        shown: The tables, in their order.
        board: Where they are from.
        out_dir: Where the page will lie; records below it are linked.
    """
    return assembled(page_data(shown, board, out_dir))


def assembled(data: Mapping[str, Any]) -> str:
    """The page of what `page_data` gives."""
    style = _read("style.css")
    script = '"use strict";\n' + "".join(_read(f"{name}.js") for name in SCRIPTS)
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    parts = {
        "@STYLE@": style,
        "@STYLE_SHA256@": _sha256(style),
        "@SCRIPT_SHA256@": _sha256(script),
        "@SCRIPT@": script,
        # Last, so that nothing in it is taken for another mark; no text in it can end the element.
        "@DATA@": text.replace("<", "\\u003c"),
    }
    whole = _read("index.html")
    for mark, part in parts.items():
        whole = whole.replace(mark, part)
    return whole


def _read(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    """As a content security policy names what it lets in."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
