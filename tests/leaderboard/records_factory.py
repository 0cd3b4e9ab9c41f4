"""Small records that can be believed, for tests: two classes of each group, 10 test images a class."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from lt_bench.data.cards import card_names, load_card
from lt_bench.evaluation.metrics import top1
from lt_bench.evaluation.predictions import Predictions
from lt_bench.identity import protocol_sha256, recipe_sha256, run_identity, split_sha256
from lt_bench.leaderboard.record import Record, Selection, write_record
from lt_bench.leaderboard.schema import SCHEMA_VERSION

TRAIN_COUNTS = (500, 101, 100, 20, 19, 1)
PER_CLASS = 10
EPOCHS = 30
BEST_EPOCH = 17


def digest(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def make_predictions(
    correct: tuple[int, ...] = (9, 8, 7, 6, 5, 4), confidence: float = 0.75, total: tuple[int, ...] | None = None
) -> Predictions:
    """Of each class k the first `correct[k]` images are right, the others are taken for class k + 1."""
    total = total or (PER_CLASS,) * len(correct)
    labels = np.repeat(np.arange(len(correct)), total)
    right = np.concatenate([np.arange(n) < c for c, n in zip(correct, total, strict=True)])
    predicted = np.where(right, labels, (labels + 1) % len(correct)).astype(np.int16)
    return Predictions(labels, predicted, np.full(len(labels), confidence, np.float32))


ENVIRONMENT = {
    "commit": "0" * 40,
    "dirty": False,
    "python": "3.11.7",
    "torch": "2.9.0",
    "torchvision": "0.24.0",
    "numpy": "2.0.0",
    "platform": "Linux",
    "device": "cpu",
    "cpu": "a processor",
    "threads": 2,
    "precision": "bf16",
    "compile": True,
}
TIMING = {
    "wall_s": 12.5,
    "train_images_per_s": 900.0,
    "peak_memory_mb": None,
    "epochs": EPOCHS,
    "resumed": 0,
}


def make_data(
    *,
    recipe_name: str = "ce",
    seed: int = 0,
    correct: tuple[int, ...] = (9, 8, 7, 6, 5, 4),
    total: tuple[int, ...] | None = None,
    best: tuple[int, ...] | None = None,
    overrides: tuple[str, ...] = (),
    reported: Any = None,
    protocol: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
    recipe: dict[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """The fields of a record as plain data, all that follows from others computed.

    `best` are the correct counts of best-on-test, at least as many as those of the last epoch. `protocol` may set
    what the resolved protocol holds and `modified`, `recipe` what the resolved recipe holds beside it.
    """
    classes = len(correct)
    # Of a version that does not ship, so that any settings can be those of its protocol.
    protocol = {"name": "cifar-30ep", "version": 9, "modified": False, "epochs": EPOCHS} | (protocol or {})
    dataset = _dataset(classes, dataset or {})
    settings = {key: value for key, value in protocol.items() if key != "modified"}
    resolved = _resolved(recipe_name, settings, dataset, overrides) | {"reported": reported or []} | (recipe or {})
    settings_sha256 = protocol_sha256(settings)
    selections = {"last": _selection(correct, EPOCHS - 1, total)}
    if best:
        selections["best-on-test"] = _selection(best, BEST_EPOCH, total)
    return {
        "schema_version": SCHEMA_VERSION,
        "benchmark_version": "v1",
        "created": "2026-05-01T12:00:00Z",
        "identity": run_identity(recipe_sha256(resolved), dataset["split_sha256"], seed),
        "recipe_name": recipe_name,
        "recipe": resolved,
        "recipe_sha256": recipe_sha256(resolved),
        "overrides": list(overrides),
        "protocol": {key: protocol[key] for key in ("name", "version", "modified")} | {"sha256": settings_sha256},
        "dataset": dataset,
        "seed": seed,
        "environment": dict(ENVIRONMENT),
        "timing": dict(TIMING),
        "selections": selections,
        "curve": _curve(selections),
        "predictions": None,
    } | fields


GIVEN = (480, 121, 99, 21, 18, 2)
WRONG = (40, 10, 8, 5, 3, 1)
GIVEN_WRONG = (20, 30, 7, 6, 2, 2)
NOISE = {"name": "symmetric", "rate": 0.4, "seed": 0}


def noisy(noise: dict[str, Any] | None = None, **found: Any) -> dict[str, Any]:
    """Changes that make a record one with wrong labels; `found` goes into its `label_noise`."""
    data = {"name": "tiny-lt", "factor": 500.0, "profile": "exponential", "subset_seed": 0}
    given = {"given_sha256": digest("given"), "wrong": WRONG, "given": GIVEN, "given_wrong": GIVEN_WRONG}
    split = [digest("index"), digest("content"), None, None, digest("test"), 1, digest("given")]
    auc = {"all": 0.8, "many": 0.9, "medium": 0.7, "few": None, "head": 0.9, "tail": 0.6}
    label_noise = {
        "memorised": (10, 3, 0, 1, 1, 1),
        "by_loss": {"flagged": (30, 20, 10, 5, 1, 1), "hits": (15, 20, 5, 5, 1, 1), "auc": auc},
        "losses": {"all": {"right": (600, 74), "wrong": (7, 60)}},
        "by_method": None,
    } | found
    return {
        "dataset": {"noise": given, "split_sha256": split_sha256(split)},
        "recipe": {"data": data | {"n_max": None, "validation_per_class": 0, "noise": noise or NOISE}},
        "label_noise": label_noise,
    }


def _resolved(
    name: str, protocol: dict[str, Any], dataset: dict[str, Any], overrides: tuple[str, ...]
) -> dict[str, Any]:
    split = {key: dataset[key] for key in ("name", "factor", "profile", "subset_seed")}
    return {
        "name": name,
        "protocol": protocol,
        "data": split | {"n_max": None, "validation_per_class": 0},
        "loss": {"name": name} | dict.fromkeys(overrides, "changed"),
        "overrides": list(overrides),
    }


def _dataset(classes: int, changes: dict[str, Any]) -> dict[str, Any]:
    dataset = {"name": "tiny-lt", "version": 1, "factor": 500.0, "profile": "exponential", "subset_seed": 0} | {
        "index_sha256": digest("index"),
        "content_sha256": digest("content"),
        "test_sha256": digest("test"),
        "content_kind": "rgb8",
        "validation_sha256": None,
        "class_names": [f"class {k}" for k in range(classes)],
        "train_counts": list(TRAIN_COUNTS[:classes]),
    } | changes  # fmt: skip
    facts = [dataset["index_sha256"], dataset["content_sha256"], None, None, dataset["test_sha256"]]
    if dataset["name"] in card_names():
        card = load_card(dataset["name"])
        facts += [card.version, card.mean, card.std, card.flip]
    return {"split_sha256": split_sha256([*facts, dataset["version"]][:9])} | dataset


def _selection(correct: tuple[int, ...], epoch: int, total: tuple[int, ...] | None) -> dict[str, Any]:
    return Selection.of(make_predictions(correct, total=total), epoch, len(correct)).model_dump(mode="json")


def _curve(selections: dict[str, Any]) -> dict[str, Any]:
    """Evaluated where something was selected."""
    figures = {chosen["epoch"]: top1(chosen["correct"], chosen["total"]) for chosen in selections.values()}
    return {
        "epoch": list(range(EPOCHS)),
        "lr": [0.1] * EPOCHS,
        "train_loss": [2.0 / (1 + k) for k in range(EPOCHS)],
        "test_top1": [figures.get(k) for k in range(EPOCHS)],
        "val_top1": [None] * EPOCHS,
    }


def make_record(**changes: Any) -> Record:
    return Record.read(make_data(**changes))


def add_record(folder: Path, **changes: Any) -> Path:
    """Write a record as a finished run would, and return its path."""
    record = make_record(**changes)
    last = record.selections["last"]
    return write_record(record, make_predictions(last.correct, total=last.total), folder)
