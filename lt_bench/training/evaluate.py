"""Evaluation of trained weights, apart from any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lt_bench.data.opening import open_split
from lt_bench.errors import UserError
from lt_bench.evaluation.metrics import accuracy_by_class, ece, group_accuracy, top1, worst_class
from lt_bench.evaluation.predictions import predict
from lt_bench.leaderboard.record import Selection
from lt_bench.recipe import Recipe
from lt_bench.training.loop import EVALUATION_BATCH
from lt_bench.training.run import Options, build_job


def evaluate_weights(path: Path, options: Options) -> dict[str, Any]:
    """Metrics of `weights.safetensors` on the test part of its data set; accuracies are fractions."""
    recipe, seed, tensors = read_weights(path)
    split = open_split(recipe.data, options.data_root)
    job = build_job(recipe, split, seed, options, epochs=0)
    try:
        job.network.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path}: does not fit its own recipe: {' '.join(str(error).split())[:200]}") from None
    job.network.eval()
    selection = Selection.of(predict(job.scores, job.sets.test, EVALUATION_BATCH), 0, job.num_classes)
    accuracy = accuracy_by_class(selection.correct, selection.total)
    return {
        "recipe": recipe.name,
        "dataset": recipe.data.name,
        "seed": seed,
        "top1": top1(selection.correct, selection.total),
        **group_accuracy(accuracy, split.counts),
        "worst_class": worst_class(accuracy),
        "ece": ece(selection.calibration.bins),
        "correct": list(selection.correct),
        "total": list(selection.total),
    }


def read_weights(path: Path) -> tuple[Recipe, int, dict[str, Any]]:
    """Recipe, seed and tensors of a run's weights. Raises UserError for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return Recipe.read(json.loads(metadata["recipe"])), int(metadata["seed"]), tensors
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"{path}: not the weights of a run ({reason})") from None
