"""A run's weights under trials: batch by batch, so that a spent budget loses nothing."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lt_bench import __version__
from lt_bench.data.augment import Normalisation
from lt_bench.data.opening import open_split
from lt_bench.data.split import Split
from lt_bench.data.types import Batch, IntArray, first_of_each, generator
from lt_bench.errors import UserError
from lt_bench.files import in_words, sha256_of
from lt_bench.robustness.record import RobustRecord, asked, find, write
from lt_bench.robustness.trials import Trial
from lt_bench.robustness.verdicts import auto_attack, right, withstood
from lt_bench.training.checkpoint import History
from lt_bench.training.loop import EVALUATION_BATCH, Job, check_finite
from lt_bench.training.options import BudgetSpent, Options
from lt_bench.training.progress import on_screen
from lt_bench.training.recording import dataset_of, now, protocol_of
from lt_bench.training.run import build_job, check_writable
from lt_bench.training.runtime import environment
from lt_bench.training.weights import Weights, read_weights

CLEAN = "clean"
FEWEST = 4
"""Classes that the loss of AutoAttack's targeted parts compares: the true one, the target and the two behind."""


def attack_weights(path: Path, trials: Sequence[Trial], images: int | None, options: Options) -> tuple[Path, bool]:
    """Look at a run's `weights.safetensors` under trials. Returns the record, and whether this call made it.

    Args:
        path: Of the weights.
        trials: In this order, all of one ball.
        images: How many test images, the first ones of each class alike; None: all.
        options: As a run takes them; `records` is the folder of these records, `deadline` ends the call after a batch.

    Raises:
        UserError: Another file, too few images, a library that is missing.
        BudgetSpent: The deadline came first; the next call with the same arguments goes on.
    """
    question = _question(path, tuple(trials), images, options)
    if not options.force and (known := find(options.records, question.digest)) is not None:
        return known, False
    check_writable(options.records)
    job = _job(question, options)
    notes = Notes(path.with_name(f"attack-{question.digest[:12]}.jsonl"))
    start = time.perf_counter()
    verdicts = look(question, job, notes, options)
    notes.add({"seconds": time.perf_counter() - start})
    written = write(_record(question, job, verdicts, notes.seconds), options.records)
    notes.path.unlink(missing_ok=True)
    return written, True


@dataclass(frozen=True)
class Question:
    """Which weights are looked at, under which trials, on which of the test images."""

    weights: Weights
    sha256: str
    """Of the weights' file."""
    split: Split
    trials: tuple[Trial, ...]
    sample: int | None
    """How many images of each class; None: all."""

    @property
    def digest(self) -> str:
        return asked(self.sha256, self.trials, self.sample)

    @cached_property
    def chosen(self) -> IntArray:
        """The images' places in the test set."""
        return first_of_each(self.split.test.labels, self.sample)

    @cached_property
    def normalisation(self) -> Normalisation:
        return self.weights.recipe.protocol.augmentation.normalisation(self.split.card)


def _question(path: Path, trials: tuple[Trial, ...], images: int | None, options: Options) -> Question:
    searched = any(trial.kind == "library" for trial in trials)
    if searched:
        auto_attack()
    weights = read_weights(path)
    if weights.recipe.training.augmentation.test_views != "centre":
        raise UserError(
            f"{path}: predicts by five views of an image, and an attack is on one; take the weights without"
        )
    split = weights.as_trained(open_split(weights.recipe.data, options.data_root))
    if searched and len(split.counts) < FEWEST:
        raise UserError(f"--with autoattack: its targeted parts need {FEWEST} classes, found {len(split.counts)}")
    return Question(weights, sha256_of(path), split, trials, per_class(images, split))


def _job(question: Question, options: Options) -> Job:
    """The weights in their network, which learns nothing more."""
    weights = question.weights
    job = build_job(weights.recipe, question.split, weights.seed, options, epochs=0)
    weights.load_into(job.evaluated.eval())
    check_finite(job)
    job.evaluated.requires_grad_(False)
    job.method.eval()
    return job


def per_class(images: int | None, split: Split) -> int | None:
    """How many images of each class make so many in all. Raises UserError where a class has none or too few."""
    if images is None:
        return None
    each, least = images // len(split.counts), int(np.bincount(split.test.labels, minlength=len(split.counts)).min())
    if not 0 < each <= least:
        most = least * len(split.counts)
        raise UserError(
            f"--images {images}: expected {len(split.counts)} to {most}, alike for all classes; or none: all"
        )
    return each


