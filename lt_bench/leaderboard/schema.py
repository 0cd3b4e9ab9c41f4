"""What the record of one finished run holds: types, ranges and lengths. What must agree is in `belief`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from operator import gt
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from lt_bench.corrections import superseded
from lt_bench.evaluation.metrics import CalibrationBins, calibration_bins, per_class_counts, top1
from lt_bench.leaderboard.dataset import Dataset
from lt_bench.leaderboard.fields import Count, Counts, Fraction, Name, Sha256, check_sum, same_length
from lt_bench.settings import Settings, added

if TYPE_CHECKING:  # Imports torch, which reading records does not need.
    from lt_bench.evaluation.predictions import Predictions

SCHEMA_VERSION: Literal[2] = 2
"""Of the records that are made now. Those of version 1 are read for ever."""

SelectionRule = Literal["last", "best-on-val", "best-on-test"]


class Protocol(Settings):
    """The shared training settings: records of different protocols never meet in one table."""

    name: Name
    version: int | Name
    modified: bool
    """Whether the recipe or an override changed a setting that the protocol fixes."""
    sha256: Sha256
    """Of the resolved protocol, so that a modified one is a protocol of its own."""


class Environment(Settings):
    """Where and how the run was computed."""

    commit: Name | None
    dirty: bool | None
    python: Name
    torch: Name
    torchvision: Name
    numpy: Name
    platform: Name
    device: Name
    cpu: Name
    threads: Count
    precision: Name
    compile: bool | Name
    """What was compiled; False: nothing."""
    processes: Annotated[int, Field(ge=1, lt=2**31)] = added(1)
    """That shared every batch, each with a device like this one. What compares the images of a batch with each other,
    as contrastive losses do, compared those of a process."""
    synchronised_batch_norm: bool = added(False)
    """Whether batch normalisation took the rows of all processes."""
    plugins: tuple[Sha256, ...] = added(())
    """Of every plug-in file that was loaded, also of one of which the recipe names no component: it may change any."""


class Pretrained(Settings):
    """The trained weights that a run started from, and how much of its network learned."""

    network: Name
    """Whose weights they are."""
    source: Name
    """Where they were had from."""
    data: Name
    """What they were trained on."""
    sha256: Sha256
    """Of their file."""
    parameters: Count
    """Of the whole network, its classifier included."""
    learned: Count
    """Those of them that learned."""

    @model_validator(mode="after")
    def _no_more_than_all(self) -> Self:
        if self.learned > self.parameters:
            raise ValueError(f"{self.learned} of {self.parameters} parameters learned")
        return self


class Timing(Settings):
    """What the run cost."""

    wall_s: Annotated[FiniteFloat, Field(ge=0)]
    """Seconds of training and evaluation, interruptions excluded."""
    train_images_per_s: Annotated[FiniteFloat, Field(ge=0)]
    peak_memory_mb: float | None
    """Allocated by the run on a CUDA device; on the host that of the process, earlier runs of a sweep included."""
    epochs: Count
    resumed: Count
    """How often the run went on from a checkpoint."""


class FirstStage(Settings):
    """The run whose network a second stage started from."""

    identity: Sha256
    wall_s: float | None
    """Seconds that it took, where known: a second stage costs them as well."""
    top1: Fraction | None = added(None)
    """On the test images after the last epoch. It need not be that of a record: weights can be made again elsewhere."""
    precision: Name | None = added(None)
    device: Name | None = added(None)


class External(Settings):
    """A training by another program: the suite has seen its predictions and nothing else of it."""

    by: Name
    """Who made the predictions."""
    source: Name | None = None
    """Where the program or its paper is found."""
    file_sha256: Sha256
    """Of the file of predictions as it was given."""


class Calibration(Settings):
    """Predictions in 15 equal bins of confidence; see `CalibrationBins`. Empty where no confidence is known."""

    count: Counts
    correct: Counts
    confidence_sum: tuple[float, ...]

    @property
    def bins(self) -> CalibrationBins:
        return CalibrationBins(np.array(self.count), np.array(self.correct), np.array(self.confidence_sum))


class Detection(Settings):
    """Which labels were taken for wrong, counted per given class."""

    flagged: Counts
    """Labels taken for wrong."""
    hits: Counts
    """Those of them that are."""
    auc: dict[Name, Fraction | None]
    """Of the score behind it, by part of the split; see `evaluation.label_noise`. None without labels of both kinds."""

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        same_length(flagged=self.flagged, hits=self.hits)
        if any(map(gt, self.hits, self.flagged)):
            raise ValueError("more hits than flagged labels")
        return self


class LossHistogram(Settings):
    """Losses of right and of wrong labels in bins of a quarter; see `evaluation.label_noise.histograms`."""

    right: Counts
    wrong: Counts

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        same_length(right=self.right, wrong=self.wrong)
        return self


class LabelNoise(Settings):
    """What became of the wrong labels, by what the trained network makes of the training images as they are."""

    memorised: Counts
    """Wrong labels that the network predicts, per given class."""
    by_loss: Detection
    """By cross entropy with the given label, as many labels being flagged as are wrong."""
    losses: dict[Name, LossHistogram]
    """That cross entropy, by part of the split."""
    by_method: Detection | None
    """By what the method itself takes for wrong in the end; None for one that does not choose."""


class Selection(Settings):
    """Counts on the test set after one epoch. Every metric is derived from them."""

    epoch: Count
    """Index of the epoch, from 0."""
    correct: Counts
    """Right predictions per class."""
    total: Counts
    """Test images per class."""
    calibration: Calibration

    @classmethod
    def of(cls, predictions: Predictions, epoch: int, num_classes: int) -> Self:
        """Count the test predictions made after `epoch`."""
        correct, total = per_class_counts(predictions.labels, predictions.predicted, num_classes)
        bins = calibration_bins(predictions.labels, predictions.predicted, predictions.confidence)
        calibration = Calibration(**{name: tuple(values.tolist()) for name, values in vars(bins).items()})
        counts = {"correct": tuple(correct.tolist()), "total": tuple(total.tolist())}
        return cls(epoch=epoch, calibration=calibration, **counts)

    @cached_property
    def top1(self) -> float:
        """Share of all test images that were predicted right."""
        return top1(self.correct, self.total)

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        bins = self.calibration
        same_length(correct=self.correct, total=self.total)
        same_length(count=bins.count, correct=bins.correct, confidence_sum=bins.confidence_sum)
        for what, correct, total in (("class", self.correct, self.total), ("bin", bins.correct, bins.count)):
            if any(map(gt, correct, total)):
                wrong = [*map(gt, correct, total)].index(True)
                raise ValueError(f"{what} {wrong} has {correct[wrong]} correct of {total[wrong]}")
        images = check_sum("total", self.total)
        if bins.count and (sum(bins.correct), sum(bins.count)) != (sum(self.correct), images):
            raise ValueError("the calibration bins and the classes count different predictions")
        if not images:
            raise ValueError("there are no test images")
        return self


class Curve(Settings):
    """Training epoch by epoch, one column per quantity. Columns, because ten thousand records are read at once."""

    epoch: Counts = ()
    lr: tuple[float, ...] = ()
    train_loss: tuple[float, ...] = ()
    """NaN where nothing is trained."""
    test_top1: tuple[Fraction | None, ...] = ()
    """None after epochs without an evaluation; likewise `val_top1`."""
    val_top1: tuple[Fraction | None, ...] = ()

    @classmethod
    def of(cls, epochs: Iterable[Mapping[str, Any]]) -> Self:
        """Collect rows, one per epoch, whose keys are the names of the columns; a missing key is None."""
        rows = list(epochs)
        columns: dict[str, Any] = {name: tuple(row.get(name) for row in rows) for name in cls.model_fields}
        return cls(**columns)

    @model_validator(mode="after")
    def _epochs_agree(self) -> Self:
        same_length(**vars(self))
        return self


class PredictionsFile(Settings):
    """The side file with the test predictions of `last`, beside the record."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.npz$")]
    sha256: Sha256


