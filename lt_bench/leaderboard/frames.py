"""The records as data frames, for notebooks and figures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_bench.errors import UserError
from lt_bench.evaluation.classes import class_rows
from lt_bench.leaderboard.aggregate import SCORES, YOURS, method_name, scores, table_key
from lt_bench.leaderboard.record import Record
from lt_bench.leaderboard.sources import gather
from lt_bench.leaderboard.track import CLEAN, condition

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]


def frame(records_dir: Path | None = None, track: str = CLEAN) -> pd.DataFrame:
    """One row per run of a track, the latest revision of each; scores in percent, NaN where there is none.

    Of the records in a folder; without one, of your own in `results/records` beside those of the shipped board, with
    `yours` telling them apart and `(yours)` behind the method.

    Columns: those that name the run (record, the path of its file; yours, dataset, factor, profile, subset_seed,
    condition, empty on the clean track; flip and normalisation of a set of one's own, see `aggregate.TableKey`;
    protocol, modified, method, recipe_sha256, seed, identity), the scores of `aggregate.SCORES`, and epochs, wall_s
    (with that of a first stage) and train_images_per_s, NaN for runs elsewhere.
    """
    import pandas as pd  # noqa: PLC0415 (slow to import, and only notebooks need it)

    def rows(path: Path, record: Record, yours: bool) -> list[Row]:
        return [_run(path, record, yours) | scores(record) | _cost(record)]

    return pd.DataFrame(_latest(records_dir, track, rows)).astype(dict.fromkeys(("factor", *SCORES), float))


def per_class_frame(records_dir: Path | None = None, track: str = CLEAN) -> pd.DataFrame:
    """One row per run of a track and class, under the selection `last`, of the same runs as `frame`.

    Columns: those that name the run, then class_index, class_name, group, train_count, correct, total and
    accuracy in percent (NaN for a class without test images).
    """
    import pandas as pd  # noqa: PLC0415

    return pd.DataFrame(_latest(records_dir, track, _classes))


def _latest(records_dir: Path | None, track: str, make: Callable[[Path, Record, bool], list[Row]]) -> list[Row]:
    """All rows that are made of the runs; two recipes of one name in one table have the digest behind theirs."""

    def of_track(path: Path, record: Record, yours: bool) -> tuple[tuple[Any, ...], str, list[Row]] | None:
        if condition(record).track != track:
            return None
        return (table_key(record), method_name(record), yours), record.recipe_sha256, make(path, record, yours)

    found = [one for one in gather(None if records_dir is None else Path(records_dir), of_track) if one is not None]
    if not found:
        raise UserError(f"{records_dir}: there are no records of the track {track}")
    recipes = defaultdict(set)
    for named, sha256, _ in found:
        recipes[named].add(sha256)
    for (key, name, yours), sha256, rows in found:
        apart = f" [{sha256[:8]}]" if len(recipes[key, name, yours]) > 1 else ""
        for row in rows:
            row["method"] = name + apart + (YOURS if yours else "")
    return [row for _, _, rows in found for row in rows]


def _cost(record: Record) -> dict[str, float]:
    if record.timing is None:
        return dict.fromkeys(("epochs", "wall_s", "train_images_per_s"), math.nan)
    epochs, wall_s, images_per_s = record.timing.epochs, record.timing.wall_s, record.timing.train_images_per_s
    earlier = 0.0 if record.first_stage is None else record.first_stage.wall_s or 0.0
    return {"epochs": epochs, "wall_s": earlier + wall_s, "train_images_per_s": images_per_s}


def _run(path: Path, record: Record, yours: bool) -> Row:
    data, key = record.dataset, table_key(record)
    return {
        "record": str(path),
        "yours": yours,
        "dataset": data.name,
        "factor": data.factor,
        "profile": data.profile,
        "subset_seed": data.subset_seed,
        "condition": key.condition.title,
        "flip": key.flip,
        "normalisation": key.normalisation,
        "protocol": record.protocol.name,
        "modified": record.protocol.modified,
        "method": method_name(record),
        "recipe_sha256": record.recipe_sha256,
        "seed": record.seed,
        "identity": record.identity,
    }


def _classes(path: Path, record: Record, yours: bool) -> list[Row]:
    data, last = record.dataset, record.selections["last"]
    rows = class_rows(data.class_names, data.train_counts, last.correct, last.total)
    return [_run(path, record, yours) | row | {"accuracy": 100 * row["accuracy"]} for row in rows]
