"""From records to the rows of a table: scores per run, means over seeds, ranks.

All scores are percentages, as the field prints them.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from lt_bench.data.groups import GROUPS
from lt_bench.evaluation import metrics
from lt_bench.evaluation.significance import mean_interval, rank_ranges
from lt_bench.identity import digest
from lt_bench.leaderboard.by_card import looks_of
from lt_bench.leaderboard.evidence import Evidence
from lt_bench.leaderboard.noise import noise_scores
from lt_bench.leaderboard.probabilities import are_probabilities
from lt_bench.leaderboard.record import Record, data_slug, slug
from lt_bench.leaderboard.schema import External
from lt_bench.leaderboard.track import Condition, condition, place

Scores = Mapping[str, float | None]

YOURS = " (yours)"
"""How the title of one's own row ends."""

SCORES = ("top1", *GROUPS, "balanced", "harmonic", "worst_class", "ece", "best_on_val", "best_on_test", "gap")
"""What `scores` gives: all of `last` but the top-1 of the other selections; `gap` is best-on-test minus last."""


class TableKey(NamedTuple):
    """What all runs of one table have in common. Numbers under different keys are not comparable."""

    dataset: str
    factor: float | None
    profile: str | None
    subset_seed: int
    protocol: str
    modified: bool
    dataset_version: str
    protocol_version: str
    protocol_sha256: str
    index_sha256: str
    content_sha256: str
    test_part: str
    """See `test_parts`."""
    test_images: int
    flip: str
    """Of one's own set, whose card may change: whether images are mirrored. Empty for one that ships."""
    normalisation: str
    """Likewise the digest of mean and standard deviation."""
    largest: int
    smallest: int
    slug: str
    """Start of the table's file name."""
    condition: Condition
    """Its track, and what that asks for."""

    @property
    def condition_sha256(self) -> str:
        return self.condition.sha256


@dataclass(frozen=True)
class Run:
    """What a table needs of one record."""

    path: Path
    key: TableKey
    test_sha256: str
    """Of the test images in the order of its predictions."""
    method: str
    recipe_sha256: str
    identity: str
    seed: int
    created: str
    scores: Scores
    figure: Mapping[str, Any]
    recipe_name: str
    overrides: tuple[str, ...]
    n_max: int | None
    plugged: bool
    """Whether a component came from a plug-in."""
    beside: bool
    """Whether plug-ins were loaded of which the recipe names no component."""
    commit: str | None
    evidence: Evidence
    external: External | None = None
    """Whose training it is, where it is none of this suite."""
    superseded: str | None = None
    """What has been corrected since in what it was made by; see `corrections`."""
    yours: bool = False
    """Whether it is one's own and stands beside those of the shipped board."""

    @classmethod
    def of(cls, path: Path, record: Record, yours: bool = False) -> Self:
        made, named = record.environment, record.recipe.get("plugins") or {}
        return cls(
            path=path,
            key=table_key(record),
            test_sha256=record.dataset.test_sha256,
            method=method_name(record),
            recipe_sha256=record.recipe_sha256,
            identity=record.identity,
            seed=record.seed,
            created=record.created,
            scores=scores(record),
            figure=reported_figure(record),
            recipe_name=record.recipe_name,
            overrides=record.overrides,
            n_max=record.recipe["data"]["n_max"],
            plugged=bool(named),
            beside=bool(made and set(made.plugins) - set(named.values())),
            commit=None if made is None else made.commit,
            evidence=Evidence.of(record),
            external=record.external,
            superseded=record.superseded,
            yours=yours,
        )


@dataclass(frozen=True)
class Row:
    """One resolved recipe over its seeds."""

    method: str
    recipe_sha256: str
    runs: Mapping[int, Run]
    """The run of each seed, the newest where there are several."""
    top1: float
    """Mean over seeds, under the selection `last`."""
    interval: float | None
    """Half-width of the 95% interval of the mean top-1, None for one seed."""
    means: Scores
    """Mean over seeds of each of the `scores`, None where a run lacks it."""
    paper: str
    """Source of the published figure; empty where none was obtained under the table's protocol."""
    paper_top1: float | None
    verified: bool | None
    rank: tuple[int, int] | None = None
    """Best and worst place that the paired differences allow; None for what is superseded or external, and one seed."""
    superseded: str | None = None
    """That of its runs, which have one recipe."""
    yours: bool = False
    """That of its runs."""
    external: External | None = None
    """That of its newest run."""

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.runs)

    @property
    def newest(self) -> Run:
        """The run that was made last, whatever its seed."""
        return max(self.runs.values(), key=lambda run: run.created)

    @property
    def difference(self) -> float | None:
        return None if self.paper_top1 is None else self.top1 - self.paper_top1


@dataclass(frozen=True)
class Table:
    """The comparable rows, best mean top-1 of `last` first."""

    key: TableKey
    rows: tuple[Row, ...]


def scores(record: Record) -> dict[str, float | None]:
    """The scores of one run, in percent; None where there is none, for example without a validation part.

    Those of `SCORES`, and behind them `noise_scores`.
    """
    last = record.selections["last"]
    accuracy = metrics.accuracy_by_class(last.correct, last.total)
    calibrated = last.calibration.count and are_probabilities(record.recipe)
    top1 = {rule: chosen.top1 for rule, chosen in record.selections.items()}
    best = top1.get("best-on-test")
    found = {
        "top1": top1["last"],
        **metrics.group_accuracy(accuracy, record.dataset.train_counts),
        "balanced": metrics.balanced(accuracy),
        "harmonic": metrics.harmonic(accuracy),
        "worst_class": metrics.worst_class(accuracy),
        "ece": metrics.ece(last.calibration.bins) if calibrated else None,
        "best_on_val": top1.get("best-on-val"),
        "best_on_test": best,
        "gap": None if best is None else best - top1["last"],
    }
    every = {name: found[name] for name in SCORES} | noise_scores(record)
    return {name: _percent(value) for name, value in every.items()}