@dataclass(frozen=True)
class Notes:
    """What a call has found so far, a line a batch, beside the weights: the next one reads it and goes on."""

    path: Path

    def known(self) -> dict[tuple[str, int], list[int]]:
        """By trial and batch, whether each image was right. A line that is cut short was never written."""
        return {(line["trial"], line["batch"]): line["right"] for line in self._lines() if "trial" in line}

    @property
    def seconds(self) -> float:
        """That all calls have taken together."""
        return math.fsum(line.get("seconds", 0.0) for line in self._lines())

    def add(self, line: dict[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {in_words(error)}") from None

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.is_file():
            return
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                yield line


def look(question: Question, job: Job, notes: Notes, options: Options) -> dict[str, np.ndarray]:
    """Whether each chosen image is right, bool [N], as it is and under each trial."""
    looks: dict[str, Trial | None] = {CLEAN: None, **{trial.name: trial for trial in question.trials}}
    known, start = notes.known(), time.perf_counter()
    batches = -(-len(job.sets.test.labels) // EVALUATION_BATCH)
    size = 1, len(question.chosen) * len(looks), batches * len(looks)
    follow = options.progress or on_screen
    with follow(question.weights.title, job.runtime.description, History(), *size, "images under attack") as progress:
        for index, batch in enumerate(_batches(job, question.chosen)):
            for name, trial in looks.items():
                if (name, index) not in known:
                    if options.deadline is not None and time.monotonic() > options.deadline:
                        notes.add({"seconds": time.perf_counter() - start})
                        raise BudgetSpent
                    rng = generator(question.weights.seed, f"attack {name} batch {index}")
                    clean = known.get((CLEAN, index), [])
                    found = _verdict(job, trial, batch, clean, question.normalisation, rng)
                    known[name, index] = found.int().tolist()
                    notes.add({"trial": name, "batch": index, "right": known[name, index]})
                progress.step()
    return {name: np.concatenate([known[key] for key in sorted(known) if key[0] == name]) > 0 for name in looks}


def _verdict(
    job: Job, trial: Trial | None, batch: Batch, clean: list[int], by: Normalisation, rng: np.random.Generator
) -> Tensor:
    if trial is None:
        return right(job.scores, batch)
    undisturbed = torch.tensor(clean, dtype=torch.bool, device=batch.labels.device)
    return withstood(trial, job.scores, batch, undisturbed, by, rng)


def _batches(job: Job, chosen: IntArray) -> Iterator[Batch]:
    """The chosen test images, normalised, by the batches of an ordinary evaluation."""
    for index, batch in enumerate(job.sets.test.clean(EVALUATION_BATCH)):
        first = index * EVALUATION_BATCH
        own = chosen[(chosen >= first) & (chosen < first + len(batch.labels))] - first
        if len(own):
            places = torch.from_numpy(own).to(batch.labels.device)
            yield batch[places]


def _record(question: Question, job: Job, verdicts: dict[str, np.ndarray], seconds: float) -> RobustRecord:
    labels, trials = question.split.test.labels[question.chosen], question.trials

    def by_class(which: np.ndarray) -> list[int]:
        found: list[int] = np.bincount(labels[which], minlength=len(question.split.counts)).tolist()
        return found

    ball = next((trial for trial in trials if trial.harms), Trial(name=CLEAN, kind="corruption"))
    worst = np.logical_and.reduce([verdicts[CLEAN], *(verdicts[trial.name] for trial in trials if trial.harms)])
    return RobustRecord.read(
        {
            **_what_was_attacked(question),
            "benchmark_version": __version__,
            "created": now(),
            "environment": environment(job.runtime),
            "wall_s": round(seconds, 1),
            "norm": ball.norm,
            "radius": ball.radius,
            "sample": question.sample,
            "total": by_class(np.ones(len(labels), dtype=bool)),
            "clean": by_class(verdicts[CLEAN]),
            "results": [_result(trial, by_class(verdicts[trial.name])) for trial in trials],
            "worst": by_class(worst),
        }
    )


def _what_was_attacked(question: Question) -> dict[str, Any]:
    weights, split = question.weights, question.split
    recipe = weights.recipe
    return {
        "identity": recipe.identity(split.digest, weights.seed),
        "weights_sha256": question.sha256,
        "recipe_name": recipe.name,
        "recipe": recipe.resolved(),
        "recipe_sha256": recipe.sha256(),
        "overrides": recipe.overrides,
        "protocol": protocol_of(recipe),
        "dataset": dataset_of(split),
        "seed": weights.seed,
    }


def _result(trial: Trial, correct: list[int]) -> dict[str, Any]:
    by = f"pyautoattack {version('pyautoattack')}" if trial.kind == "library" else None
    return {"trial": trial.model_dump(mode="json"), "correct": correct, "version": by}
