"""Evaluation of trained weights, apart from any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lt_bench.data.opening import open_split
from lt_bench.errors import RunError
from lt_bench.evaluation.metrics import summary
from lt_bench.evaluation.predictions import predict
from lt_bench.leaderboard.record import Selection
from lt_bench.training.loop import EVALUATION_BATCH, check_finite
from lt_bench.training.options import Options
from lt_bench.training.run import build_job
from lt_bench.training.weights import read_weights


def evaluate_weights(path: Path, options: Options) -> dict[str, Any]:
    """Metrics of `weights.safetensors` on the test part of its data set; accuracies are fractions.

    Raises UserError for another file, RunError where weights or logits are not finite.
    """
    weights = read_weights(path)
    recipe = weights.recipe
    split = open_split(recipe.data, options.data_root)
    job = build_job(recipe, split, weights.seed, options, epochs=0)
    weights.load_into(job.network)
    job.network.eval()
    try:
        check_finite(job)
        predictions = predict(job.scores, job.sets.test, EVALUATION_BATCH)
    except RunError as error:
        raise RunError(f"{path}: {error}") from None
    selection = Selection.of(predictions, 0, job.num_classes)
    return {
        "recipe": recipe.name,
        "dataset": recipe.data.name,
        "seed": weights.seed,
        **summary(selection.correct, selection.total, selection.calibration.bins, split.counts),
    }
