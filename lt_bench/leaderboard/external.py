"""Predictions of another program as a record, marked as external: what is not known of the training stays empty."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from lt_bench import __version__
from lt_bench.data.reading import read_bytes
from lt_bench.errors import UserError, unknown
from lt_bench.evaluation.metrics import calibration_bins, per_class_counts
from lt_bench.evaluation.submitted import MOST_BYTES, Submitted, read_predictions
from lt_bench.identity import recipe_sha256, run_identity
from lt_bench.leaderboard.belief import external_settings
from lt_bench.leaderboard.record import Record, find_record, load_predictions, load_record, record_folder, write_record
from lt_bench.leaderboard.schema import SCHEMA_VERSION
from lt_bench.leaderboard.taking_in import Taken
from lt_bench.protocol import Protocol, shipped_protocol
from lt_bench.recipe import data_spec
from lt_bench.recipe.files import PROTOCOLS, shipped
from lt_bench.resources import refuse_installed

if TYPE_CHECKING:
    from lt_bench.data.split import Split


_OPTIONS = {"recipe_name": "--method", "external.by": "--by", "external.source": "--source"}


@dataclass(frozen=True)
class Claim:
    """What whoever submits predictions says of them."""

    method: str
    by: str
    dataset: str
    """Name of a card."""
    protocol: str
    """That of a shipped protocol, which the training is said to have kept to, to its last epoch."""
    seed: int | None = None
    """Tells the trainings of one method apart. None: 0, and what is there under it is not to be replaced."""
    source: str | None = None
    settings: Sequence[str] = ()
    """Of the split: `factor=50`."""


def add_predictions(path: Path, claim: Claim, records: Path, data_root: Path | None = None) -> Taken:
    """Make a record of a file of predictions for the test part of a split, and write it.

    Raises UserError where the file does not fit the split (see `read_predictions`), the split is not at hand, or what
    is said of it is no record.
    """
    refuse_installed("--records", records)
    protocol = shipped_protocol(claim.protocol)
    if protocol is None:
        raise UserError(f"--protocol {unknown('protocol', claim.protocol, shipped(PROTOCOLS))}")
    spec = data_spec(claim.dataset, claim.settings)
    if spec.validation_per_class:
        raise UserError("validation_per_class: an external record has no selection but the last epoch; leave it out")
    digest = hashlib.sha256(read_bytes(path, "file of predictions", MOST_BYTES)).hexdigest()
    from lt_bench.data.opening import open_split  # noqa: PLC0415 (it imports torch, for which no refusal above waits)

    split = open_split(spec, data_root)
    images = getattr(split.test, "files", len(split.test.labels))
    found = read_predictions(path, images, split.test.labels, len(split.counts))
    record = _record(claim, protocol, split, found, digest)
    there = find_record(records, record.identity) if records.is_dir() else None
    if there is not None and load_record(there).external == record.external:
        return Taken(path, there, new=False)
    _check_training(path, claim, record, found, records)
    return Taken(path, _write(record, split, found, records), new=True)


def _check_training(path: Path, claim: Claim, record: Record, found: Submitted, records: Path) -> None:
    """Raise UserError where the predictions are there as another training, or would unasked take the place of one."""
    there = [(other, load_record(other)) for other in sorted((records / record_folder(record)).glob("seed*.json"))]
    of_method = [(other, old) for other, old in there if old.recipe_sha256 == record.recipe_sha256]
    for other, old in of_method:
        if old.seed != record.seed and _same_predictions(other, old, record, found):
            raise UserError(f"{path}: is there as seed {old.seed} of {claim.method}; each training has its own file")
    if claim.seed is None and record.seed in {old.seed for _, old in of_method}:
        raise UserError(
            f"{path}: {claim.method} is there with seed 0 and other predictions; --seed 1 makes this another training, "
            "--seed 0 puts it in the place of that"
        )


def _same_predictions(path: Path, old: Record, record: Record, found: Submitted) -> bool:
    """Whether what is there has the same classes, from the same file or another; those that are all right may."""
    if (old.external and old.external.file_sha256) == (record.external and record.external.file_sha256):
        return True
    last = record.selections["last"]
    if old.selections["last"].correct != last.correct or last.correct == last.total:
        return False
    return bool(np.array_equal(load_predictions(path, old)[0], found.predicted))


def _write(record: Record, split: Split, found: Submitted, records: Path) -> Path:
    from lt_bench.evaluation.predictions import Predictions  # noqa: PLC0415 (it imports torch)

    # 0 is no confidence that a largest class can have: it stands for an unknown one.
    confidence = found.predicted * 0.0 if found.confidence is None else found.confidence
    return write_record(record, Predictions(split.test.labels, found.predicted, confidence), records)


def _record(claim: Claim, protocol: Protocol, split: Split, found: Submitted, digest: str) -> Record:
    recipe = {
        "name": claim.method,
        "overrides": [],
        "protocol": protocol.model_dump(mode="json"),
        "data": split.spec.model_dump(mode="json"),
        "external": external_settings(claim.method, claim.by),
    }
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "benchmark_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "identity": run_identity(recipe_sha256(recipe), split.digest, claim.seed or 0),
        "recipe_name": claim.method,
        "recipe": recipe,
        "recipe_sha256": recipe_sha256(recipe),
        "overrides": [],
        "protocol": {
            "name": protocol.name,
            "version": protocol.version,
            "modified": False,
            "sha256": protocol.sha256(),
        },
        "dataset": split.facts(),
        "seed": claim.seed or 0,
        "environment": None,
        "timing": None,
        "external": {"by": claim.by, "source": claim.source, "file_sha256": digest},
        "selections": {"last": _selection(split, found, protocol.epochs)},
        "curve": {},
    }
    try:
        return Record.read(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        wrong = "should be one line of text" if first["type"] == "string_pattern_mismatch" else first["msg"]
        raise UserError(f"{_OPTIONS.get(field, field)}: {wrong}") from None


def _selection(split: Split, found: Submitted, epochs: int) -> dict[str, Any]:
    labels, confidence = split.test.labels, found.confidence
    correct, total = per_class_counts(labels, found.predicted, len(split.counts))
    bins = {} if confidence is None else vars(calibration_bins(labels, found.predicted, confidence))
    calibration = {"count": [], "correct": [], "confidence_sum": []} | {key: one.tolist() for key, one in bins.items()}
    counts = {"correct": correct.tolist(), "total": total.tolist()}
    return {"epoch": epochs - 1, "calibration": calibration, **counts}
