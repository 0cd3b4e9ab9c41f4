"""What other records make of the board: the rows that come, go or move."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lt_bench.leaderboard.aggregate import Row, Run, TableKey, tables
from lt_bench.leaderboard.board import file_names
from lt_bench.leaderboard.record import latest


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


def _rows(folder: Path) -> dict[tuple[TableKey, str], tuple[str, Row]]:
    """Name of the table and row, by what the two boards have in common: key of the table and hash of the recipe."""
    found = tables(latest(folder, Run.of))
    names = file_names([table.key for table in found])
    return {
        (table.key, row.recipe_sha256): (name, row)
        for name, table in zip(names, found, strict=True)
        for row in table.rows
    }


def _runs(row: Row | None) -> dict[int, tuple[str, str]]:
    """What tells the run of each seed from another."""
    return {} if row is None else {seed: (run.identity, run.created) for seed, run in row.runs.items()}


def _top1(row: Row | None) -> float | None:
    return None if row is None else row.top1
