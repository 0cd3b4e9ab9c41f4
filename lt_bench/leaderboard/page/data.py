"""What the page knows, as plain data in few bytes.

Scores are percent, rounded to four digits. Counts of each class are base64 of integers of 16 bits, little-endian,
since there is one for every run and class (32 bits where 16 do not do). What many runs share stands once and is
referred to by its index.
"""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lt_bench.data.groups import FEW_BELOW, MANY_ABOVE
from lt_bench.leaderboard.aggregate import SCORES, Row, Run, Table, TableKey
from lt_bench.leaderboard.agreement import MOST_SEEDS, squares
from lt_bench.leaderboard.evidence import Classes, Evidence, Made, Points
from lt_bench.leaderboard.naming import Shown
from lt_bench.leaderboard.repeating import command, paper
from lt_bench.leaderboard.sources import Board, shipped_records
from lt_bench.markdown import one_line
from lt_bench.resources import RECORDS

T = TypeVar("T")

MOST = 1e9
"""No figure of a paper is as large."""
FIGURE = ("top1", "many", "medium", "few")
"""What papers print."""


class Shared(dict[T, int]):
    """Values that are told once, with the index under which others refer to them."""

    def index(self, value: T) -> int:
        return self.setdefault(value, len(self))


class Gathered:
    """What is collected while the rows are told."""

    def __init__(self, board: Board, out_dir: Path | None) -> None:
        self.classes: Shared[Classes] = Shared()
        self.made: Shared[Made] = Shared()
        self.folders: Shared[tuple[str, str | None]] = Shared()
        self._board = board
        self._out_dir = out_dir.resolve() if out_dir else None

    def folder(self, run: Run) -> int:
        """Where the record of a run lies: below the root of the records, and from the page where that links to it."""
        root = self._board.records or (RECORDS if run.yours else shipped_records())
        return self.folders.index(_place(run.path.parent, root, self._out_dir))


@lru_cache(1024)
def _place(folder: Path, root: Path, out_dir: Path | None) -> tuple[str, str | None]:
    whole = folder.resolve()
    below = out_dir is not None and whole.is_relative_to(out_dir)
    return folder.relative_to(root).as_posix(), whole.relative_to(out_dir).as_posix() if out_dir and below else None


def page_data(shown: Sequence[Shown], board: Board, out_dir: Path | None) -> dict[str, Any]:
    """All that the page shows of the tables; `out_dir` is where it will lie, which links to the records start from."""
    gathered = Gathered(board, out_dir)
    rows = [
        {"table": index, **_row(row, one.table.key, gathered)}
        for index, one in enumerate(shown)
        for row in one.table.rows
    ]
    further = dict.fromkeys(name for one in shown for row in one.table.rows for name in row.means)
    return {
        "scores": list(dict.fromkeys((*SCORES, *further))),
        "many_above": MANY_ABOVE,
        "few_below": FEW_BELOW,
        "bound_seeds": MOST_SEEDS,
        "tables": list(map(_table, shown)),
        "classes": list(map(_classes, gathered.classes)),
        "made": [{name: _text(value) for name, value in one._asdict().items()} for one in gathered.made],
        "folders": [{"path": path, "link": link} for path, link in gathered.folders],
        "rows": rows,
    }


def _table(shown: Shown) -> dict[str, Any]:
    key = shown.table.key
    return {
        "name": shown.name,
        "title": one_line(shown.title),
        "about": one_line(shown.about),
        "dataset": one_line(key.dataset),
        "factor": key.factor,
        "protocol": one_line(key.protocol) + (" (modified)" if key.modified else ""),
        "track": key.condition.track,
        "test_images": key.test_images,
        "squares": _squares(shown.table),
    }


def _squares(table: Table) -> str:
    """The bounds of `agreement.squares` in steps of 1/65535, rounded up."""
    return base64.b64encode(np.ceil(np.array(squares(table.rows)) * 65535).astype("<u2").tobytes()).decode()


def _row(row: Row, key: TableKey, gathered: Gathered) -> dict[str, Any]:
    runs, newest = list(row.runs.values()), row.newest
    source = paper(row)
    return {
        "id": row.recipe_sha256[:10] + ("y" if row.yours else ""),
        "method": one_line(row.method),
        "recipe": one_line(newest.recipe_name),
        "changes": [one_line(change) for change in newest.overrides],
        "families": newest.evidence.families,
        "network": one_line(newest.evidence.network),
        "paper": source and {"year": source.year, "cite": one_line(source.citation), "link": source.link},
        "rank": row.rank,
        "interval": _short(row.interval),
        "means": {name: _short(value) for name, value in row.means.items() if value is not None},
        "printed": _number(row.paper_top1),
        "verified": row.verified,
        "figures": [_figure(figure) for figure in newest.evidence.figures],
        "superseded": row.superseded and one_line(row.superseded),
        "yours": row.yours,
        "external": newest.evidence.external and one_line(newest.evidence.external),
        "command": command(row, key),
        "classes": gathered.classes.index(newest.evidence.classes),
        "runs": [_run(run, gathered) for run in runs],
        "bins": _bins([run.evidence for run in runs]),
        "accuracy": _curve([run.evidence.accuracy for run in runs]),
        "loss": _curve([run.evidence.loss for run in runs]),
    }


def _run(run: Run, gathered: Gathered) -> dict[str, Any]:
    told = run.evidence
    return {
        "seed": str(run.seed),  # a script's numbers have 53 bits, a seed has 63
        "folder": gathered.folder(run),
        "file": run.path.name,
        "created": run.created,
        "made": None if told.made is None else gathered.made.index(told.made),
        "seconds": _short(told.seconds),
        "images_per_s": _short(told.images_per_s),
        "memory_mb": told.peak_memory_mb and _short(told.peak_memory_mb),
        "ece": _short(run.scores["ece"]),
        "correct": _counts(told.correct),
    }


def _classes(classes: Classes) -> dict[str, Any]:
    return {"names": list(map(one_line, classes.names)), "train": classes.train, "test": classes.test}


def _figure(figure: Mapping[str, Any]) -> dict[str, Any]:
    """A published figure; what records hold of it has not been validated."""
    named = {name: one_line(str(figure.get(name) or "")) for name in ("paper", "protocol")}
    numbers = {name: _number(figure.get(name)) for name in ("factor", *FIGURE)}
    return {**named, **numbers, "verified": bool(figure.get("verified"))}


def _bins(told: list[Evidence]) -> list[list[Any]]:
    """Predictions, right ones and mean confidence of each bin, over all seeds whose confidences are known."""
    told = [run for run in told if run.bins[0]]
    if not told:
        return [[], [], []]
    count, correct, confidence = (np.sum([run.bins[part] for run in told], axis=0) for part in range(3))
    means = [_short(total / number) if number else None for total, number in zip(confidence, count, strict=True)]
    return [count.tolist(), correct.tolist(), means]


def _curve(curves: list[Points]) -> list[list[Any]]:
    """Epochs, and the mean over the runs that have the epochs of the first."""
    alike = [curve.value for curve in curves if curve.epoch == curves[0].epoch]
    return [curves[0].epoch.tolist(), [_short(float(value)) for value in np.mean(alike, axis=0)]]


def _counts(counts: array[int]) -> str:
    width = "<u2" if max(counts) < 2**16 else "<u4"  # told apart by the number of classes
    return base64.b64encode(np.asarray(counts, width).tobytes()).decode()


def _text(value: Any) -> Any:
    return one_line(value) if isinstance(value, str) else value


def _number(value: Any) -> float | None:
    """A number that JSON and a script have."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and -MOST < value < MOST
    return float(value) if usable else None


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)
