"""From a row of a table to the command that repeats it, its paper, and the code that it was made by."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lt_bench.bibliography import Paper, Papers
from lt_bench.data.cards import load_card
from lt_bench.errors import UserError
from lt_bench.leaderboard.aggregate import Row, TableKey
from lt_bench.leaderboard.record import load_record
from lt_bench.recipe.files import is_record
from lt_bench.recipe.layers import papers_of
from lt_bench.resources import resource_folder

if TYPE_CHECKING:
    from lt_bench.recipe import Recipe


def recorded_recipe(path: Path, overrides: Sequence[str] = ()) -> tuple[Recipe, int]:
    """What a record says that was run: recipe and seed. Raises UserError where it cannot be run as it was."""
    from lt_bench.recipe.loading import recorded  # noqa: PLC0415 (imports torch, which the tables do without)

    record = load_record(path)
    if record.external is not None:
        raise UserError(f"{path}: trained by {record.external.by} with another program, which this suite cannot run")
    if overrides:
        raise UserError(f"{path}: a record is repeated as it was, without {overrides[0]}")
    return recorded(record.recipe, path), record.seed


def show_any(name: str, overrides: Sequence[str]) -> str:
    """What `show` prints of a recipe, or of a record. Raises UserError where it is neither or cannot be run."""
    from lt_bench.recipe.showing import show, show_recorded  # noqa: PLC0415

    return show_recorded(recorded_recipe(Path(name), overrides)[0], name) if is_record(name) else show(name, overrides)


def command(row: Row, key: TableKey) -> str:
    """The command line that repeats the runs of a row; empty where only its records say what they were.

    That is so under a modified protocol, for what has been corrected since or was trained elsewhere, where two recipes
    have one name, and for settings, methods and plug-ins of one's own, also where those were only loaded.
    """
    newest = row.newest
    ambiguous = f" [{row.recipe_sha256[:8]}]" in row.method
    ours = _ships("settings", key.dataset) and _ships("", newest.recipe_name) and not newest.plugged
    beside = any(run.beside for run in row.runs.values())
    if key.modified or row.superseded or row.external or beside or ambiguous or not ours:
        return ""
    given = {"factor": key.factor, "profile": None if key.profile == "exponential" else key.profile}
    given |= {"subset_seed": key.subset_seed or None}
    given |= {"n_max": None if newest.n_max == _usual_n_max(key.dataset) else newest.n_max}
    split = [f"data.{name}={_plain(value)}" for name, value in given.items() if value is not None]
    asked = [f"protocol={key.protocol}", *split, *key.condition.overrides, *newest.overrides]
    words = [f"{key.dataset}/{newest.recipe_name}", *asked]
    return shlex.join(["lt-bench", "run", *words, "--seeds", ",".join(map(str, row.runs))])


def paper(row: Row) -> Paper | None:
    """The paper that the method of a row is from; None where no recipe that ships names one."""
    return next(iter(papers(row).values()), None)


def papers(row: Row) -> Papers:
    """All papers that the method of a row is from, first the one that proposes it; see `paper`."""
    return {} if row.newest.plugged or row.external else papers_of(row.newest.recipe_name)


def commits(row: Row) -> list[str]:
    """The commits that the runs of a row were made by, each once, in the order of the seeds."""
    return list(dict.fromkeys(run.commit for run in row.runs.values() if run.commit))


@cache
def _usual_n_max(dataset: str) -> int | None:
    """That of the card, which every row of a table would read again."""
    return load_card(dataset).n_max


def _ships(folder: str, name: str) -> bool:
    return (resource_folder("recipes") / folder / f"{name}.yaml").is_file()


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
