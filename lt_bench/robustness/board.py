"""Tables of robustness: what attacks leave, by method, never beside what was measured without them.

A table holds what was looked at alike: data set, test images and how many of them, protocol, ball and attacks.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lt_bench.corrections import superseded
from lt_bench.errors import UserError
from lt_bench.evaluation.metrics import accuracy_by_class, balanced, group_accuracy, worst_class
from lt_bench.evaluation.significance import mean_interval
from lt_bench.files import beginning, in_words, write_atomically
from lt_bench.identity import digest
from lt_bench.leaderboard.by_card import own_split
from lt_bench.leaderboard.record import dataset_slug, slug
from lt_bench.markdown import escape, table_row
from lt_bench.resources import refuse_installed
from lt_bench.robustness.record import RobustRecord, every

WORST = "worst case"
MARK = "<!-- Generated from the records by `lt-bench leaderboard robust`. Do not edit. -->\n"
NOTES = (
    "Mean accuracy of the classes in percent, as means over n seeds; ± is the half-width of the 95% Student t "
    "interval. An image withstands an attack if it is right as it is and at every place that the attack comes by; in "
    "the worst case it withstands all of them. Tables of other images, balls, attacks or protocols are not to be "
    "compared, and none of them with tables of clean accuracy. Published figures have no column: long-tailed test sets "
    "are other test sets.\n"
)


class Key(NamedTuple):
    """What all rows of a table have in common."""

    dataset: str
    """With factor, profile and split."""
    noise: str
    """What was wrong with the labels that were trained on; empty for nothing."""
    protocol: str
    protocol_sha256: str
    index_sha256: str
    split_sha256: str
    """See `lt_bench.leaderboard.by_card.own_split`."""
    test_part: str
    """See `lt_bench.leaderboard.test_parts`; of a sample, the first images of each class, the digest in order."""
    total: tuple[int, ...]
    """Test images of each class."""
    norm: str
    radius: float
    attacks: tuple[str, ...]
    """By name, in alphabetical order: what the worst case is the worst of."""
    attacks_sha256: str
    """Of all their settings."""

    @classmethod
    def of(cls, record: RobustRecord) -> Key:
        """That of a record; a sample of the images is another table than all of them, and so are other attacks."""
        data, protocol = record.dataset, record.protocol
        modified = f"-modified-{protocol.sha256[:8]}" if protocol.modified else ""
        name = f"{slug(protocol.name)}{modified}"
        tested = data.test_sha256 if record.sample else data.test_part
        digests = protocol.sha256, data.index_sha256, own_split(data), tested
        noise = record.recipe.get("data", {}).get("noise")
        trained = f", trained on noise {json.dumps(noise, sort_keys=True)}" if noise else ""
        searched = sorted((one.trial for one in record.results if one.trial.harms), key=lambda trial: trial.name)
        attacks = tuple(trial.name for trial in searched), digest([trial.model_dump(mode="json") for trial in searched])
        return cls(dataset_slug(data), trained, name, *digests, record.total, record.norm, record.radius, *attacks)

    @property
    def title(self) -> str:
        each = sorted(set(self.total))
        images = f"{each[0]:,}" if len(each) == 1 else f"{each[0]:,} to {each[-1]:,}"
        ball = f"{self.norm} {self.radius:g}/255 by {', '.join(self.attacks)}" if self.attacks else "no attack"
        seen = f"{ball}, {images} test images a class ({self.test_part[:12]})"
        split = f", split {self.split_sha256[:12]}" if self.split_sha256 else ""
        return f"{self.dataset}{self.noise}{split}, {self.protocol}: {seen}"


@dataclass(frozen=True)
class Row:
    """A method over its seeds: accuracies in percent, under each column."""

    method: str
    seeds: tuple[int, ...]
    scores: dict[str, float]
    """Mean over the seeds of the class accuracies' mean, by column; and of the groups' and the worst class's under
    the worst case. A column that a seed lacks is left out."""
    interval: float | None
    """Half-width of the 95% interval of the worst case; None for one seed."""
    superseded: str | None
    """What has been corrected since in a component that it was trained with; such rows come last."""


def tables(folder: Path) -> dict[Key, list[Row]]:
    """All tables of the records below a folder, the best in the worst case first. Raises UserError for none."""
    found: dict[Key, list[RobustRecord]] = defaultdict(list)
    for _, record in every(folder):
        found[Key.of(record)].append(record)
    if not found:
        raise UserError(f"{folder}: there are no records of robustness; lt-bench attack makes them")
    return {key: _rows(found[key]) for key in sorted(found)}


def _rows(records: list[RobustRecord]) -> list[Row]:
    by_method = defaultdict(list)
    for record in sorted(records, key=lambda one: one.created):
        by_method[record.recipe_name, record.overrides, record.recipe_sha256].append(record)
    rows = [_row(name, overrides, its_own) for (name, overrides, _), its_own in by_method.items()]
    return sorted(rows, key=lambda row: (bool(row.superseded), -row.scores.get(WORST, -1.0), row.method))


def _row(name: str, overrides: Iterable[str], records: list[RobustRecord]) -> Row:
    weights = {record.seed: record.weights_sha256 for record in records}  # the newest last, which counts
    by_seed: dict[int, dict[str, float]] = defaultdict(dict)
    for record in records:
        if record.weights_sha256 == weights[record.seed]:
            by_seed[record.seed] |= scores(record)
    shared = set.intersection(*(set(found) for found in by_seed.values()))
    titles = [title for title in next(iter(by_seed.values())) if title in shared]
    means = {title: mean_interval([found[title] for found in by_seed.values()]) for title in titles}
    reason = superseded(records[-1].recipe)
    apart = ", ".join([*overrides, *(["superseded"] if reason else [])])
    interval = means[WORST][1] if WORST in means else None
    method = f"{name} ({apart})" if apart else name
    return Row(method, tuple(sorted(by_seed)), {title: mean for title, (mean, _) in means.items()}, interval, reason)


def scores(record: RobustRecord) -> dict[str, float]:
    """Percentages: the mean of the class accuracies under each column, and more of the worst case."""
    found = {}
    for title, correct in record.columns.items():
        accuracy = accuracy_by_class(correct, record.total)
        found[title] = 100 * balanced(accuracy)
        if title == WORST:
            groups = group_accuracy(accuracy, record.dataset.train_counts)
            more = {**groups, "worst class": worst_class(accuracy)}
            found |= {f"{WORST}, {name}": 100 * value for name, value in more.items() if value is not None}
    return found


def cells(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows for a terminal, with every column that some row has."""
    titles = list(dict.fromkeys(title for row in rows for title in row.scores))
    return [_cells(row, titles) for row in rows]


