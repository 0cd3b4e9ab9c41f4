"""Scores of runs with wrong training labels: what was learned of them, and what was found, in fractions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from lt_bench.evaluation.label_noise import parts
from lt_bench.leaderboard.dataset import GivenLabels
from lt_bench.leaderboard.schema import Detection, LabelNoise, Record

SHOWN = {
    "Memorised": "memorised",
    "Memorised, tail": "memorised_tail",
    "AUC by loss": "loss_auc",
    "AUC by loss, tail": "loss_auc_tail",
    "Right lost by loss, tail": "loss_right_lost_tail",
    "Own AUC": "own_auc",
    "Own precision": "own_precision",
    "Own recall": "own_recall",
    "Right lost": "own_right_lost",
    "Right lost, tail": "own_right_lost_tail",
}
"""Columns of a table with label noise, by title. All scores are in its CSV."""
BETTER = {title: "↓" if title.startswith(("Memorised", "Right lost")) else "↑" for title in SHOWN}
DETECTORS = ("loss", "own")

ABOUT = (
    "Labels are counted by the class that they say; the groups are of the right labels, and the tail is the third of "
    "the classes with the fewest images. Memorised: share of the wrong labels that the trained network predicts. "
    "AUC by loss: chance that the loss of a wrong label is above that of a right one. Flagged by loss are as many "
    "labels, of the highest losses, as are wrong; own is what the method itself takes for wrong in the end. "
    "Precision: share of the flagged labels that are wrong; recall: share of the wrong ones that are flagged; right "
    "lost: share of the right labels that are flagged, which are the images that a method throws away."
)
"""What a page with such a table says of its columns."""


def noise_scores(record: Record) -> dict[str, float | None]:
    """All of a run, by part of the split behind the name (`memorised`, `memorised_tail`, ...); none on clean labels."""
    given, found = record.dataset.noise, record.label_noise
    if given is None or found is None:
        return {}
    members = parts(record.dataset.train_counts)
    return {
        name if part == "all" else f"{name}_{part}": value
        for part, classes in members.items()
        for name, value in _of_part(part, classes, given, found)
    }


def _of_part(
    part: str, classes: np.ndarray, given: GivenLabels, found: LabelNoise
) -> Iterator[tuple[str, float | None]]:
    wrong = _sum(given.given_wrong, classes)
    right = _sum(given.given, classes) - wrong
    yield "memorised", _share(_sum(found.memorised, classes), wrong)
    for detector, one in zip(DETECTORS, (found.by_loss, found.by_method), strict=True):
        scores = _detection(part, classes, one, wrong, right)
        yield from ((f"{detector}_{name}", value) for name, value in scores.items())


def _detection(
    part: str, classes: np.ndarray, found: Detection | None, wrong: int, right: int
) -> Mapping[str, float | None]:
    if found is None:
        return dict.fromkeys(("auc", "precision", "recall", "right_lost"))
    flagged, hits = _sum(found.flagged, classes), _sum(found.hits, classes)
    return {
        "auc": found.auc.get(part),
        "precision": _share(hits, flagged),
        "recall": _share(hits, wrong),
        "right_lost": _share(flagged - hits, right),
    }


def _sum(counts: tuple[int, ...], classes: np.ndarray) -> int:
    return int(np.array(counts)[classes].sum())


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
