"""The rows of a table with all that is known of them, for machines: what CSV files and JSON hold."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from lt_bench.leaderboard.aggregate import Row, Table, TableKey
from lt_bench.leaderboard.evidence import Evidence
from lt_bench.leaderboard.repeating import command, commits


def full_rows(table: Table) -> list[dict[str, Any]]:
    """A mapping a row with all digits, whose keys are the columns of CSV files; None is a missing value."""
    return [_full(row, table.key) for row in table.rows]


def _full(row: Row, key: TableKey) -> dict[str, Any]:
    best, worst = row.rank or (None, None)
    return {
        "rank_best": best,
        "rank_worst": worst,
        "method": row.method,
        "recipe_sha256": row.recipe_sha256,
        "n": row.n,
        "seeds": " ".join(map(str, row.runs)),
        "top1_interval": digits(row.interval),
        **{name: digits(value) for name, value in row.means.items()},
        "paper": row.paper,
        "paper_top1": row.paper_top1,
        "difference": digits(row.difference),
        "verified": row.verified,
        **({"external": row.external.by} if row.external else {}),
        "command": command(row, key),
        "commits": " ".join(commits(row)),
        "network": row.newest.evidence.network,
        **_costs([run.evidence for run in row.runs.values()]),
        "index_sha256": key.index_sha256,
        "content_sha256": key.content_sha256,
        "protocol_sha256": key.protocol_sha256,
        **({"flip": key.flip, "normalisation": key.normalisation} if key.flip else {}),
    }


def _costs(runs: Sequence[Evidence]) -> dict[str, Any]:
    """The mean seconds of runs where all tell them, and on what they were made."""
    seconds = [run.seconds for run in runs if run.seconds is not None]
    made = [run.made for run in runs if run.made is not None]
    devices = dict.fromkeys(one.cpu if one.device == "cpu" else one.device for one in made)
    return {
        "seconds": digits(fmean(seconds) if len(seconds) == len(runs) else None),
        "devices": ", ".join(devices),
        "precision": ", ".join(dict.fromkeys(one.precision for one in made)),
    }


def digits(value: float | None) -> float | None:
    """All digits but those that depend on the version of the statistics library."""
    return None if value is None else round(value, 9)
