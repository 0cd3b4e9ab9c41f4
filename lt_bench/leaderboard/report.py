"""What the figures of a paper show of methods: how they learnt, which classes they know, what they are sure of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

import numpy as np

from lt_bench.data.groups import GROUPS, group_masks
from lt_bench.errors import UserError
from lt_bench.evaluation.metrics import CalibrationBins, FloatArray, accuracy_by_class, ece
from lt_bench.leaderboard.aggregate import table_key
from lt_bench.leaderboard.comparison import DIFFERENT_ORDERS, labels_of, rows_of
from lt_bench.leaderboard.naming import by_method
from lt_bench.leaderboard.probabilities import are_probabilities
from lt_bench.leaderboard.record import Record, find_record, load_predictions, load_record
from lt_bench.resources import RECORDS

RIGHT = "right"
DESTINATIONS = (RIGHT, *(f"another class, {group}" for group in reversed(GROUPS)))
"""What an image is taken for, in the order that the figure has."""


@dataclass(frozen=True)
class Shown:
    """One method: a record for each seed."""

    title: str
    records: Sequence[tuple[Path, Record]]

    @property
    def newest(self) -> Record:
        return max((record for _, record in self.records), key=lambda record: record.created)

    @cached_property
    def train_counts(self) -> np.ndarray:
        """Training images per class, int64 [C]."""
        return np.array(self.newest.dataset.train_counts)

    def curve(self, name: str) -> tuple[list[int], FloatArray]:
        """A quantity of the curve after so many finished epochs [E], float64 [S, E]; epochs without it are left out.

        The epochs of a second stage follow those of its first.
        """
        values = np.array([getattr(record.curve, name) for _, record in self.records], dtype=float)  # None becomes NaN
        known = ~np.isnan(values).any(0)
        before = self.newest.recipe["protocol"]["epochs"] if self.newest.first_stage else 0
        return (before + 1 + np.flatnonzero(known)).tolist(), values[:, known]

    @cached_property
    def accuracy(self) -> FloatArray:
        """Percent of each class, mean over the seeds, float64 [C]."""
        last = (record.selections["last"] for _, record in self.records)
        mean: FloatArray = np.mean([100 * accuracy_by_class(one.correct, one.total) for one in last], axis=0)
        return mean

    @cached_property
    def bins(self) -> CalibrationBins | None:
        """Confidences of all seeds together; None where they are not known, or no probabilities."""
        found = [record.selections["last"].calibration.bins for _, record in self.records]
        if not all(len(bins.count) for bins in found) or not are_probabilities(self.newest.recipe):
            return None
        columns = ("count", "correct", "confidence_sum")
        return CalibrationBins(*(np.sum([getattr(bins, name) for bins in found], axis=0) for name in columns))

    @property
    def ece(self) -> float:
        """In percent, mean over the seeds, as in the tables; that of all their confidences together may be lower."""
        found = (record.selections["last"].calibration.bins for _, record in self.records)
        return 100 * fmean(map(ece, found))

    def destinations(self, labels: np.ndarray, group: str = "few") -> FloatArray | None:
        """Where the test images of a group's classes go: percent of each of `DESTINATIONS`, by class and seed.

        None where the group has no test images.
        """
        masks = group_masks(self.train_counts)
        chosen = masks[group][labels]
        if not chosen.any():
            return None
        shares = [self._shares(load_predictions(*pair)[0][chosen], labels[chosen], masks) for pair in self.records]
        mean: FloatArray = np.mean(shares, axis=0)
        return mean

    @staticmethod
    def _shares(predicted: np.ndarray, labels: np.ndarray, masks: dict[str, np.ndarray]) -> list[float]:
        wrong = predicted != labels
        images = np.bincount(labels)
        weights = 100 / np.count_nonzero(images) / images[labels]  # of an image in the mean over its classes
        going = [~wrong, *(wrong & masks[group][predicted] for group in reversed(GROUPS))]
        return [float(weights[chosen].sum()) for chosen in going]


def shown(records_dir: Path | None, wanted: Sequence[str], table: str | None = None) -> list[Shown]:
    """The methods that are asked for.

    Args:
        records_dir: Root of the records, as for `compare`.
        wanted: Methods of one table, as it names them; or files of records and folders of runs, of which those of one
            recipe are a method.
        table: Name of the table's file; needed where the methods stand together in several.

    Raises:
        UserError: A method is not known, a file is no record, or they are not of one test set.
    """
    paths = [_record_of(Path(name), records_dir) for name in wanted if name.endswith(".json") or Path(name).is_dir()]
    if paths and len(paths) < len(wanted):
        raise UserError("report: give names of methods, or records and folders of runs, not both")
    found = [Shown(*method) for method in by_method(paths)] if paths else _of_rows(records_dir, wanted, table)
    for one in found[1:]:
        if one.newest.dataset.test_part != found[0].newest.dataset.test_part:
            raise UserError(f"{found[0].title} and {one.title} were tested on different images")
        if one.newest.dataset.train_counts != found[0].newest.dataset.train_counts:
            raise UserError(f"{found[0].title} and {one.title} were trained on classes of different sizes")
    return found


def test_labels(found: Sequence[Shown], data_root: Path | None) -> tuple[np.ndarray | None, str]:
    """Labels int64 [N] of the test images in the order of all predictions, or why they are not at hand."""
    newest = found[0].newest
    if len({record.dataset.test_sha256 for one in found for _, record in one.records}) > 1:
        return None, DIFFERENT_ORDERS
    return labels_of(table_key(newest), newest.dataset.test_sha256, data_root)


def _of_rows(records_dir: Path | None, wanted: Sequence[str], table: str | None) -> list[Shown]:
    rows = rows_of(records_dir, wanted, table)[2]
    return [Shown(row.method, tuple((run.path, load_record(run.path)) for run in row.runs.values())) for row in rows]


def _record_of(path: Path, records_dir: Path | None) -> Path:
    """The record of a run, which its folder has the identity of in its name."""
    if not path.is_dir():
        return path
    records = records_dir or RECORDS
    _, _, identity = path.resolve().name.partition("-")
    names = records.rglob(f"seed*-{identity}*.json") if identity and records.is_dir() else iter(())
    found = next((name for name in names if not name.name.startswith(".")), None)
    if found is None:
        raise UserError(f"{path}: there is no record of this run in {records}")
    return find_record(records, load_record(found).identity) or found
