"""Methods of a table side by side: what their seeds and the test images leave of the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lt_bench.data.groups import GROUPS, group_masks
from lt_bench.data.spec import DataSpec
from lt_bench.errors import UserError, unknown
from lt_bench.evaluation.significance import exchange_p, holm, mean_interval, paired_p, seeds_needed
from lt_bench.leaderboard.aggregate import YOURS, Row, Run, Table, TableKey
from lt_bench.leaderboard.naming import differing, file_names
from lt_bench.leaderboard.record import load_predictions, load_record
from lt_bench.leaderboard.sources import read_board
from lt_bench.leaderboard.spread import seed_spread
from lt_bench.leaderboard.test_parts import part_of

if TYPE_CHECKING:
    from lt_bench.data.types import IntArray

OFFICIAL = "board:"
"""In front of a method: the shipped board's row, not one's own."""

COMPARED = ("top1", *GROUPS, "worst_class", "ece")


DIFFERENT_ORDERS = "their predictions are of the same test images in different orders"

LEVEL = 0.05
"""What a p-value must not exceed for two methods to be told apart."""


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
    """The same over test images, for top-1 and groups: how it would vary with others of the kind, the networks kept."""
    spread: float | None = None
    """Deviation of such a difference from seed to seed, that of the middle pair of the table; None without any."""
    seeds_needed: int | None = None
    """How many seeds find this difference with 80% probability, by that spread or, if larger, by that of the two. Of
    several comparisons at once it is one.
    """
    p_seeds: float | None = None
    """Of the paired t test over seeds."""
    p_images: float | None = None
    """Of the exact permutation test over test images, for top-1; McNemar's for one seed."""


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
    holm: tuple[float | None, float | None] | None = None
    """p-values of top-1 over seeds and over images, adjusted where it is one of several comparisons."""

    @property
    def top1(self) -> Difference:
        return self.differences[0]

    @property
    def p_values(self) -> tuple[float | None, float | None]:
        """That of top-1 over seeds, and over test images where they are at hand; adjusted where there are several."""
        return self.holm or (self.top1.p_seeds, self.top1.p_images)

    @property
    def apart(self) -> bool:
        """Whether top-1 tells the two apart, by every test that there is."""
        over_seeds, over_images = self.p_values
        return over_seeds is not None and over_seeds <= LEVEL and (over_images or 0.0) <= LEVEL

    @property
    def verdict(self) -> str:
        """What follows for top-1, in a sentence: an order only where every test finds one."""
        if self.top1.over_seeds is None:
            return "One common seed says nothing about another training."
        if not self.apart:
            return f"{self.first} and {self.second} cannot be told apart by top-1."
        better, worse = (self.second, self.first) if self.top1.difference > 0 else (self.first, self.second)
        considered = "seeds explain" if self.top1.over_images is None else "seeds and test images explain"
        return f"{better} has the higher top-1, {worse} the lower: more than {considered}."

    @property
    def advice(self) -> str:
        """How many seeds would tell the two apart, in a sentence; empty where they are, or nothing is known of it."""
        over_seeds, _ = self.p_values
        if self.apart or self.top1.spread is None:
            return ""
        if over_seeds is not None and over_seeds <= LEVEL:
            return "The seeds tell these two apart, the test images do not: it takes more of either."
        if self.top1.seeds_needed is None:
            return "To tell these two apart by a difference so small, a thousand seeds are too few."
        return (
            f"To tell these two apart takes about {self.top1.seeds_needed} seeds, if the difference is what it seems; "
            "four such comparisons of five then find it."
        )


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
    return compare_all(records_dir, (first, second), table, data_root)[0]


