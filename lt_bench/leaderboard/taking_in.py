"""The way onto a board for records that were made elsewhere: each is checked in full before the first is taken in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lt_bench.data.reading import read_bytes
from lt_bench.errors import UserError
from lt_bench.leaderboard.manifest import hold
from lt_bench.leaderboard.record import (
    MOST_BYTES,
    Record,
    load_predictions,
    load_record,
    load_records,
    place,
    write_all,
    write_at,
)
from lt_bench.leaderboard.side_file import read_side_file
from lt_bench.resources import refuse_installed


@dataclass(frozen=True)
class Taken:
    """What became of one record."""

    source: Path
    path: Path
    """Where it lies now."""
    new: bool
    """False: it had been there."""


def take_in(sources: list[Path], records: Path) -> list[Taken]:
    """Copy records and their side files into a tree of records.

    Schema, seal, digests, counts and identity of all of them are checked first, and where one is refused none is taken
    in. A record keeps its bytes; only where another of its identity has its name does it get a revision's.

    Args:
        sources: Files of records, or folders that hold some.
        records: Root of the tree.

    Raises:
        UserError: A record is not valid, its side file is not its own, or nothing can be written.
    """
    refuse_installed("--records", records)
    found = [pair for source in sources for pair in _read(source)]
    for path, record in found:
        load_predictions(path, record)
    taken = [_take(path, record, records) for path, record in found]
    hold(records, [one.path for one in taken])  # what lay there by hand has been checked now
    return taken


def _read(source: Path) -> list[tuple[Path, Record]]:
    found = load_records(source) if source.is_dir() else [(source, load_record(source))]
    if not found:
        raise UserError(f"{source}: there are no records")
    return found


def _take(source: Path, record: Record, records: Path) -> Taken:
    side = read_side_file(source, record)
    with place(record, records) as path:
        for there in _of_identity(path.parent, record):
            if load_record(there).created == record.created:
                return Taken(source, there, new=False)
        assert record.predictions is not None, "its side file has been read"
        if (path.name, path.with_suffix(".npz").name) == (source.name, record.predictions.file):
            write_all({path.with_name(record.predictions.file): side, path: read_bytes(source, "record", MOST_BYTES)})
        else:
            write_at(path, record, side)
    return Taken(source, path, new=True)


def _of_identity(home: Path, record: Record) -> Iterator[Path]:
    return (path for path in home.glob(f"seed{record.seed}-{record.identity[:12]}*.json"))
