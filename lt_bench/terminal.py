"""How results look on the command line: rows of a table, and the cells that figures become."""

from __future__ import annotations

import codecs
import io
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from lt_bench.leaderboard.changes import Change
    from lt_bench.leaderboard.comparison import Comparison, Difference
    from lt_bench.leaderboard.tuning import Choice


def compared(first: str, second: str, one: Difference) -> dict[str, str]:
    """A row of `compare`."""
    halves = {"over seeds": one.over_seeds, "over images": one.over_images}
    return {
        "score": f"{one.score} {better(one.score)}",
        first: f"{one.first:.2f}",
        second: f"{one.second:.2f}",
        "difference": f"{one.difference:+.2f}",
        **{title: "" if half is None else f"± {half:.2f}" for title, half in halves.items()},
        "seed spread": "" if one.spread is None else f"{one.spread:.2f}",
        "seeds needed": "" if one.spread is None else str(one.seeds_needed or "> 1000"),
    }


def compared_with_first(one: Comparison) -> dict[str, str]:
    """A row of `compare` of more than two methods: top-1, beside the first of them."""
    top1, (over_seeds, over_images) = one.top1, one.p_values
    apart = "higher" if top1.difference > 0 else "lower"
    return {
        "method": one.second,
        "top1 ↑": f"{top1.second:.2f}",
        "difference": f"{top1.difference:+.2f}",
        "over seeds": "" if top1.over_seeds is None else f"± {top1.over_seeds:.2f}",
        "p seeds": p_value(over_seeds),
        "p images": p_value(over_images),
        "so it is": apart if one.apart else "not told apart",
        "seeds needed": "" if top1.spread is None else str(top1.seeds_needed or "> 1000"),
    }


def chosen(one: Choice) -> dict[str, str]:
    """A row of `leaderboard tuning`."""
    from lt_bench.leaderboard.aggregate import places  # noqa: PLC0415 (slow to import)

    return {
        "rank": places(one.rank),
        "method": one.method,
        "protocol": one.protocol,
        "n": str(len(one.seeds)),
        "top1 ↑": f"{one.last:.2f}" + ("" if one.interval is None else f" ± {one.interval:.2f}"),
        "at its best epoch": f"{one.best:.2f}",
    }


def tested(one: Comparison) -> str:
    """The p-values of top-1, in a sentence; empty for one seed without test images."""
    tests = ("over seeds (paired t test)", "over test images (exact permutation test)")
    said = [f"{p_value(p, '=')} {test}" for p, test in zip(one.p_values, tests, strict=True) if p is not None]
    return f"Top-1: p {', p '.join(said)}." if said else ""


def p_value(p: float | None, equal: str = "") -> str:
    """A cell, or with `=` what stands behind the letter p."""
    if p is None:
        return ""
    return f"{'< ' if equal else '<'}0.0001" if p < 1e-4 else f"{equal} {p:.4f}".strip()


def whose(found: Comparison) -> str:
    """Where the two sides of `compare` are from."""
    of = {True: "your records", False: "the shipped board"}
    return "; ".join(
        f"{title}: {of[mine]}" for title, mine in zip((found.first, found.second), found.yours, strict=True)
    )


def changed(one: Change) -> dict[str, str]:
    """A row of `leaderboard diff`."""
    means = {"top1 before": one.top1_before, "top1 after": one.top1_after}
    return {
        "method": one.method,
        "seeds before": ", ".join(map(str, one.seeds_before)),
        "seeds after": ", ".join(map(str, one.seeds_after)),
        **{title: "" if mean is None else f"{mean:.2f}" for title, mean in means.items()},
        "difference": "" if one.difference is None else f"{one.difference:+.2f}",
    }


def better(score: str) -> str:
    """Which way is better, as an arrow."""
    return "↓" if score == "ece" else "↑"


def percent(fraction: float | None) -> str:
    """A cell; empty where there is no number."""
    return "" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.2f}"


def class_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table of classes, from one of `evaluation.classes.class_rows`."""
    return {
        "class": row["class_index"],
        "name": row["class_name"],
        "group": row["group"],
        "train": row["train_count"],
        "test": row["total"],
        "accuracy %": percent(row["accuracy"]),
    }


def short(value: Any) -> str:
    """A value in at most 100 characters, a list with commas."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


NARROWEST = 8
"""A longer cell may be folded to so many characters, so that its column still fits."""
PLAIN = {"↑": "^", "↓": "v", "−": "-", "–": "-", "±": "+-", "×": "x", "→": "->", "…": "..."}
"""What stands for a character on a terminal that has no such one; a question mark for all others."""


def show_what_can_be_shown() -> None:
    """Let no character that standard output cannot encode end a command."""
    codecs.register_error("lt-bench", _plain)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="lt-bench")


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(PLAIN.get(character, "?") for character in error.object[error.start : error.end]), error.end


def console() -> Console:
    """Standard output. What is not a terminal has no width: there a row is a line, however long, for grep to find."""
    from rich.console import Console  # noqa: PLC0415 (slow to import)

    found = Console()
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = 10_000
    return found


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print a table with the keys of the first row as its titles; None is an empty cell.

    Columns that a terminal is too narrow for are left out, the last ones first, and named below.
    """
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    screen = console()
    titles = list(rows[0]) if rows else []
    shown = _that_fit(rows, titles, screen.width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in shown:
        table.add_column(Text(title.replace("_", " ")), overflow="fold", no_wrap=title == "name")
    for row in rows:
        table.add_row(*(Text(_cell(row[title])) for title in shown))
    screen.print(table)
    if len(shown) < len(titles):
        screen.print(Text(f"\n{too_narrow(titles[len(shown) :], screen.width)}."))


def too_narrow(left_out: Sequence[str], width: int) -> str:
    """Which columns are not shown, and how they are."""
    return f"Left out for a width of {width}: {', '.join(left_out)}. A wider terminal or COLUMNS=200 shows them"


def _that_fit(rows: list[dict[str, Any]], titles: list[str], width: int) -> list[str]:
    """The first titles that can be read side by side: a word or `NARROWEST` characters wide, two apart."""
    needed = -2
    for index, title in enumerate(titles):
        cells = max(len(_cell(row[title])) for row in rows)
        words = max(map(len, title.replace("_", " ").split()), default=1)
        needed += 2 + max(words, cells if title == "name" else min(NARROWEST, cells))
        if needed > width and index > 1:
            return titles[:index]
    return titles


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
