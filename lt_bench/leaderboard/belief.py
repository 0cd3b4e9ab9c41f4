"""What a record must satisfy to be believed: that it does not contradict itself.

All that reads or writes records comes through here, so a board, a comparison and a run that is said to be done
already rest on the same checks. They cost some 50 microseconds a record.
"""

from __future__ import annotations

import marshal
import math
from functools import lru_cache
from operator import gt
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lt_bench.evaluation.metrics import NUM_BINS
from lt_bench.identity import first_stage_sha256, protocol_sha256, recipe_sha256, run_identity
from lt_bench.leaderboard.by_card import ships, split_by_card
from lt_bench.nodes import IDLE_TUNERS, mapping

if TYPE_CHECKING:
    from lt_bench.leaderboard.schema import Calibration, Record

KEPT = 4096
"""Recipes that are remembered, because the seeds of a row share theirs."""
ROOM = 1e-6
"""For means of confidences in float32."""
LOWEST = tuple(k / NUM_BINS - ROOM for k in range(NUM_BINS))
HIGHEST = tuple((k + 1) / NUM_BINS + ROOM for k in range(NUM_BINS))
"""Mean confidence in each bin."""


def believe(record: Record) -> None:
    """Raise ValueError, naming the field, where a record contradicts itself or what is known of its data set."""
    said = _recipe_of(record)
    _check_recipe(record, said)
    _check_data(record, said)
    _check_identity(record, said)
    if record.external is None:
        _check_curve(record, said)
        _check_selections(record)
        _check_label_noise(record, said)
        _check_pretrained(record)
    else:
        _check_external(record, said)


# --- the recipe: once, however many seeds it has -----------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class _Protocol(_Part):
    name: str
    version: int
    epochs: int = Field(ge=1)


class _Data(_Part):
    name: str
    factor: float | None
    profile: str | None
    subset_seed: int
    n_max: int | None
    validation_per_class: int
    noise: dict[str, Any] | None = None


class _Stage(_Part):
    epochs: int = Field(ge=0)


class _SecondStage(_Part):
    stage: _Stage


class _FirstStage(_Part):
    plugins: dict[str, str]


class _Tuner(_Part):
    name: str


class _Model(_Part):
    tuner: _Tuner | None = None


class _Recipe(_Part):
    """What a record repeats of its resolved recipe, or follows from it."""

    name: str
    overrides: list[str]
    protocol: _Protocol
    data: _Data
    model: _Model = _Model()
    external: dict[str, Any] | None = None
    second_stage: _SecondStage | None = None
    first_stage: _FirstStage | None = None

    @property
    def epochs(self) -> int:
        """Epochs of its own training, 0 where nothing learns."""
        if self.second_stage is not None:
            return self.second_stage.stage.epochs
        idle = self.model.tuner is not None and self.model.tuner.name in IDLE_TUNERS
        return 0 if idle else self.protocol.epochs


class _Said(NamedTuple):
    """What a resolved recipe says, with the digests of it."""

    recipe: _Recipe
    sha256: str
    protocol_sha256: str
    first_sha256: str | None
    """Of the recipe that a second stage starts from."""


def _recipe_of(record: Record) -> _Said:
    return _said(marshal.dumps(record.recipe, 2))  # a tenth of what its JSON costs


@lru_cache(KEPT)
def _said(recipe: bytes) -> _Said:
    resolved: dict[str, Any] = marshal.loads(recipe)
    try:
        parts = _Recipe.model_validate(resolved)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"recipe.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if (parts.second_stage is None) != (parts.first_stage is None):
        raise ValueError("recipe.second_stage: a recipe has it together with its first_stage")
    first_sha256 = None if parts.first_stage is None else first_stage_sha256(resolved)
    return _Said(parts, recipe_sha256(resolved), protocol_sha256(resolved["protocol"]), first_sha256)


