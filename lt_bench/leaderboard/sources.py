"""Which records are read: those of one folder, or one's own beside those of the shipped board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lt_bench.leaderboard.aggregate import Run, Table, tables
from lt_bench.leaderboard.record import Record, latest
from lt_bench.resources import RECORDS, shipped_board

T = TypeVar("T")


@dataclass(frozen=True)
class Board:
    """What was found. A row is the board's or one's own, never of the seeds of both."""

    records: Path | None
    """The folder that was read alone; None: the shipped board's records, and one's own where there are some."""
    tables: tuple[Table, ...]

    @property
    def yours(self) -> tuple[Table, ...]:
        """The tables with a row of one's own."""
        return tuple(table for table in self.tables if any(row.yours for row in table.rows))

    @property
    def shown(self) -> tuple[Table, ...]:
        """The tables to present: one's own, with the board's rows to compare with; without such ones all."""
        return self.yours or self.tables

    @property
    def others(self) -> str:
        """A sentence about the tables that are not presented; empty where there are none."""
        number = len(self.tables) - len(self.shown)
        if not number:
            return ""
        return f"Tables of the shipped board without records of yours: {number} (lt-bench leaderboard show --board)."


def read_board(records: Path | None, rank_external: bool = False) -> Board:
    """The tables of the records in a folder, or for None of one's own and the shipped ones. See `gather`, `tables`."""
    return Board(records, tuple(tables(gather(records, Run.of), rank_external)))


def shipped_records() -> Path:
    """The official records."""
    return shipped_board() / "records"


def gather(records: Path | None, make: Callable[[Path, Record, bool], T]) -> list[T]:
    """What `make` gives for the latest record of each run: of its path, the record, and whether it is one's own.

    A folder that is named is read alone, and nothing in it is marked as one's own. For None the official records come
    first, then those in `results/records` of the working folder. A copy of an official one counts as that and not
    again; the same run made again is one's own. Raises UserError for a folder that is not there and for a record that
    is not valid.
    """
    if records is not None:
        return latest(records, lambda path, record: make(path, record, False))
    official: set[tuple[str, str]] = set()

    def theirs(path: Path, record: Record) -> T:
        official.add((record.identity, record.created))
        return make(path, record, False)

    def yours(path: Path, record: Record) -> T | None:
        return None if (record.identity, record.created) in official else make(path, record, True)

    found = latest(shipped_records(), theirs)
    own = latest(RECORDS, yours) if RECORDS.is_dir() else []
    return [*found, *(made for made in own if made is not None)]