def compare_all(
    records_dir: Path | None, methods: Sequence[str], table: str | None = None, data_root: Path | None = None
) -> list[Comparison]:
    """Compare the first method with each of the others; see `compare`.

    Several comparisons find a difference by chance more often than one: their p-values are adjusted after Holm.
    """
    if len(methods) < 2:
        raise UserError("compare: name two methods or more; the first is the one that the others are compared with")
    name, found, rows = rows_of(records_dir, methods, table)
    pairs = [_common_runs(found, methods, rows, place) for place in range(1, len(rows))]
    labels, without = labels_of(found.key, rows[0].newest.test_sha256, data_root)
    spreads = {score: seed_spread(found, score) for score in COMPARED}
    compared = []
    for second, runs in zip(rows[1:], pairs, strict=True):
        images, without_these = _images(runs, labels)
        several = (_difference(score, runs, images, spreads[score], LEVEL / len(pairs)) for score in COMPARED)
        known = tuple(difference for difference in several if difference is not None)
        seeds = tuple(pair[0].seed for pair in runs)
        yours, said = (rows[0].yours, second.yours), without or without_these
        compared.append(Comparison(name, rows[0].method, second.method, seeds, known, said, yours))
    return _adjusted(compared) if len(compared) > 1 else compared


def _adjusted(compared: list[Comparison]) -> list[Comparison]:
    """With the p-values of top-1 after Holm, over seeds and over images each for itself."""
    columns = []
    for given in ([one.top1.p_seeds for one in compared], [one.top1.p_images for one in compared]):
        known = iter(holm([p for p in given if p is not None]))
        columns.append([None if p is None else next(known) for p in given])
    return [replace(one, holm=pair) for one, pair in zip(compared, zip(*columns, strict=True), strict=True)]


def rows_of(records_dir: Path | None, methods: Sequence[str], table: str | None) -> tuple[str, Table, list[Row]]:
    """The table that all the methods stand in, under its name, and their rows in it. See `compare`."""
    found = read_board(records_dir).tables
    if records_dir is not None and (asked := [method for method in methods if method.startswith(OFFICIAL)]):
        raise UserError(f"{asked[0]}: the shipped board is not read where --records names a folder")
    names = file_names(found)
    named = {names[one.key]: one for one in found}
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
    met = {name: [rows[0] for rows in several] for name, several in found.items() if all(several)}
    apart = {name: rows for name, rows in met.items() if not any(row is rows[0] for row in rows[1:])}
    all_of_them, why = " and ".join(methods), "" if apart else _why_not(named, found)
    if not met or why:
        raise UserError(f"{all_of_them} stand in no common table, so their numbers do not compare{why}")
    yours = {name: sum(row.yours for row in rows) for name, rows in (apart or met).items()}
    common = [name for name, number in yours.items() if number == max(yours.values())]
    if len(common) > 1 and apart:
        verb = "stand" if len(methods) > 1 else "stands"
        raise UserError(f"{all_of_them} {verb} in {len(common)} tables: choose --table {', '.join(common)}")
    return common[0]


def _why_not(named: Mapping[str, Table], found: Mapping[str, list[list[Row]]]) -> str:
    """In what two tables of one title differ of which the methods need both; empty where there are none."""
    for (name, rows), (other, others) in combinations(found.items(), 2):
        keys = [named[name].key, named[other].key]
        between_them = all(one or another for one, another in zip(rows, others, strict=True))
        if keys[0].slug == keys[1].slug and between_them and not (all(rows) and all(others)):
            return f": {name} and {other} differ by {' and '.join(differing(keys))}"
    return ""


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


def _common_runs(found: Table, methods: Sequence[str], rows: list[Row], place: int) -> list[tuple[Run, Run]]:
    """The runs of the first row and of another, seed by seed. Raises UserError where they have none in common."""
    first, second = rows[0], rows[place]
    if first is second:
        official = OFFICIAL + first.method.removesuffix(YOURS)
        hint = f"; the shipped board's is {official}" if first.yours and _rows(found, official) else ""
        if methods[0] != methods[place] and not first.yours:
            hint = f", and {methods[place]} is the same row: no record of yours is of this method in this table"
        raise UserError(f"{methods[0]}: two different methods are needed{hint}")
    common = [(run, second.runs[seed]) for seed, run in first.runs.items() if seed in second.runs]
    if not common:
        have = " and ".join(" ".join(map(str, row.runs)) for row in (first, second))
        raise UserError(f"{methods[0]} and {methods[place]} have no seed in common: they have {have}")
    return common