def _cells(row: Row, titles: list[str]) -> dict[str, Any]:
    shown = {title: f"{row.scores[title]:.2f}" if title in row.scores else None for title in titles}
    if row.interval is not None:
        shown[WORST] = f"{shown[WORST]} ± {row.interval:.2f}"
    return {"method": row.method, "n": len(row.seeds), **shown}


def notes(rows: list[Row]) -> list[str]:
    """What stands below a table: why rows do not count."""
    return [f"{row.method}: {row.superseded}." for row in rows if row.superseded]


def as_page(found: dict[Key, list[Row]]) -> str:
    """All tables in Markdown. The same records give the same text."""
    parts = [MARK, "# Robustness\n", NOTES]
    for key, rows in found.items():
        table = cells(rows)
        titles = list(table[0])
        lines = [table_row([escape(title) for title in titles])]
        lines.append(table_row([":--" if title == "method" else "--:" for title in titles]))
        lines += [table_row([escape(str(row[title] or "")) for title in titles]) for row in table]
        parts += [f"## {escape(key.title)}\n\n" + "\n".join(lines) + "\n", *(f"{escape(one)}\n" for one in notes(rows))]
    return "\n".join(parts)


def save_page(found: dict[Key, list[Row]], path: Path) -> None:
    """Write the page. Raises UserError where there is a file that is no such page, or none can be written."""
    refuse_installed("--out", path)
    try:
        if beginning(path, len(MARK.encode())) not in (None, MARK.encode()):
            raise UserError(f"{path}: was not made by this command, so it is not overwritten")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, as_page(found).encode())
    except OSError as error:
        raise UserError(f"{path}: could not be written: {in_words(error)}") from None


def as_lines(found: dict[Key, list[Row]]) -> list[dict[str, object]]:
    """A line a row, for CSV, with all digits."""
    return [
        {"table": key.title, "method": row.method, "seeds": " ".join(map(str, row.seeds))}
        | {title: round(value, 9) for title, value in row.scores.items()}
        | {"interval": None if row.interval is None else round(row.interval, 9), "superseded": row.superseded}
        for key, rows in found.items()
        for row in rows
    ]
