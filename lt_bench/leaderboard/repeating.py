"""From a row of a table to the command that repeats it, and to the code that it was made by."""

from __future__ import annotations

import shlex

from lt_bench.leaderboard.aggregate import Row, TableKey


def command(row: Row, key: TableKey) -> str:
    """The command line that repeats the runs of a row; empty where only its records say what they were.

    That is so under a modified protocol, for what has been corrected since, and where two recipes have one name.
    """
    newest = max(row.runs.values(), key=lambda run: run.created)
    ambiguous = row.method.endswith(f"[{row.recipe_sha256[:8]}]")
    if key.modified or row.superseded or ambiguous:
        return ""
    given = {"factor": key.factor, "profile": None if key.profile == "exponential" else key.profile}
    given |= {"subset_seed": key.subset_seed or None}
    split = [f"data.{name}={_plain(value)}" for name, value in given.items() if value is not None]
    words = [f"{key.dataset}/{newest.recipe_name}", f"protocol={key.protocol}", *split, *newest.overrides]
    return shlex.join(["lt-bench", "run", *words, "--seeds", ",".join(map(str, row.runs))])


def commits(row: Row) -> list[str]:
    """The commits that the runs of a row were made by, each once, in the order of the seeds."""
    return list(dict.fromkeys(run.commit for run in row.runs.values() if run.commit))


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