def _difference(
    score: str, pairs: list[tuple[Run, Run]], images: _Images | None, spread: float | None, level: float
) -> Difference | None:
    """What two methods have of a score, None where a run lacks it. `level` is what their p-value must not exceed."""
    values = np.array([[run.scores[score] for run in pair] for pair in pairs], dtype=float)  # [S, 2]
    if np.isnan(values).any():
        return None
    first, second = values.mean(0)
    differences = (values[:, 1] - values[:, 0]).tolist()
    mean, half = mean_interval(differences)
    own = 0.0 if len(differences) < 2 else float(np.std(differences, ddof=1))
    return Difference(
        score,
        float(first),
        float(second),
        mean,
        half,
        over_images=None if images is None else images.half_width(score),
        spread=spread,
        seeds_needed=None if spread is None else seeds_needed(mean, max(spread, own), level=1 - level),
        p_seeds=paired_p(differences),
        p_images=exchange_p(images.gains) if images is not None and score == "top1" else None,
    )


# --- over test images --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Images:
    """What a pair of methods makes of every test image."""

    gains: np.ndarray
    """How many more seeds the second has right, int64 [N]."""
    labels: IntArray
    """int64 [N]."""
    train_counts: tuple[int, ...]
    """[C]."""
    seeds: int

    def half_width(self, score: str) -> float | None:
        """Of the 95% interval of the difference in percent; None for a score that is no mean over images."""
        gains = 100 * self.gains / self.seeds
        if score == "top1":
            return mean_interval(gains.tolist())[1]
        if score not in GROUPS:
            return None
        classes = group_masks(self.train_counts)[score]
        total = np.bincount(self.labels, minlength=len(classes))
        members = classes[self.labels]
        # A group's figure is a mean over classes, however many images each has.
        weights = members.sum() / (classes & (total > 0)).sum() / total[self.labels[members]]
        return mean_interval((weights * gains[members]).tolist())[1]


def _images(pairs: list[tuple[Run, Run]], labels: IntArray | None) -> tuple[_Images | None, str]:
    """What two methods make of the test images, or why that is not known."""
    if labels is None:
        return None, ""
    if len({run.test_sha256 for pair in pairs for run in pair}) > 1:
        return None, DIFFERENT_ORDERS
    try:
        right = [[(_predicted(run) == labels).astype(int) for run in pair] for pair in pairs]  # [S][2][N]
    except UserError as error:
        return None, str(error)
    counts = load_record(pairs[0][0].path).dataset.train_counts
    gains = np.sum([second - first for first, second in right], axis=0)
    return _Images(gains, labels, counts, len(pairs)), ""


def labels_of(key: TableKey, test_sha256: str, data_root: Path | None) -> tuple[IntArray | None, str]:
    """The test labels [N] of a table in the order that has this digest, or why there are none."""
    try:
        return _test_labels(key, test_sha256, data_root), ""
    except UserError as error:
        return None, str(error)


def _test_labels(key: TableKey, test_sha256: str, data_root: Path | None) -> IntArray:
    from lt_bench.data.opening import open_split  # noqa: PLC0415 (it imports torch, which tables do without)

    fields = {"name": key.dataset, "factor": key.factor, "profile": key.profile, "subset_seed": key.subset_seed}
    split = open_split(DataSpec.read(fields), data_root)
    if split.test_sha256 != test_sha256:
        same = part_of(split.test_sha256, split.card.test_fingerprint) == key.test_part
        said = "stand in another order than" if same else "are not"
        raise UserError(f"the test images of {key.dataset} at hand {said} those that the records were evaluated on")
    return split.test.labels


def _predicted(run: Run) -> np.ndarray:
    return load_predictions(run.path, load_record(run.path))[0]
