"""What a version of the board stands for, written down once: from then on a change to it is an error, or version 2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lt_bench.data.cards import load_card
from lt_bench.data.reading import read_bytes
from lt_bench.errors import UserError
from lt_bench.evaluation import metrics
from lt_bench.files import in_words, write_atomically
from lt_bench.identity import digest
from lt_bench.leaderboard.aggregate import TableKey
from lt_bench.leaderboard.manifest import begin
from lt_bench.leaderboard.sources import read_board
from lt_bench.protocol import shipped_protocol
from lt_bench.resources import refuse_installed

FILE = "frozen.json"
"""In the folder of the tables."""
OF_A_CARD = ("classes", "mean", "std", "flip", "profile", "n_max", "factor")
"""What of a card decides the images and how they are shown; its version stands beside."""

Facts = dict[str, dict[str, Any]]


def freeze(records: Path, out: Path) -> Path:
    """Write down the protocols, data sets and metrics of the tables, and begin the manifest of their records.

    Raises UserError where that has been done, and the file cannot be written.
    """
    refuse_installed("--out", out)
    path = out / FILE
    if path.exists():
        raise UserError(f"{path}: frozen already; what has changed since makes another version, in a folder of its own")
    keys = [table.key for table in read_board(records).tables]
    begin(records)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(_facts(keys), indent=1) + "\n").encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {in_words(error)}") from None
    return path


def check_frozen(out: Path) -> None:
    """Hold what ships against what was frozen, where something was. Raises UserError for the first change."""
    path = out / FILE
    if not path.is_file():
        return
    try:
        frozen: Facts = json.loads(read_bytes(path, "frozen board"))
        changed = next(_changes(frozen), None)
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not what lt-bench leaderboard freeze has written: {error}") from None
    if changed is not None:
        raise UserError(f"{path}: {changed} is not what it was when the board was frozen; that makes another version")


def _changes(frozen: Facts) -> Iterator[str]:
    for name, fact in frozen["protocols"].items():
        if _protocol(name) != fact:
            yield f"protocol {name}"
    for name, fact in frozen["datasets"].items():
        if _dataset(name) != fact:
            yield f"data set {name}"
    now = _example()
    for name, value in frozen["metrics"].items():
        if now.get(name) != value:
            yield f"metric {name}"


def _facts(keys: list[TableKey]) -> Facts:
    protocols = sorted({key.protocol for key in keys if not key.modified})
    return {
        "protocols": {name: fact for name in protocols if (fact := _protocol(name))},
        "datasets": {name: fact for name in sorted({key.dataset for key in keys}) if (fact := _dataset(name))},
        "metrics": _example(),
    }


def _protocol(name: str) -> dict[str, Any] | None:
    found = shipped_protocol(name)
    return None if found is None else {"version": found.version, "sha256": found.sha256()}


def _dataset(name: str) -> dict[str, Any] | None:
    """None for a data set without a card here."""
    try:
        card = load_card(name)
    except UserError:
        return None
    return {"version": card.version, "sha256": digest(card.model_dump(mode="json", include=set(OF_A_CARD)))}


def _example() -> dict[str, Any]:
    """Every metric of one made set of predictions: two classes of each group, and all bins."""
    correct, total, sizes = (9, 8, 7, 6, 5, 3), (10, 10, 10, 10, 10, 10), (500, 101, 100, 20, 19, 1)
    bins = metrics.CalibrationBins(np.full(15, 4), np.arange(15) % 5, np.arange(15) * 4 / 15 + 0.1)
    accuracy = metrics.accuracy_by_class(correct, total)
    named = metrics.summary(correct, total, bins, sizes)
    return {name: named[name] for name in ("top1", "many", "medium", "few", "worst_class", "ece")} | {
        "balanced": metrics.balanced(accuracy),
        "harmonic": metrics.harmonic(accuracy),
    }
