"""Every class of a data set, or groups of them: what methods make of it, over their seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lt_bench.data.groups import RULES, group_masks
from lt_bench.errors import UserError, unknown
from lt_bench.evaluation.classes import class_rows
from lt_bench.evaluation.metrics import accuracy_by_class
from lt_bench.evaluation.significance import mean_interval
from lt_bench.leaderboard.aggregate import Row
from lt_bench.leaderboard.comparison import rows_of
from lt_bench.leaderboard.full_rows import digits
from lt_bench.leaderboard.naming import by_method
from lt_bench.leaderboard.record import Record, load_record

ABOUT = ("class_index", "class_name", "group", "train_count", "total")
"""What of the rows of `class_rows` is the same for all methods."""
HEADS = {"class_index": "class", "class_name": "name", "train_count": "train", "total": "test"}
"""How a terminal has these."""


@dataclass(frozen=True)
class ClassAccuracies:
    """One method under the selection `last`."""

    method: str
    seeds: tuple[int, ...]
    classes: list[dict[str, Any]]
    """Of each class what `ABOUT` names; of groups what `by_group` says."""
    accuracy: np.ndarray
    """Percent, float64 [S, C], NaN for a class without test images."""

    @classmethod
    def of(cls, method: str, records: Iterable[Record]) -> ClassAccuracies:
        """From its records, of which each is of another seed."""
        by_seed = {record.seed: record for record in records}
        selections = [record.selections["last"] for record in by_seed.values()]
        data = next(iter(by_seed.values())).dataset
        rows = class_rows(data.class_names, data.train_counts, selections[0].correct, selections[0].total)
        accuracy = np.stack([100 * accuracy_by_class(one.correct, one.total) for one in selections])
        return cls(method, tuple(by_seed), [{name: row[name] for name in ABOUT} for row in rows], accuracy)

    def by_group(self, rule: str) -> ClassAccuracies:
        """The same of groups, by one of `groups.RULES`: means over the classes with test images, NaN where none are.

        Of each group its name, its number of classes, and the images of these. Raises UserError for another rule.
        """
        if rule not in RULES:
            raise UserError(f"--groups: {unknown('rule of groups', rule, RULES)}")
        about = np.array([[1, row["train_count"], row["total"]] for row in self.classes])
        masks = {name: mask & (about[:, 2] > 0) for name, mask in group_masks(about[:, 1], rule).items()}
        sums = {name: about[mask].sum(0).tolist() for name, mask in masks.items()}
        columns = ("classes", "train_count", "total")
        groups = [{"group": name, **dict(zip(columns, values, strict=True))} for name, values in sums.items()]
        nothing = np.full(len(self.seeds), np.nan)
        means = [self.accuracy[:, mask].mean(1) if mask.any() else nothing for mask in masks.values()]
        return ClassAccuracies(self.method, self.seeds, groups, np.stack(means, 1))

    def means(self) -> list[tuple[float | None, float | None]]:
        """Mean over the seeds of each class and the half-width of its 95% interval, None where there is none."""
        found = [mean_interval(values) for values in self.accuracy.T.tolist()]
        return [(None, None) if np.isnan(mean) else (mean, half) for mean, half in found]


def per_class(records_dir: Path | None, wanted: Sequence[str], table: str | None = None) -> list[ClassAccuracies]:
    """What methods make of the classes.

    Args:
        records_dir: Root of the records, as for `compare`.
        wanted: Methods of one table, as it names them, or else the files of records; those of one recipe are a method.
        table: Name of the table's file; needed where the methods stand together in several.

    Raises:
        UserError: A method is not known, a file is no record, or what is wanted is not of the same classes.
    """
    files = [name for name in wanted if name.endswith(".json")]
    if files and len(files) < len(wanted):
        raise UserError("per-class: give names of methods or files of records, not both")
    found = _of_files(files) if files else [_of_row(row) for row in rows_of(records_dir, wanted, table)[2]]
    for one in found[1:]:
        if one.classes != found[0].classes:
            raise UserError(f"{found[0].method} and {one.method} are of different classes, so they do not compare")
    return found


def _of_row(row: Row) -> ClassAccuracies:
    return ClassAccuracies.of(row.method, [load_record(run.path) for run in row.runs.values()])


def _of_files(files: Sequence[str]) -> list[ClassAccuracies]:
    return [ClassAccuracies.of(title, [record for _, record in pairs]) for title, pairs in by_method(map(Path, files))]


def as_json(found: Sequence[ClassAccuracies]) -> dict[str, Any]:
    """All of it, as plain data."""
    means = [one.means() for one in found]
    rows = [
        row
        | {
            "accuracy": {one.method: columns[k][0] for one, columns in zip(found, means, strict=True)},
            "interval": {one.method: columns[k][1] for one, columns in zip(found, means, strict=True)},
        }
        for k, row in enumerate(found[0].classes)
    ]
    what = "classes" if "class_index" in rows[0] else "groups"
    return {"unit": "percent", "seeds": {one.method: list(one.seeds) for one in found}, what: rows}


def as_lines(found: Sequence[ClassAccuracies]) -> list[dict[str, Any]]:
    """A row a method and class, for CSV: the mean accuracy in percent, its interval, and the seeds."""
    return [
        {"method": one.method, **row, "n": len(one.seeds), "accuracy": digits(mean), "interval": digits(half)}
        for one in found
        for row, (mean, half) in zip(one.classes, one.means(), strict=True)
    ]


def as_table(found: Sequence[ClassAccuracies]) -> list[dict[str, Any]]:
    """Rows for a terminal: a column a method."""
    means = {one.method: one.means() for one in found}
    return [
        {HEADS.get(key, key): value for key, value in row.items()}
        | {f"{name} %": _cell(*cells[k]) for name, cells in means.items()}
        for k, row in enumerate(found[0].classes)
    ]


def _cell(mean: float | None, half: float | None) -> str:
    return "" if mean is None else f"{mean:.2f}" + ("" if half is None else f" ± {half:.2f}")