def _check_recipe(record: Record, said: _Said) -> None:
    recipe, protocol = said.recipe, record.protocol
    _same("recipe_sha256", record.recipe_sha256, said.sha256)
    _same("recipe_name", record.recipe_name, recipe.name)
    _same("overrides", list(record.overrides), recipe.overrides)
    _same("protocol.name", protocol.name, recipe.protocol.name)
    _same("protocol.version", protocol.version, recipe.protocol.version)
    _same("protocol.sha256", protocol.sha256, said.protocol_sha256)
    _same("external", record.external is None, recipe.external is None)
    shipped = _shipped_protocol(protocol.name)
    if shipped is not None and shipped.version == protocol.version:
        _same("protocol.modified", protocol.modified, shipped.sha256 != protocol.sha256)
    if (record.first_stage is None) != (said.first_sha256 is None):
        raise ValueError("first_stage: a record has it where its recipe has a second_stage")


class _Shipped(NamedTuple):
    """The protocol that ships here under a name."""

    version: int
    sha256: str


@lru_cache(KEPT)
def _shipped_protocol(name: str) -> _Shipped | None:
    from lt_bench.protocol import shipped_protocol  # noqa: PLC0415 (it imports YAML)

    protocol = shipped_protocol(name)
    return None if protocol is None else _Shipped(protocol.version, protocol.sha256())


# --- the data and the identity -----------------------------------------------------------------------


def _check_data(record: Record, said: _Said) -> None:
    dataset, data = record.dataset, said.recipe.data
    _same("dataset.name", dataset.name, data.name)
    _same("dataset.factor", dataset.factor, data.factor)
    _same("dataset.profile", dataset.profile, data.profile)
    if dataset.looks is not None and ships(dataset.name):
        raise ValueError(f"dataset.looks: {dataset.name} ships, and its version tells them")
    _same("dataset.subset_seed", dataset.subset_seed, data.subset_seed)
    if (dataset.validation_sha256 is None) != (data.validation_per_class == 0):
        raise ValueError(f"dataset.validation_sha256: the recipe asks for {data.validation_per_class} images a class")
    if data.n_max is not None and ("best-on-val" in record.selections) != (data.validation_per_class > 0):
        raise ValueError(f"selections.best-on-val: the recipe asks for {data.validation_per_class} images a class")
    if data.n_max is not None and data.factor is not None and data.profile is not None:
        sizes = _sizes(len(dataset.train_counts), data.n_max, data.factor, data.profile)
        _same("dataset.train_counts", dataset.train_counts, sizes)


@lru_cache(KEPT)
def _sizes(classes: int, n_max: int, factor: float, profile: Any) -> tuple[int, ...]:
    from lt_bench.data.split import class_sizes  # noqa: PLC0415 (slow to import)

    return tuple(class_sizes(classes, n_max, factor, profile))


def _check_identity(record: Record, said: _Said) -> None:
    """Hold the identities against the split, as it is recorded and as its card has it."""
    dataset, split = record.dataset, record.dataset.split_sha256
    # What a validation part adds to the digest of a split is not in the record.
    card = None if "best-on-val" in record.selections else split_by_card(dataset)
    if card is not None and card.version == dataset.version:
        _same("dataset.split_sha256", split or card.split_sha256, card.split_sha256)
        split = card.split_sha256
        if dataset.test_fingerprint is not None:
            _same("dataset.test_fingerprint", dataset.test_fingerprint, card.test_fingerprint)
    elif card is not None and record.identity == run_identity(said.sha256, card.split_sha256, record.seed):
        raise ValueError(f"dataset.version: {dataset.version}, but the identity is that of version {card.version}")
    if split is None:
        return
    _same("identity", record.identity, run_identity(said.sha256, split, record.seed))
    if said.first_sha256 is not None and record.first_stage is not None:
        first = run_identity(said.first_sha256, split, record.seed)
        _same("first_stage.identity", record.first_stage.identity, first)


# --- the curve and the counts ------------------------------------------------------------------------


def _check_curve(record: Record, said: _Said) -> None:
    curve, trained = record.curve, said.recipe.epochs
    epochs = max(1, trained)  # what is not trained is evaluated once
    _same("length of curve", len(curve.epoch), epochs)
    if curve.epoch != tuple(range(epochs)):
        raise ValueError(f"curve.epoch: not 0 to {epochs - 1}")
    assert record.timing is not None, "only external records lack it"
    _same("timing.epochs", record.timing.epochs, epochs)
    if not all(map(math.isfinite, curve.lr)):
        raise ValueError("curve.lr: not finite")
    if trained and not all(map(math.isfinite, curve.train_loss)):
        raise ValueError("curve.train_loss: not finite, so the training has diverged")


