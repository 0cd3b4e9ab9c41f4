"""What one's runs reach on images held out of training: settings are chosen by these and not by the test set."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lt_bench.errors import UserError
from lt_bench.evaluation.significance import mean_interval, rank_ranges
from lt_bench.leaderboard.aggregate import method_name
from lt_bench.leaderboard.by_card import own_split
from lt_bench.leaderboard.record import Record, data_slug, latest
from lt_bench.leaderboard.track import condition
from lt_bench.resources import RECORDS

HELD_OUT = "data.validation_per_class="
"""Begins the override that all runs of a table have, so that no row is named by it."""


class Key(NamedTuple):
    """What runs were trained on and validated with. The protocol may differ: that may be what is chosen."""

    data: str
    """Data set, factor, profile, split and label noise."""
    index_sha256: str
    content_sha256: str
    validation_sha256: str
    """Of the indices of the held-out images; empty where the part is the data set's own."""
    noise_sha256: str
    split_sha256: str
    """See `by_card.own_split`."""

    @property
    def title(self) -> str:
        split = (self.split_sha256 or self.index_sha256)[:12]
        return f"{self.data}, split {split}, validated on {self.validation_sha256[:12] or 'its own part'}"


@dataclass(frozen=True)
class Choice:
    """A recipe over its seeds; accuracies in percent of the held-out images."""

    method: str
    protocol: str
    seeds: tuple[int, ...]
    last: float
    """Mean after the last epoch, by which it is ranked."""
    interval: float | None
    """Half-width of its 95% Student t interval; None for one seed."""
    best: float
    """Mean of the best epoch of each run."""
    rank: tuple[int, int] | None
    """Best and worst place that the differences of `last` allow, taken seed by seed; None for one seed."""


class _Tried(NamedTuple):
    key: Key
    method: str
    protocol: str
    recipe_sha256: str
    seed: int
    created: str
    curve: list[float]
    """Top-1 after each epoch with an evaluation."""


def choices(records: Path | None) -> dict[Key, list[Choice]]:
    """The recipes that were tried, the best on the held-out images first.

    Args:
        records: Their folder; None: `results/records` of the working folder.

    Raises:
        UserError: No run there has held-out images.
    """
    folder = records or RECORDS
    tables: dict[Key, list[_Tried]] = defaultdict(list)
    for one in latest(folder, _tried):
        if one is not None:
            tables[one.key].append(one)
    if not tables:
        raise UserError(
            f"{folder}: no run there held images out; {HELD_OUT}K does, or a validation part of the data set"
        )
    return {key: _choices(tables[key]) for key in sorted(tables)}


def _tried(_: Path, record: Record) -> _Tried | None:
    curve = [100 * value for value in record.curve.val_top1 if value is not None]
    if not curve or record.superseded:
        return None
    data, noise = record.dataset, condition(record).sha256
    digests = data.index_sha256, data.content_sha256, data.validation_sha256 or "", noise, own_split(data)
    key = Key(data_slug(record), *digests)
    said = tuple(text for text in record.overrides if not text.startswith(HELD_OUT))
    method = method_name(record.model_copy(update={"overrides": said}))
    return _Tried(key, method, record.protocol.name, record.recipe_sha256, record.seed, record.created, curve)


def _choices(tried: list[_Tried]) -> list[Choice]:
    recipes: dict[str, dict[int, _Tried]] = defaultdict(dict)
    for one in sorted(tried, key=lambda one: one.created):
        recipes[one.recipe_sha256][one.seed] = one  # the newest of a seed
    several = [sha256 for sha256, runs in recipes.items() if len(runs) > 1]
    seeds = sorted({one.seed for one in tried})
    last = [
        [recipes[sha256][seed].curve[-1] if seed in recipes[sha256] else np.nan for seed in seeds] for sha256 in several
    ]
    ranks = dict(zip(several, rank_ranges(np.array(last)), strict=True))
    found = [_choice(list(runs.values()), ranks.get(sha256)) for sha256, runs in recipes.items()]
    return sorted(found, key=lambda choice: (-choice.last, choice.method))


def _choice(runs: list[_Tried], rank: tuple[int, int] | None) -> Choice:
    last, interval = mean_interval([one.curve[-1] for one in runs])
    best, _ = mean_interval([max(one.curve) for one in runs])
    seeds = tuple(sorted(one.seed for one in runs))
    return Choice(runs[-1].method, runs[-1].protocol, seeds, last, interval, best, rank)