def method_name(record: Record) -> str:
    """The recipe's name, and in parentheses what makes it another: overrides, a fault corrected since, its origin."""
    apart = [*record.overrides, *(["superseded"] if record.superseded else [])]
    apart += [f"external, {record.external.by}"] if record.external else []
    return f"{record.recipe_name} ({', '.join(apart)})" if apart else record.recipe_name


def places(rank: tuple[int, int] | None) -> str:
    """A rank range as a table has it."""
    if rank is None:
        return "–"
    best, worst = rank
    return str(best) if best == worst else f"{best}–{worst}"


def reported_figure(record: Record) -> Mapping[str, Any]:
    """The paper's figure for this experiment: the first under `reported` of its protocol and factor; else empty.

    A modified protocol, an overridden method or a faulty one is another experiment than the paper's.
    """
    reported = record.recipe.get("reported")
    another = record.protocol.modified or record.overrides or record.superseded or record.external
    if another or not isinstance(reported, list):
        return {}
    figures: list[dict[str, Any]] = [figure for figure in reported if isinstance(figure, dict)]
    for figure in figures:
        same = figure.get("protocol") == record.protocol.name
        if same and figure.get("factor") in (None, record.dataset.factor) and _is_number(figure.get("top1")):
            return figure
    return {}


def table_key(record: Record) -> TableKey:
    data, protocol = record.dataset, record.protocol
    modified = f"-modified-{protocol.sha256[:8]}" if protocol.modified else ""
    looks = looks_of(data, held_out="best-on-val" in record.selections)
    return TableKey(
        dataset=data.name,
        factor=data.factor,
        profile=data.profile,
        subset_seed=data.subset_seed,
        protocol=protocol.name,
        modified=protocol.modified,
        dataset_version=str(data.version),
        protocol_version=str(protocol.version),
        protocol_sha256=protocol.sha256,
        index_sha256=data.index_sha256,
        content_sha256=data.content_sha256,
        test_part=data.test_part,
        test_images=record.test_images,
        flip="" if looks is None else "yes" if looks.flip else "no",
        normalisation="" if looks is None else digest([looks.mean, looks.std]),
        largest=max(data.train_counts),
        smallest=min(data.train_counts),
        slug=f"{data_slug(record)}-{slug(protocol.name)}{modified}",
        condition=condition(record),
    )


def tables(runs: Iterable[Run], rank_external: bool = False) -> list[Table]:
    """All tables of the runs, by track, data set, factor and protocol. External rows are ranked only if asked."""
    by_table = _grouped(runs, lambda run: run.key)
    return [Table(key, _rows(by_table[key], rank_external)) for key in sorted(by_table, key=_order)]


def _order(key: TableKey) -> tuple[Any, ...]:
    return place(key.condition.track), key.dataset, key.factor or 0.0, key.profile or "", key[3:]


def _rows(runs: list[Run], rank_external: bool) -> tuple[Row, ...]:
    rows = [_row(seeds) for seeds in _grouped(runs, lambda run: (run.recipe_sha256, run.yours)).values()]
    names = Counter((row.method, row.yours) for row in rows)
    rows = [replace(row, method=_title(row, alone=names[row.method, row.yours] == 1)) for row in rows]
    rows.sort(key=lambda row: (-row.top1, row.method))
    return _ranked(rows, rank_external)


def _row(runs: list[Run]) -> Row:
    # A seed counts once: the same recipe under two identities (another plug-in file, say) is not a second seed.
    newest_last = sorted(runs, key=lambda run: run.created)
    by_seed = dict(sorted({run.seed: run for run in newest_last}.items()))
    chosen = list(by_seed.values())
    newest = newest_last[-1]
    columns = {name: [run.scores.get(name) for run in chosen] for name in newest.scores}
    top1, interval = mean_interval([value for value in columns["top1"] if value is not None])
    return Row(
        method=newest.method,
        recipe_sha256=newest.recipe_sha256,
        runs=by_seed,
        top1=top1,
        interval=interval,
        means={name: _mean(values) for name, values in columns.items()},
        paper=str(newest.figure.get("paper", "")),
        paper_top1=newest.figure.get("top1"),
        verified=bool(newest.figure.get("verified", False)) if newest.figure else None,
        superseded=newest.superseded,
        yours=newest.yours,
        external=newest.external,
    )


def _title(row: Row, *, alone: bool) -> str:
    """The method, and what tells the row from others of its name."""
    return row.method + ("" if alone else f" [{row.recipe_sha256[:8]}]") + (YOURS if row.yours else "")


def _ranked(rows: list[Row], rank_external: bool) -> tuple[Row, ...]:
    """Give each row of several seeds the places that remain once the rows surely better and worse have taken theirs."""
    several = [row for row in rows if row.n > 1 and not row.superseded and (rank_external or not row.external)]
    seeds = sorted({seed for row in several for seed in row.runs})
    top1 = [[row.runs[seed].scores["top1"] if seed in row.runs else None for seed in seeds] for row in several]
    ranges = rank_ranges(np.array(top1, dtype=float))  # None becomes NaN
    ranks = {(row.recipe_sha256, row.yours): found for row, found in zip(several, ranges, strict=True)}
    return tuple(replace(row, rank=ranks.get((row.recipe_sha256, row.yours))) for row in rows)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    # A mean over the runs that happen to have a score is not the mean of the row.
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def _grouped(runs: Iterable[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    groups = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return groups


def _percent(value: float | None) -> float | None:
    return 100 * value if value is not None and math.isfinite(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
