"""How noisy each score of a table is: columns that are printed alike are not equally sure."""

from __future__ import annotations

import numpy as np

from lt_bench.data.groups import GROUPS
from lt_bench.evaluation.significance import paired_spread
from lt_bench.leaderboard.aggregate import Table

MOST_ROWS = 200
"""Of a longer table rows at equal distances, because pairs are their square."""


def seed_spread(table: Table, score: str) -> float | None:
    """Deviation of the difference of two rows from seed to seed, in percent; see `paired_spread`.

    Superseded rows count: their seeds spread as others do.
    """
    rows = table.rows[:: -(-len(table.rows) // MOST_ROWS)]
    seeds = sorted({seed for row in rows for seed in row.runs})
    scores = [[row.runs[seed].scores[score] if seed in row.runs else None for seed in seeds] for row in rows]
    return paired_spread(np.array(scores, dtype=float))


def spread(table: Table) -> list[str]:
    """A line that sets the noise of the groups beside that of top-1; none where no two rows share two seeds."""
    found = {score: value for score in ("top1", *GROUPS) if (value := seed_spread(table, score)) is not None}
    if "top1" not in found or len(found) == 1:
        return []
    top1, *groups = (f"{value:.2f}" for value in found.values())
    of_groups = ", ".join(f"{value} of {name}" for value, name in zip(groups, list(found)[1:], strict=True))
    return [f"From seed to seed the difference of two rows spreads by {top1} points of top-1, {of_groups}."]
