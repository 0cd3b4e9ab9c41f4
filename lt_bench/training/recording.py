"""The record of a run: checked before the training as far as it is known, made when the training is over."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pydantic import ValidationError

from lt_bench import __version__
from lt_bench.data.split import Split
from lt_bench.data.types import ImageSet
from lt_bench.errors import UserError, shown
from lt_bench.evaluation.metrics import top1
from lt_bench.evaluation.predictions import Predictions
from lt_bench.leaderboard.belief import believe
from lt_bench.leaderboard.record import MOST_BYTES, MOST_VALUES, Curve, Record, to_json
from lt_bench.leaderboard.schema import SCHEMA_VERSION, LabelNoise
from lt_bench.recipe import Recipe
from lt_bench.training.checkpoint import History
from lt_bench.training.loop import Job, select
from lt_bench.training.noise import given_labels, nothing_found
from lt_bench.training.runtime import environment, peak_memory_mb
from lt_bench.training.weights import Weights


def now() -> str:
    """UTC, ISO 8601, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def last_top1(record: Record) -> float:
    """Share of the test images that are predicted right after the last epoch."""
    last = record.selections["last"]
    return top1(last.correct, last.total)


def draft_record(recipe: Recipe, split: Split, job: Job, start: Weights | None) -> Record:
    """The record of a run that is still to come, as if it predicted the first class everywhere.

    Raises UserError, before anything is lost, where what is known of the run already makes no record.
    """
    try:
        noise = None if split.given is None else nothing_found(split, split.given)
        record = make_record(recipe, split, job, _draft_history(job), start, noise)
        believe(record)
        _check_size(to_json(record), job)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        said = f"{field}: {first['msg']}, found {shown(first['input'])}" if field else first["msg"]
        reason = said.replace("Value error, ", "")
    except ValueError as error:
        reason = str(error)
    else:
        return record
    raise UserError(f"{recipe.data.name}/{recipe.name}: no record could hold this run: {reason}")


def _draft_history(job: Job) -> History:
    epochs = job.protocol.epochs
    history = History(ended=now())
    history.curve = [{"epoch": index, "lr": job.protocol.lr(index), "train_loss": 0.0} for index in range(epochs)]
    history.curve = history.curve or [{"epoch": 0, "lr": 0.0, "train_loss": 0.0}]
    test, validation = job.sets.test, job.sets.validation
    select(history, _nothing(test), None if validation is None else _nothing(validation), job.num_classes)
    return history


def _nothing(images: ImageSet) -> Predictions:
    """The first class for every image."""
    count = len(images.labels)
    return Predictions(images.labels, np.zeros(count, np.int16), np.ones(count, np.float32))


def _check_size(text: str, job: Job) -> None:
    """Raise ValueError for a record that would be refused for its size when it is read."""
    size, values = len(text.encode()), text.count(",")
    if size > MOST_BYTES or values > MOST_VALUES:
        what = f"{job.protocol.epochs} epochs and {job.num_classes} classes"
        most = f"at most {MOST_BYTES} and {MOST_VALUES} can be read again"
        raise ValueError(f"{what} are {size} bytes and {values} values, {most}")


def make_record(
    recipe: Recipe, split: Split, job: Job, history: History, start: Weights | None, noise: LabelNoise | None = None
) -> Record:
    """The record of a finished run, which began at the weights `start` if it is a second stage.

    `noise` is what became of wrong training labels where there are some.
    """
    return Record.read(
        {
            "schema_version": SCHEMA_VERSION,
            "benchmark_version": __version__,
            "created": history.ended,
            "identity": recipe.identity(split.digest, job.seed),
            "recipe_name": recipe.name,
            "recipe": recipe.resolved(),
            "recipe_sha256": recipe.sha256(),
            "overrides": recipe.overrides,
            "protocol": protocol_of(recipe),
            "dataset": dataset_of(split),
            "seed": job.seed,
            "environment": environment(job.runtime),
            "timing": _timing(job, history),
            "first_stage": None if start is None else _first_stage(start, split),
            "pretrained": _pretrained(recipe, job),
            "selections": history.selections,
            "curve": Curve.of(history.curve).model_dump(mode="json"),
            "label_noise": None if noise is None else noise.model_dump(mode="json"),
        }
    )


def protocol_of(recipe: Recipe) -> dict[str, Any]:
    """The protocol, as records of runs and of attacks on them name it."""
    protocol = recipe.protocol
    return {
        "name": protocol.name,
        "version": protocol.version,
        "modified": recipe.protocol_modified(),
        "sha256": protocol.sha256(),
    }


def dataset_of(split: Split) -> dict[str, Any]:
    """The exact images, as records of runs and of attacks on them name them."""
    return split.facts() | {"noise": None if split.given is None else given_labels(split, split.given)}


def _first_stage(start: Weights, split: Split) -> dict[str, Any]:
    return {"identity": start.recipe.identity(split.digest, start.seed), **asdict(start.trained)}


def _pretrained(recipe: Recipe, job: Job) -> dict[str, Any] | None:
    """Of a network that began at trained weights: which, and how much of it learns, in its first stage too."""
    if job.provenance is None:
        return None
    tuner, sizes = recipe.tuner_choice(), {name: one.numel() for name, one in job.network.named_parameters()}
    idle = tuner is not None and not tuner.component.learns
    # What a tuner keeps as it is has no place in a state.
    learned = 0 if idle else sum(sizes[name] for name in sizes.keys() & job.network.state_dict().keys())
    return job.provenance._asdict() | {"parameters": sum(sizes.values()), "learned": learned}


def _timing(job: Job, history: History) -> dict[str, Any]:
    return {
        "wall_s": round(history.wall_s, 1),
        "train_images_per_s": round(history.images / history.train_s, 1) if history.train_s else 0.0,
        "peak_memory_mb": round(peak_memory_mb(job.runtime.device)),
        "epochs": len(history.curve),
        "resumed": history.resumed,
    }
