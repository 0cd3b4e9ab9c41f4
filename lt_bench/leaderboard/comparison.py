"""Two methods of a table side by side: what their seeds and the test images leave of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lt_bench.data.groups import GROUPS
from lt_bench.data.spec import DataSpec
from lt_bench.errors import UserError, unknown
from lt_bench.evaluation.significance import mean_interval
from lt_bench.leaderboard.aggregate import YOURS, Row, Run, Table, TableKey
from lt_bench.leaderboard.board import file_names
from lt_bench.leaderboard.record import load_predictions, load_record
from lt_bench.leaderboard.sources import read_board

if TYPE_CHECKING:
    from lt_bench.data.types import IntArray

OFFICIAL = "board:"
"""In front of a method: the shipped board's row, not one's own."""

COMPARED = ("top1", *GROUPS, "worst_class", "ece")


@dataclass(frozen=True)
class Difference:
    """One score, in percent: means over the common seeds, and second minus first."""

    score: str
    first: float
    second: float
    difference: float
    over_seeds: float | None
    """Half-width of the 95% interval of the mean difference, seed by seed; None for one seed."""
    over_images: float | None = None
    """The same over test images, for top-1: how it would vary with other images of the kind, the networks kept."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` finds."""

    table: str
    first: str
    second: str
    seeds: tuple[int, ...]
    differences: tuple[Difference, ...]
    without_images: str = ""
    """Why nothing is said over test images."""
    yours: tuple[bool, bool] = (False, False)
    """Whether each is of one's own records, beside which the shipped board's were read."""

    @property
    def verdict(self) -> str:
        """What follows for top-1, in a sentence: an order only where every interval excludes 0."""
        top1 = self.differences[0]
        if top1.over_seeds is None:
            return "One common seed says nothing about another training."
        if abs(top1.difference) <= max(top1.over_seeds, top1.over_images or 0.0):
            return f"{self.first} and {self.second} cannot be told apart by top-1."
        better, worse = (self.second, self.first) if top1.difference > 0 else (self.first, self.second)
        considered = "seeds explain" if top1.over_images is None else "seeds and test images explain"
        return f"{better} has the higher top-1, {worse} the lower: more than {considered}."


def compare(
    records_dir: Path | None, first: str, second: str, table: str | None = None, data_root: Path | None = None
) -> Comparison:
    """Compare two methods over the seeds that both have.

    Args:
        records_dir: Root of the records. None: one's own in `results/records` beside those of the shipped board.
        first: A method as its table names it, such as `ce`, or with its data set, `cifar100-lt/ce`. Overrides, in
            parentheses there, may be left out where the recipe has one row. Of two rows of the name one's own is meant;
            `board:ce` is the shipped board's.
        second: Another one of the same table.
        table: Name of the table's file; needed where the two stand together in several. Tables where more of the two
            rows are one's own come before others.
        data_root: Where the data set lies; its test labels tell which images each method has right.

    Raises:
        UserError: A method or a table is not known, or the two have no table or no seed in common.
    """
    name, found, rows = rows_of(records_dir, (first, second), table)
    if rows[0] is rows[1]:
        official = OFFICIAL + rows[0].method.removesuffix(YOURS)
        hint = f"; the shipped board's is {official}" if rows[0].yours and _rows(found, official) else ""
        raise UserError(f"{first}: two different methods are needed{hint}")
    seeds = tuple(seed for seed in rows[0].runs if seed in rows[1].runs)
    if not seeds:
        have = " and ".join(" ".join(map(str, row.runs)) for row in rows)
        raise UserError(f"{first} and {second} have no seed in common: they have {have}")
    pairs = [[row.runs[seed] for row in rows] for seed in seeds]
    images, without = _over_images(pairs, found.key, data_root)
    differences = [_difference(score, pairs, images if score == "top1" else None) for score in COMPARED]
    known = tuple(difference for difference in differences if difference is not None)
    return Comparison(name, rows[0].method, rows[1].method, seeds, known, without, (rows[0].yours, rows[1].yours))


