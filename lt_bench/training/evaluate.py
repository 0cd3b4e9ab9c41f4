"""Evaluation of trained weights, apart from any training."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lt_bench.data.folder import FilePart
from lt_bench.data.opening import open_split
from lt_bench.data.split import Split
from lt_bench.errors import RunError
from lt_bench.evaluation.classes import class_rows
from lt_bench.evaluation.metrics import summary
from lt_bench.evaluation.predictions import Predictions, predict
from lt_bench.evaluation.saving import save_predictions
from lt_bench.leaderboard.probabilities import are_probabilities
from lt_bench.leaderboard.record import Selection
from lt_bench.training.checkpoint import History
from lt_bench.training.loop import EVALUATION_BATCH, check_finite
from lt_bench.training.options import Options
from lt_bench.training.progress import on_screen
from lt_bench.training.run import build_job
from lt_bench.training.weights import Weights, read_weights


@dataclass(frozen=True)
class Evaluation:
    """What trained weights make of the test part of their data set."""

    weights: Weights
    split: Split
    predictions: Predictions
    seconds: float
    """From the first image to the last prediction."""

    @property
    def images_per_s(self) -> float:
        return len(self.predictions.labels) / self.seconds

    @cached_property
    def summary(self) -> dict[str, Any]:
        """As `evaluation.metrics.summary` gives it, in fractions; `ece` is None where scores are no probabilities."""
        selection = Selection.of(self.predictions, 0, len(self.split.counts))
        found = summary(selection.correct, selection.total, selection.calibration.bins, self.split.counts)
        return found if are_probabilities(self.weights.recipe.resolved()) else found | {"ece": None}

    @property
    def classes(self) -> list[dict[str, Any]]:
        """A row for each class, as `class_rows` makes them."""
        counts = self.split.counts.tolist()
        return class_rows(self.split.class_names, counts, self.summary["correct"], self.summary["total"])

    def save_predictions(self, path: Path) -> None:
        """Write what was said of every image, for which the logits have to be there. Raises UserError."""
        test = self.split.test
        images = np.array(test.files) if isinstance(test, FilePart) else np.arange(len(test.labels))
        save_predictions(path, self.predictions, images, self.split.class_names)


def evaluate_weights(path: Path, options: Options, *, keep_logits: bool = False) -> Evaluation:
    """Evaluate a run's `weights.safetensors` as its training would.

    Raises UserError for another file, RunError where weights or logits are not finite.
    """
    weights = read_weights(path)
    split = weights.as_trained(open_split(weights.recipe.data, options.data_root))
    job = build_job(weights.recipe, split, weights.seed, options, epochs=0)
    weights.load_into(job.evaluated.eval())
    images, follow = len(split.test.labels), options.progress or on_screen
    size = 1, images, -(-images // EVALUATION_BATCH)
    try:
        check_finite(job)
        with follow(weights.title, job.runtime.description, History(), *size, "test images") as progress:
            start = time.perf_counter()
            predictions = predict(
                job.scores, job.sets.test, EVALUATION_BATCH, keep_logits=keep_logits, on_batch=progress.step
            )
    except RunError as error:
        raise RunError(f"{path}: {error}") from None
    return Evaluation(weights, split, predictions, time.perf_counter() - start)
