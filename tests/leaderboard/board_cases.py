"""The tables of a folder of records as tests read them."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from lt_bench.leaderboard.board import render

A, B, C = (10, 9, 8, 7, 6, 5), (9, 8, 7, 6, 5, 4), (2, 2, 2, 2, 2, 2)
"""Right test images of each class."""


def rows(records: Path, table: str = "tiny-lt-if500-cifar-30ep") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render(records)[f"tables/{table}.csv"].decode())))


def page(records: Path, table: str = "tiny-lt-if500-cifar-30ep") -> str:
    return render(records)[f"tables/{table}.md"].decode()


def cells(records: Path, method: str) -> dict[str, str]:
    """The cells of one method in the Markdown table, by column title."""
    lines = [
        line.removeprefix("| ").removesuffix(" |").split(" | ")
        for line in page(records).splitlines()
        if line.startswith("|")
    ]
    titles = [title.strip(" ↑↓") for title in lines[0]]
    named = {re.sub(r"^\[(.*)\]\(.*\)$", r"\1", line[titles.index("Method")]): line for line in lines}
    return dict(zip(titles, named[method], strict=True))


def tables(records: Path) -> list[str]:
    return [name for name in render(records) if name.endswith(".md") and name != "README.md"]


def reported(**fields: Any) -> list[Any]:
    return [{"paper": "Someone | 2020", "top1": 60, "protocol": "cifar-30ep", "verified": True} | fields]
