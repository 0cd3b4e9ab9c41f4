"""What stands behind the scores of a run, packed, because ten thousand runs are held at once."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from lt_bench.nodes import items, mapping

if TYPE_CHECKING:
    from lt_bench.leaderboard.schema import Curve, Record

T = TypeVar("T")

KEPT = 1024
MOST_POINTS = 50
"""Of a loss curve: more are not seen in a small figure."""
PLAIN = {"sampler": "instance", "mix": "none", "loss": "cross-entropy"}
"""The parts of a phase that are no method."""
ONE_CLASSIFIER = ("linear", "cosine", "scaled-cosine")
"""Heads of one layer."""


class Classes(NamedTuple):
    """What the runs of one split have in common."""

    names: tuple[str, ...]
    train: tuple[int, ...]
    """Training images of each class."""
    test: tuple[int, ...]


class Made(NamedTuple):
    """By what runs were made."""

    benchmark: str
    commit: str | None
    dirty: bool | None
    python: str
    torch: str
    torchvision: str
    numpy: str
    platform: str
    device: str
    cpu: str
    threads: int
    precision: str
    compile: bool | str


class Points(NamedTuple):
    """A curve: epochs counted from 1, and a value for each, NaN for none."""

    epoch: array[int]
    value: array[float]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of one run, under the selection `last`."""

    classes: Classes
    predictions: str | None
    """Name of the side file."""
    correct: array[int]
    """Right predictions of each class [C]."""
    bins: tuple[array[int], array[int], array[float]]
    """Predictions, right ones and sums of confidence in each bin of confidence."""
    accuracy: Points
    """Top-1 on the test images, in percent."""
    loss: Points
    made: Made | None
    """None, like what follows, of what was not trained by this suite."""
    seconds: float | None
    """Of training and evaluation, those of a first stage included where they are known."""
    images_per_s: float | None
    peak_memory_mb: float | None
    parameters: tuple[int, int] | None
    """Of a pretrained network: how many learned, of how many."""
    external: str | None
    """Who trained it, with another program."""
    network: str
    """See `network`; empty where only predictions are known."""
    families: tuple[str, ...]
    figures: tuple[Mapping[str, Any], ...]
    """All that papers print of the recipe, under any protocol."""

    @classmethod
    def of(cls, record: Record) -> Self:
        last, bins, timing = record.selections["last"], record.selections["last"].calibration, record.timing
        reported, by = record.recipe.get("reported"), None if record.external is None else record.external.by
        return cls(
            classes=_once(Classes(record.dataset.class_names, record.dataset.train_counts, last.total)),
            predictions=record.predictions.file if record.predictions else None,
            correct=array("q", last.correct),
            bins=(array("q", bins.count), array("q", bins.correct), array("d", bins.confidence_sum)),
            accuracy=_accuracy(record.curve),
            loss=_loss(record.curve),
            made=_made(record),
            seconds=timing.wall_s + _first_stage_s(record) if timing else None,
            images_per_s=timing.train_images_per_s if timing else None,
            peak_memory_mb=timing.peak_memory_mb if timing else None,
            parameters=(record.pretrained.learned, record.pretrained.parameters) if record.pretrained else None,
            external=by,
            network=_once(network(record.recipe)),
            families=("external",) if by else families(record.recipe),
            figures=tuple(figure for figure in items(reported) if isinstance(figure, dict)),
        )


def network(recipe: Mapping[str, Any]) -> str:
    """The backbone of a resolved recipe, and its head where that is more than a classifier: `resnet32 + experts`."""
    model = mapping(recipe.get("model"))
    backbone, head = (mapping(part).get("name") or part for part in (model.get("backbone"), model.get("head")))
    return str(backbone or "") if head in (None, *ONE_CLASSIFIER) else f"{backbone} + {head}"


def families(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """In which families a resolved recipe does more than plain training; ("baseline",) where in none."""
    phases = [phase for phase in items(recipe.get("phases")) if isinstance(phase, Mapping)]
    found = [kind for kind, plain in PLAIN.items() if any(not _is_plain(phase.get(kind), plain) for phase in phases)]
    found += [kind for kind in ("augment", "regularise") if recipe.get(kind)]
    found += ["tuner"] * bool(mapping(recipe.get("model")).get("tuner"))
    found += ["method"] * (not _is_plain(recipe.get("method"), "standard"))
    found += ["stage"] * bool(recipe.get("second_stage"))
    return tuple(found) or ("baseline",)


def _is_plain(part: Any, plain: str) -> bool:
    """Whether a component is the one that every recipe has which names no other."""
    return not isinstance(part, Mapping) or (part.get("name") == plain and not part.get("weights"))


def _made(record: Record) -> Made | None:
    if not record.environment:
        return None
    found = vars(record.environment)
    made: Made = _once(Made(record.benchmark_version, *(found[name] for name in Made._fields[1:])))
    return made


def _first_stage_s(record: Record) -> float:
    return record.first_stage.wall_s or 0.0 if record.first_stage else 0.0


def _accuracy(curve: Curve) -> Points:
    columns = zip(curve.epoch, curve.test_top1, strict=True)
    return _points((epoch, 100 * top1) for epoch, top1 in columns if top1 is not None)


def _loss(curve: Curve) -> Points:
    """At most `MOST_POINTS` epochs, evenly, the last one always."""
    step = math.ceil(len(curve.epoch) / MOST_POINTS) or 1
    first = (len(curve.epoch) - 1) % step
    return _points(zip(curve.epoch[first::step], curve.train_loss[first::step], strict=True))


def _points(pairs: Iterable[tuple[int, float]]) -> Points:
    pairs = list(pairs)
    return Points(array("i", [epoch + 1 for epoch, _ in pairs]), array("f", [value for _, value in pairs]))


@lru_cache(KEPT)
def _once(value: T) -> T:
    """The value that is equal and came first, so that runs which share it hold it once."""
    return value