def rows_of(records_dir: Path | None, methods: Sequence[str], table: str | None) -> tuple[str, Table, list[Row]]:
    """The table that all the methods stand in, under its name, and their rows in it. See `compare`."""
    found = read_board(records_dir).tables
    if records_dir is not None and (asked := [method for method in methods if method.startswith(OFFICIAL)]):
        raise UserError(f"{asked[0]}: the shipped board is not read where --records names a folder")
    named = dict(zip(file_names([one.key for one in found]), found, strict=True))
    name = _table_of(named, methods, table)
    return name, named[name], [_row(named[name], method) for method in methods]


def _table_of(named: dict[str, Table], methods: Sequence[str], table: str | None) -> str:
    if table is not None and table not in named:
        raise UserError(f"--table {unknown('table', table, named)}")
    chosen = named if table is None else {table: named[table]}
    for method in methods:
        if not any(_rows(one, method) for one in chosen.values()):
            raise UserError(unknown("method", method, {row.method for one in chosen.values() for row in one.rows}))
    found = {name: [_rows(one, method) for method in methods] for name, one in chosen.items()}
    yours = {name: sum(rows[0].yours for rows in several) for name, several in found.items() if all(several)}
    common = [name for name, number in yours.items() if number == max(yours.values())]
    all_of_them = " and ".join(methods)
    if not common:
        raise UserError(f"{all_of_them} stand in no common table, so their numbers do not compare")
    if len(common) > 1:
        verb = "stand" if len(methods) > 1 else "stands"
        raise UserError(f"{all_of_them} {verb} in {len(common)} tables: choose --table {', '.join(common)}")
    return common[0]


def _rows(table: Table, method: str) -> list[Row]:
    """The row of that name, or else all rows of that recipe, which are told apart by overrides; one's own first."""
    name = method.removeprefix(OFFICIAL).removeprefix(f"{table.key.dataset}/")
    theirs = [row for row in table.rows if not row.yours]
    yours = [] if method.startswith(OFFICIAL) else [row for row in table.rows if row.yours]
    for rows, titles in ((yours, (name, name + YOURS)), (theirs, (name,))):
        exact = [row for row in rows if row.method in titles]
        if found := exact or [row for row in rows if row.method.startswith((f"{name} (", f"{name} ["))]:
            return found
    return []


def _row(table: Table, method: str) -> Row:
    rows = _rows(table, method)
    if len(rows) > 1:
        raise UserError(f"{method}: there are {len(rows)} of them, name one: {'; '.join(row.method for row in rows)}")
    return rows[0]


def _difference(score: str, pairs: list[list[Run]], images: float | None) -> Difference | None:
    values = np.array([[run.scores[score] for run in pair] for pair in pairs], dtype=float)  # [S, 2]
    if np.isnan(values).any():
        return None
    first, second = values.mean(0)
    mean, half = mean_interval((values[:, 1] - values[:, 0]).tolist())
    return Difference(score, float(first), float(second), mean, half, images)


def _over_images(pairs: list[list[Run]], key: TableKey, data_root: Path | None) -> tuple[float | None, str]:
    """Half-width of the 95% interval of the difference over test images, or why there is none."""
    try:
        labels = _test_labels(key, data_root)
        right = [[_predicted(run) == labels for run in pair] for pair in pairs]
    except UserError as error:
        return None, str(error)
    gains = np.mean([second.astype(float) - first for first, second in right], axis=0)  # per image, over seeds: [N]
    _, half = mean_interval((100 * gains).tolist())
    return half, ""


def _test_labels(key: TableKey, data_root: Path | None) -> IntArray:
    """Labels int64 [N] of the test images that the runs of a table were evaluated on."""
    from lt_bench.data.opening import open_split  # noqa: PLC0415 (it imports torch, which tables do without)

    fields = {"name": key.dataset, "factor": key.factor, "profile": key.profile, "subset_seed": key.subset_seed}
    split = open_split(DataSpec.read(fields), data_root)
    if split.test_sha256 != key.test_sha256:
        raise UserError(f"the test images of {key.dataset} at hand are not those that the records were evaluated on")
    return split.test.labels


def _predicted(run: Run) -> np.ndarray:
    return load_predictions(run.path, load_record(run.path))[0]