def _check_selections(record: Record) -> None:
    curve = record.curve
    _same("selections.last.epoch", record.selections["last"].epoch, len(curve.epoch) - 1)
    for rule, selection in record.selections.items():
        where = f"selections.{rule}"
        _check_bins(where, selection.calibration)
        if rule != "last":
            _check_best(where, selection.epoch, curve.test_top1 if rule == "best-on-test" else curve.val_top1)
        told = curve.test_top1[selection.epoch]
        if told is None or not math.isclose(told, selection.top1, rel_tol=1e-9):
            said = f"top-1 is {selection.top1:.6g}, but curve.test_top1.{selection.epoch} is {told}"
            raise ValueError(f"{where}.correct: {said}")
    if "best-on-val" not in record.selections and curve.val_top1.count(None) < len(curve.val_top1):
        raise ValueError("curve.val_top1: there is no selection best-on-val")


def _check_external(record: Record, said: _Said) -> None:
    """Hold what an external record claims against its recipe; it has no curve to be held against."""
    assert record.external is not None
    _same("recipe.external", said.recipe.external, external_settings(record.recipe_name, record.external.by))
    _same("curve", len(record.curve.epoch), 0)
    _same("selections", list(record.selections), ["last"])
    last = record.selections["last"]
    _same("selections.last.epoch", last.epoch, said.recipe.protocol.epochs - 1)
    if last.calibration.count:
        _check_bins("selections.last", last.calibration)


def external_settings(method: str, by: str) -> dict[str, str]:
    """What tells the recipe of an external record from any other of its protocol and data."""
    return {"method": method, "by": by}


def _check_best(where: str, epoch: int, column: tuple[float | None, ...]) -> None:
    """The selected epoch has to be the first of the highest figure; the last epoch's is among them."""
    best = max((value for value in column if value is not None), default=None)
    if best is None or column.index(best) != epoch:
        raise ValueError(f"{where}.epoch: {epoch}, which is not the best one of the curve")


def _check_bins(where: str, bins: Calibration) -> None:
    """The mean confidence of a bin has to lie in it; NaN, of a network that has diverged, does not."""
    _same(f"{where}.calibration", len(bins.count), NUM_BINS)
    for k, (low, high, count, total) in enumerate(zip(LOWEST, HIGHEST, bins.count, bins.confidence_sum, strict=True)):
        if not count * low <= total <= count * high:
            raise ValueError(f"{where}.calibration.confidence_sum.{k}: {total} cannot be of {count} in that bin")


def _check_label_noise(record: Record, said: _Said) -> None:
    """A record tells of wrong labels where its recipe asks for them, and none that are not there."""
    given, found = record.dataset.noise, record.label_noise
    for field, there in (("dataset.noise", given), ("label_noise", found)):
        if (there is None) != (said.recipe.data.noise is None):
            raise ValueError(f"{field}: a record has it where its recipe has data.noise")
    if given is None or found is None:
        return
    if (every := found.losses.get("all")) is None or sum(every.wrong) != sum(given.wrong):
        raise ValueError("label_noise.losses: not those of the wrong labels")
    _at_most("label_noise.memorised", found.memorised, given.given_wrong)
    for field, one in (("by_loss", found.by_loss), ("by_method", found.by_method)):
        if one is not None:
            _at_most(f"label_noise.{field}.flagged", one.flagged, given.given)
            _at_most(f"label_noise.{field}.hits", one.hits, given.given_wrong)


def _check_pretrained(record: Record) -> None:
    """Weights that a record tells of are those of the file that its recipe names, where it names one."""
    named = mapping(mapping(record.recipe.get("model")).get("backbone")).get("weights_sha256")
    if record.pretrained is not None and named is not None:
        _same("pretrained.sha256", record.pretrained.sha256, named)


def _at_most(field: str, found: tuple[int, ...], most: tuple[int, ...]) -> None:
    if len(found) != len(most) or any(map(gt, found, most)):
        raise ValueError(f"{field}: more labels than there are, or of other classes")


def _same(field: str, found: object, expected: object) -> None:
    if found != expected:
        raise ValueError(f"{field}: {_short(found)}, but what it belongs to gives {_short(expected)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
