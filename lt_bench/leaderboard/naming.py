"""What tables are called: the names of their files, their titles, and what their numbers are of."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from lt_bench.leaderboard.aggregate import Table, TableKey, method_name, table_key
from lt_bench.leaderboard.record import Record, load_record

FIELDS = {
    "version": "dataset_version",
    "split": "index_sha256",
    "contents": "content_sha256",
    "test part": "test_part",
    "protocol version": "protocol_version",
    "protocol": "protocol_sha256",
    "test images": "test_images",
    "flip": "flip",
    "normalisation": "normalisation",
    "condition": "condition_sha256",
}
"""What may differ under one title, by the word for it."""
DIGITS = 8
"""Of a digest, which tell it from the few that it stands beside."""


class Shown(NamedTuple):
    """A table with its words."""

    name: str
    """Of its file."""
    title: str
    about: str
    """What its numbers are of."""
    table: Table


def shown(tables: Sequence[Table], every: Sequence[Table]) -> list[Shown]:
    """Tables that are presented together, of `every` one that may be named."""
    keys, names = [table.key for table in tables], file_names(every)
    return list(map(Shown, [names[key] for key in keys], titles(keys), map(_about, keys), tables))


def file_names(tables: Sequence[Table]) -> dict[TableKey, str]:
    """The tables' file names, told apart by a digest where data or protocol differ under one name.

    Those of the shipped board are what they are without one's own beside them.
    """
    own = {table.key: all(row.yours for row in table.rows) for table in tables}
    every, shipped = Counter(key.slug for key in own), Counter(key.slug for key, is_own in own.items() if not is_own)
    return {
        key: key.slug if (every if is_own else shipped)[key.slug] == 1 else f"{key.slug}-{_digest(key)}"
        for key, is_own in own.items()
    }


def _digest(key: TableKey) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()[:DIGITS]


def differing(keys: Sequence[TableKey]) -> list[str]:
    """The words of `FIELDS` for what tables differ in."""
    return [word for word, field in FIELDS.items() if len({getattr(key, field) for key in keys}) > 1]


def titles(keys: Sequence[TableKey]) -> list[str]:
    """What each table is of, in a line; those of one title are told apart by what differs."""
    plain = [_title(key) for key in keys]
    alike = {title: [key for key in keys if _title(key) == title] for title in plain}
    return [title + _apart(key, alike[title]) for key, title in zip(keys, plain, strict=True)]


def by_method(files: Iterable[Path]) -> list[tuple[str, list[tuple[Path, Record]]]]:
    """Records in files as tables have them: those of one recipe in one table, of each seed the newest, with a name.

    What is left out for a newer one is told on stderr. Raises UserError for a file that is no record.
    """
    methods: dict[tuple[TableKey, str], dict[int, tuple[Path, Record]]] = {}
    for path in files:
        record = load_record(path)
        seeds = methods.setdefault((table_key(record), record.recipe_sha256), {})
        seeds[record.seed] = _newer((path, record), seeds.get(record.seed))
    found = [[seeds[seed] for seed in sorted(seeds)] for seeds in methods.values()]
    return list(zip(told_apart([pairs[0][1] for pairs in found]), found, strict=True))


def _newer(one: tuple[Path, Record], other: tuple[Path, Record] | None) -> tuple[Path, Record]:
    if other is None or other[0].resolve() == one[0].resolve():
        return one
    older, newer = sorted((other, one), key=lambda pair: pair[1].created)
    print(f"{older[0]}: left out: {newer[0]} is newer, of the same recipe and seed", file=sys.stderr)
    return newer


def told_apart(records: Sequence[Record]) -> list[str]:
    """A name for the method of each of these records, of which no two stand in one row.

    Where two have one name it goes on with the protocol, then the recipe's digest, then what their data differs in.
    """
    names = [method_name(record) for record in records]
    names = _longer(names, [f", {record.protocol.name}" for record in records])
    names = _longer(names, [f" [{record.recipe_sha256[:DIGITS]}]" for record in records])
    keys = list(map(table_key, records))
    alike = [[key for key, other in zip(keys, names, strict=True) if other == name] for name in names]
    return _longer(names, list(map(_apart, keys, alike)))


def _longer(names: list[str], ends: list[str]) -> list[str]:
    """The names, with their ends where these tell alike ones apart."""
    pairs = list(zip(names, ends, strict=True))
    several = Counter(name for name, _ in set(pairs))
    return [name + end if several[name] > 1 else name for name, end in pairs]


def _title(key: TableKey) -> str:
    step = ", step profile" if key.profile == "step" else ""
    split = f", subset seed {key.subset_seed}" if key.subset_seed else ""
    under = f", {key.condition.title}" if key.condition.title else ""
    return f"{key.dataset}{_factor(key)}{step}{split}{under}: {key.protocol}{' (modified)' if key.modified else ''}"


def _apart(key: TableKey, alike: list[TableKey]) -> str:
    """In which of `FIELDS` a table differs from others, in square brackets; empty where there are none."""
    told = [f"{word} {str(getattr(key, FIELDS[word]))[:DIGITS] or 'unknown'}" for word in differing(alike)]
    return f" [{', '.join(told)}]" if told else ""


def _about(key: TableKey) -> str:
    profile = "" if key.profile is None or key.factor == 1 else f", {key.profile} profile"
    under = f"{key.condition.title} {key.condition.sha256[:12]}".rstrip() + "; " if key.condition.title else ""
    shown_as = f", flip {key.flip}, normalisation {key.normalisation[:12]}" if key.flip else ""
    return (
        f"Data set {key.dataset} version {key.dataset_version}{_factor(key)}{profile}, {key.largest:,} to "
        f"{key.smallest:,} training images a class, subset seed {key.subset_seed}; "
        f"split {key.index_sha256[:12]}, contents {key.content_sha256[:12]}{shown_as}; "
        f"{under}protocol {key.protocol} version {key.protocol_version}{', modified' if key.modified else ''} "
        f"({key.protocol_sha256[:12]}); {key.test_images:,} test images; selection: last epoch."
    )


def _factor(key: TableKey) -> str:
    """How far the largest class is above the smallest, as words behind the data set's name."""
    if key.factor is None:
        return ""
    return ", balanced" if key.factor == 1 else f", factor {key.factor:g}"
