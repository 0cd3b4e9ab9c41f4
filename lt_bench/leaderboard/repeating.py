"""From a row of a table to the command that repeats it, and to the code that it was made by."""

from __future__ import annotations

import shlex

from lt_bench.data.cards import load_card
from lt_bench.leaderboard.aggregate import Row, TableKey
from lt_bench.resources import resource_folder


def command(row: Row, key: TableKey) -> str:
    """The command line that repeats the runs of a row; empty where only its records say what they were.

    That is so under a modified protocol, for what has been corrected since, where two recipes have one name, and for
    settings, methods and plug-ins of one's own.
    """
    newest = max(row.runs.values(), key=lambda run: run.created)
    ambiguous = row.method.endswith(f"[{row.recipe_sha256[:8]}]")
    ours = _ships("settings", key.dataset) and _ships("", newest.recipe_name) and not newest.plugged
    if key.modified or row.superseded or ambiguous or not ours:
        return ""
    given = {"factor": key.factor, "profile": None if key.profile == "exponential" else key.profile}
    given |= {"subset_seed": key.subset_seed or None}
    given |= {"n_max": None if newest.n_max == load_card(key.dataset).n_max else newest.n_max}
    split = [f"data.{name}={_plain(value)}" for name, value in given.items() if value is not None]
    words = [f"{key.dataset}/{newest.recipe_name}", f"protocol={key.protocol}", *split, *newest.overrides]
    return shlex.join(["lt-bench", "run", *words, "--seeds", ",".join(map(str, row.runs))])


def commits(row: Row) -> list[str]:
    """The commits that the runs of a row were made by, each once, in the order of the seeds."""
    return list(dict.fromkeys(run.commit for run in row.runs.values() if run.commit))


def _ships(folder: str, name: str) -> bool:
    return (resource_folder("recipes") / folder / f"{name}.yaml").is_file()


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
