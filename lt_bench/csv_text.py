"""Rows as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from lt_bench.markdown import one_line

FORMULA = ("=", "+", "-", "@")
"""How a cell begins that spreadsheets compute; behind an apostrophe they show it."""


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """A head with the keys of all rows, then a line a row; an empty field is a missing value."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({title: cell(value) for title, value in row.items()} for row in rows)
    return buffer.getvalue()


def cell(value: object) -> object:
    """Text on one line, which no spreadsheet takes for a formula; numbers as they are."""
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text
