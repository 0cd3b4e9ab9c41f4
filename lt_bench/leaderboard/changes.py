"""What other records make of the board: the rows that come, go or move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from lt_bench.data.reading import read_bytes
from lt_bench.errors import UserError
from lt_bench.files import in_words, write_atomically
from lt_bench.leaderboard.aggregate import Row, Run, TableKey, tables
from lt_bench.leaderboard.naming import file_names
from lt_bench.leaderboard.record import latest
from lt_bench.markdown import escape, table_row


@dataclass(frozen=True)
class Change:
    """One row whose runs differ. Seeds are empty and top-1 is None where there is no such row."""

    table: str
    """Name of the table's file, that of the new board where it has the table."""
    method: str
    seeds_before: tuple[int, ...]
    seeds_after: tuple[int, ...]
    top1_before: float | None
    """Mean over the seeds, in percent."""
    top1_after: float | None

    @property
    def difference(self) -> float | None:
        """Points of top-1, after minus before."""
        if self.top1_before is None or self.top1_after is None:
            return None
        return self.top1_after - self.top1_before


def changes(before: Path, after: Path) -> list[Change]:
    """The rows that two folders of records do not have alike, table by table, as the new board orders them.

    A row is a recipe in a table, so one that was edited under its old name goes and comes. It differs where a run is
    new, missing or made again, though its mean may be the same. Raises UserError for a folder that is not there and
    for a record that is not valid.
    """
    old, new = _rows(before), _rows(after)
    found = []
    for place, (table, row) in (new | old | new).items():  # as the new board has them, then what it lacks
        was, now = (board[place][1] if place in board else None for board in (old, new))
        if _runs(was) != _runs(now):
            found.append(Change(table, row.method, tuple(_runs(was)), tuple(_runs(now)), _top1(was), _top1(now)))
    return sorted(found, key=lambda change: change.table)


HEAD = "# Changes of the board\n\nMade by `lt-bench leaderboard diff`, the latest first.\n"


def write_changelog(found: Sequence[Change], title: str, path: Path) -> None:
    """Put the changes under a title into a page of changes, in front of the earlier ones.

    Raises UserError for a title that the page has, for a page of another kind, and where it cannot be written.
    """
    page = read_bytes(path, "page of changes").decode(errors="replace") if path.exists() else HEAD
    heading = f"## {escape(title)}"
    if not page.startswith(HEAD):
        raise UserError(f"{path}: was not made by this command, so it is not written to")
    if heading in page.splitlines():
        raise UserError(f"{path}: has changes titled {title!r} already")
    section = [heading, "", *_section(found), ""] if found else [heading, "", "No row differs.", ""]
    try:
        write_atomically(path, (HEAD + "\n" + "\n".join(section) + page.removeprefix(HEAD)).encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {in_words(error)}") from None


def _section(found: Sequence[Change]) -> list[str]:
    lines = []
    for table, rows in groupby(found, key=lambda one: one.table):
        lines += [f"### {escape(table)}", "", table_row(["Method", "Seeds", "Top-1"]), table_row([":--", "--:", "--:"])]
        lines += [table_row([escape(one.method), _from_to(one, "seeds"), _from_to(one, "top1")]) for one in rows]
        lines.append("")
    return lines[:-1]


def _from_to(one: Change, what: str) -> str:
    """Number of seeds, or mean, before and after; `new` and `gone` where there is one of the two."""
    if what == "seeds":
        values = [str(len(seeds)) if seeds else "" for seeds in (one.seeds_before, one.seeds_after)]
    else:
        values = ["" if mean is None else f"{mean:.2f}" for mean in (one.top1_before, one.top1_after)]
    before, after = values
    if not before:
        return f"{after} (new)"
    return f"{before} → {after}" if after else f"{before} (gone)"


def _rows(folder: Path) -> dict[tuple[TableKey, str], tuple[str, Row]]:
    """Name of the table and row, by what the two boards have in common: key of the table and hash of the recipe."""
    found = tables(latest(folder, Run.of))
    names = file_names(found)
    return {(table.key, row.recipe_sha256): (names[table.key], row) for table in found for row in table.rows}


def _runs(row: Row | None) -> dict[int, tuple[str, str]]:
    """What tells the run of each seed from another."""
    return {} if row is None else {seed: (run.identity, run.created) for seed, run in row.runs.items()}


def _top1(row: Row | None) -> float | None:
    return None if row is None else row.top1