class Record(Settings):
    """One finished run, never edited.

    `identity` is the digest of resolved recipe, split and seed. `predictions` and `sha256` are filled in when it is
    written.
    """

    schema_version: Literal[1, 2]
    """From 2 on a record ends in its own `sha256`."""
    benchmark_version: Name
    created: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)$")]
    """UTC, ISO 8601."""
    identity: Sha256
    recipe_name: Name
    recipe: dict[str, Any]
    """The resolved recipe."""
    recipe_sha256: Sha256
    overrides: tuple[Name, ...]
    """The `key=value` of the command line that made this another method than the recipe's."""
    protocol: Protocol
    dataset: Dataset
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    environment: Environment | None
    """None, like `timing`, of an external record alone."""
    timing: Timing | None
    external: External | None = added(None)
    """Marks predictions of another program: what cannot be known of its training is empty."""
    first_stage: FirstStage | None = added(None)
    pretrained: Pretrained | None = added(None)
    """Where a network started from trained weights whose origin is known."""
    selections: dict[SelectionRule, Selection]
    """By rule. `best-on-test` is a diagnostic: nothing is ranked by it."""
    curve: Curve
    label_noise: LabelNoise | None = added(None)
    """Where training labels are wrong."""
    weights_sha256: Sha256 | None = added(None)
    """Of the file of the trained weights, by which a copy of it is told; None where there was none to keep."""
    predictions: PredictionsFile | None = None
    sha256: Sha256 | None = added(None)
    """Of all that stands before it in its file; see `seal`."""

    @model_validator(mode="after")
    def _classes_agree(self) -> Self:
        if self.schema_version == 1 and self.sha256:
            raise ValueError("sha256: records of version 1 have none")
        if {self.external is None} != {self.environment is not None, self.timing is not None}:
            raise ValueError("environment and timing: an external record has none, any other has both")
        if "last" not in self.selections:
            raise ValueError("selections.last is missing")
        names, counts = self.dataset.class_names, self.dataset.train_counts
        total = self.selections["last"].total
        same_length(**{"dataset.class_names": names, "dataset.train_counts": counts, "selections.last.total": total})
        if any(selection.total != total for selection in self.selections.values()):
            raise ValueError("the selections have different test sets")
        return self

    @cached_property
    def superseded(self) -> str | None:
        """What has been corrected since in what the run was made by; see `corrections`."""
        return superseded(self.recipe)

    @property
    def test_images(self) -> int:
        """How many images were predicted."""
        return sum(self.selections["last"].total)
