"""Small valid records for tests: two classes of each group, 10 test images a class."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from lt_bench.evaluation.predictions import Predictions
from lt_bench.leaderboard.record import Record, Selection, write_record

TRAIN_COUNTS = (500, 101, 100, 20, 19, 1)
PER_CLASS = 10


def digest(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def make_predictions(correct: tuple[int, ...] = (9, 8, 7, 6, 5, 4), confidence: float = 0.75) -> Predictions:
    """Of each class k the first `correct[k]` images are right, the others are taken for class k + 1."""
    labels = np.repeat(np.arange(len(correct)), PER_CLASS)
    right = np.concatenate([np.arange(PER_CLASS) < c for c in correct])
    predicted = np.where(right, labels, (labels + 1) % len(correct)).astype(np.int16)
    return Predictions(labels, predicted, np.full(len(labels), confidence, np.float32))


def make_data(
    *,
    recipe_name: str = "ce",
    seed: int = 0,
    correct: tuple[int, ...] = (9, 8, 7, 6, 5, 4),
    best: tuple[int, ...] | None = None,
    overrides: tuple[str, ...] = (),
    reported: Any = None,
    protocol: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """The fields of a record as plain data; `best` are the correct counts of best-on-test."""
    classes = len(correct)
    recipe = {"loss": {"name": "ce"}, "overrides": list(overrides), "reported": reported or []}
    protocol = {"name": "cifar-30ep", "version": 1, "modified": False} | (protocol or {})
    protocol.setdefault("sha256", digest(protocol["name"], protocol["version"], protocol["modified"]))
    dataset = {"name": "tiny-lt", "version": 1, "factor": 500.0, "profile": "exponential", "subset_seed": 0} | {
        "index_sha256": digest("index"),
        "content_sha256": digest("content"),
        "test_sha256": digest("test"),
        "content_kind": "rgb8",
        "validation_sha256": None,
        "class_names": [f"class {k}" for k in range(classes)],
        "train_counts": list(TRAIN_COUNTS[:classes]),
    } | (dataset or {})  # fmt: skip
    recipe_sha256 = digest(recipe_name, overrides)
    selections = {"last": Selection.of(make_predictions(correct), 29, classes).model_dump(mode="json")}
    if best:
        selections["best-on-test"] = Selection.of(make_predictions(best), 17, classes).model_dump(mode="json")
    return {
        "schema_version": 1,
        "benchmark_version": "v1",
        "created": "2026-05-01T12:00:00Z",
        "identity": digest(recipe_sha256, dataset["index_sha256"], protocol["sha256"], seed),
        "recipe_name": recipe_name,
        "recipe": recipe,
        "recipe_sha256": recipe_sha256,
        "overrides": list(overrides),
        "protocol": protocol,
        "dataset": dataset,
        "seed": seed,
        "environment": {
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
        },
        "timing": {
            "wall_s": 12.5,
            "train_images_per_s": 900.0,
            "peak_memory_mb": None,
            "epochs": 30,
            "resumed": 0,
        },
        "selections": selections,
        "curve": {
            "epoch": [0, 1],
            "lr": [0.1, 0.1],
            "train_loss": [2.0, 1.0],
            "test_top1": [0.4, 0.5],
            "val_top1": [None, None],
        },
        "predictions": None,
    } | fields


def make_record(**changes: Any) -> Record:
    return Record.read(make_data(**changes))


def add_record(folder: Path, **changes: Any) -> Path:
    """Write a record as a finished run would, and return its path."""
    record = make_record(**changes)
    return write_record(record, make_predictions(record.selections["last"].correct), folder)
