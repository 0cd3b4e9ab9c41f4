"""What a training made of wrong labels, measured when it is over against the right ones, which it never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.split import Split
from lt_bench.data.types import IntArray
from lt_bench.evaluation.label_noise import auc_by_part, highest, histograms
from lt_bench.leaderboard.schema import Detection, LabelNoise, LossHistogram
from lt_bench.methods import Suspects
from lt_bench.tensor_files import write_tensors
from lt_bench.training.loop import EVALUATION_BATCH, Job

FILE = "label-noise.safetensors"
"""Beside the weights: of each training image its right and given label, loss, prediction, and what the method says."""


@torch.no_grad()
def measure_noise(job: Job, split: Split, given: IntArray, folder: Path) -> LabelNoise:
    """What became of the wrong labels of a finished training; single images in the run's folder. Raises UserError."""
    job.network.eval()
    job.method.eval()
    found = [_judged(job.scores(batch.images), batch.labels) for batch in job.sets.train.clean(EVALUATION_BATCH)]
    losses, predicted = (torch.cat(column).cpu() for column in zip(*found, strict=True))
    own = job.method.suspects(job.evaluated, lambda: job.sets.train.clean(EVALUATION_BATCH))
    tensors = {"right": torch.from_numpy(split.train.labels), "given": torch.from_numpy(given)}
    tensors |= {"loss": losses, "predicted": predicted}
    tensors |= {} if own is None else {"flagged": own.flagged, "score": own.score.float()}
    write_tensors(folder / FILE, "diagnostics", tensors, {})
    return outcome(split, given, losses.numpy(), predicted.numpy(), own)


def _judged(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy with the given label and predicted class of each image."""
    return F.cross_entropy(logits, labels, reduction="none"), logits.argmax(1)


def outcome(
    split: Split, given: IntArray, losses: np.ndarray, predicted: np.ndarray, own: Suspects | None
) -> LabelNoise:
    """All counts, of losses and predicted classes [N] of the training images and of what the method says."""
    right = split.train.labels
    wrong = given != right
    by_loss = detection(split, given, highest(losses, int(wrong.sum())), losses)
    by_method = None
    if own is not None:
        by_method = detection(split, given, own.flagged.cpu().numpy(), own.score.float().cpu().numpy())
    memorised = _counts(split, given[wrong & (predicted == given)])
    spread = {
        part: LossHistogram(right=tuple(of_right.tolist()), wrong=tuple(of_wrong.tolist()))
        for part, (of_right, of_wrong) in histograms(losses, given, right, split.counts).items()
    }
    return LabelNoise(memorised=memorised, by_loss=by_loss, losses=spread, by_method=by_method)


def detection(split: Split, given: IntArray, flagged: np.ndarray, score: np.ndarray) -> Detection:
    """How well labels [N] that are `flagged`, bool, by a score are the wrong ones."""
    right = split.train.labels
    area = auc_by_part(score, given, right, split.counts)
    hits = _counts(split, given[flagged & (given != right)])
    return Detection(flagged=_counts(split, given[flagged]), hits=hits, auc=area)


def nothing_found(split: Split, given: IntArray) -> LabelNoise:
    """As if nothing were learned: for the record of a run that is still to come."""
    return outcome(split, given, np.zeros(len(given)), np.zeros(len(given), np.int64), None)


def given_labels(split: Split, given: IntArray) -> dict[str, Any]:
    """The fields of `leaderboard.schema.GivenLabels`."""
    wrong, right = given != split.train.labels, split.train.labels
    counts = {"wrong": right[wrong], "given": given, "given_wrong": given[wrong]}
    return {"given_sha256": split.given_sha256} | {name: _counts(split, labels) for name, labels in counts.items()}


def _counts(split: Split, labels: IntArray) -> tuple[int, ...]:
    return tuple(np.bincount(labels, minlength=split.card.classes).tolist())
