"""A record is believed as it was written, and not once anything that can be checked is changed."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_factory import add_record, digest, make_data, make_predictions, make_record

from lt_bench.errors import RunError, UserError
from lt_bench.evaluation.predictions import Predictions
from lt_bench.identity import recipe_sha256, run_identity
from lt_bench.leaderboard import load_record, load_records, write_record
from lt_bench.leaderboard.belief import believe
from lt_bench.leaderboard.record import Record, find_record
from lt_bench.recipe import load_recipe

SHIPPED = Path(__file__).parents[2] / "leaderboard" / "v1" / "records"
TRAINED = next((SHIPPED / "digits-lt-if20" / "digits-demo" / "mixup").glob("*.json"))
TWO_STAGES = next((SHIPPED / "digits-lt-if20" / "digits-demo" / "mislas").glob("*.json"))

FREE = (
    "schema_version",  # that of another version is refused when it is read from a file
    "benchmark_version",
    "created",
    "recipe.reported",
    "recipe.notes",
    "recipe.first_stage",
    "dataset.content_kind",
    "dataset.class_names",
    "environment",
    "timing.wall_s",
    "timing.train_images_per_s",
    "timing.peak_memory_mb",
    "timing.resumed",
    "first_stage.wall_s",
    "first_stage.top1",
    "first_stage.precision",
    "first_stage.device",
    "curve.lr",
    "curve.train_loss",
    "curve.test_top1",
    "calibration.confidence_sum",
)
"""What nothing else in a record says again: texts, costs, and figures between those that were selected."""


def is_free(path: tuple[Any, ...]) -> bool:
    name = ".".join(map(str, path))
    return any(f".{field}." in f".{name}." for field in FREE) and "first_stage.plugins" not in name


@cache
def stored(path: Path) -> Any:
    return json.loads(path.read_bytes())


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all scalars, and of the empty lists and mappings."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [leaf for key, inner in pairs for leaf in leaves(inner, (*path, key))]
    return found or [path]


def changed(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    data = copy.deepcopy(data)
    target = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return data


def other_values(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same type, so that what refuses them is not the schema, and some of others."""
    if isinstance(value, bool):
        return st.just(not value)
    if isinstance(value, int):
        return st.integers(0, 300)
    if isinstance(value, float):
        return st.floats(0, 300)
    if isinstance(value, str) and len(value) == 64:
        return st.text("0123456789abcdef", min_size=64, max_size=64)
    return st.text("abc", min_size=1) | st.none() | st.integers(1, 99) | st.just([1]) | st.just({"a": 1})


@pytest.mark.parametrize("source", [TRAINED, TWO_STAGES], ids=["trained", "two stages"])
@settings(max_examples=200)
@given(data=st.data())
def test_one_changed_field_is_refused_or_free(source: Path, data: st.DataObject) -> None:
    record = stored(source)
    path = data.draw(st.sampled_from([leaf for leaf in leaves(record) if leaf[0] != "predictions"]))
    before = record
    for key in path:
        before = before[key]
    value = data.draw(other_values(before))
    if value == before or is_free(path):
        return
    with pytest.raises(ValueError):
        believe(Record.model_validate_json(json.dumps(changed(record, path, value))))


def test_every_committed_record_is_believed() -> None:
    assert len(load_records(SHIPPED)) >= 339


def place(data: Any, folder: Path, source: Path = TRAINED) -> Path:
    """A record's data in a file beside the side file of `source`."""
    shutil.copy(source.with_name(stored(source)["predictions"]["file"]), folder)
    path = folder / source.name
    path.write_text(json.dumps(data))
    return path


CONTRADICTIONS = {
    "another identity": ("identity", digest("x")),
    "another seed": ("seed", 77),
    "another recipe": ("recipe.mix_alpha", 1),
    "another name": ("recipe_name", "ce"),
    "overrides left out": ("overrides", ["mix.alpha=3"]),
    "another protocol": ("protocol.name", "cifar-200ep"),
    "another version of the protocol": ("protocol.version", 2),
    "a protocol said to be modified": ("protocol.modified", True),
    "other settings of the protocol": ("protocol.sha256", digest("x")),
    "another factor": ("dataset.factor", 50.0),
    "another data set": ("dataset.name", "cifar10-lt"),
    "other images": ("dataset.content_sha256", digest("x")),
    "other test images": ("dataset.test_sha256", digest("x")),
    "another version of the card": ("dataset.version", 9),
    "another split": ("dataset.split_sha256", digest("x")),
    "looks of a set that ships": ("dataset.looks", {"mean": [0.5] * 3, "std": [0.5] * 3, "flip": True}),
    "a validation part": ("dataset.validation_sha256", digest("x")),
    "other counts": ("dataset.train_counts.0", 99),
    "an empty class": ("dataset.train_counts.9", 0),
    "a last epoch that is none": ("selections.last.epoch", 3),
    "a better top-1": ("selections.best-on-test.epoch", 0),
    "NaN confidences": ("selections.last.calibration.confidence_sum.14", float("nan")),
    "confidences of other bins": ("selections.last.calibration.confidence_sum.14", 0.0),
    "a longer training": ("timing.epochs", 99),
    "epochs out of order": ("curve.epoch.0", 1),
    "a loss that is not finite": ("curve.train_loss.0", float("inf")),
    "a figure of no epoch": ("curve.test_top1.14", 0.5),
    "a validation curve alone": ("curve.val_top1.0", 0.5),
    "a version whose records are sealed": ("schema_version", 2),
    "a seal of a version without": ("sha256", digest("x")),
    "a first stage of one stage": ("first_stage", {"identity": digest("x"), "wall_s": None}),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction_is_one_line_naming_file_and_field(case: str, tmp_path: Path) -> None:
    field, value = CONTRADICTIONS[case]
    keys = tuple(int(key) if key.isdecimal() else key for key in field.split("."))
    path = place(changed(stored(TRAINED), keys, value), tmp_path)
    with pytest.raises(UserError) as error:
        load_records(tmp_path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


def test_unchanged_it_is_believed(tmp_path: Path) -> None:
    assert load_record(place(stored(TRAINED), tmp_path)).seed == stored(TRAINED)["seed"]


@pytest.mark.parametrize("overrides", [[], ["protocol.optimizer.lr=0.2"]], ids=["shipped", "modified"])
def test_whether_a_protocol_is_the_shipped_one(overrides: list[str]) -> None:
    recipe = load_recipe("cifar10-lt/ce", ["protocol=cifar-30ep", *overrides])
    protocol, modified = recipe.resolved()["protocol"], recipe.protocol_modified()
    believe(make_record(protocol={**protocol, "modified": modified}))
    with pytest.raises(ValueError, match=rf"^protocol.modified: {not modified}, but .* gives {modified}$"):
        believe(make_record(protocol={**protocol, "modified": not modified}))
    for other in ({"version": 2}, {"name": "of-another-release"}):
        believe(make_record(protocol={**protocol, "modified": not modified, **other}))


@pytest.mark.parametrize(
    "recipe",
    [
        {"protocol": None},
        {"protocol": {"name": "cifar-30ep", "version": 1, "epochs": 10**30}},
        {"protocol": {"name": "cifar-30ep", "version": 1, "epochs": 10**5000}},
        {"data": []},
        {"second_stage": {"stage": {"epochs": 1}}},
        {"first_stage": {"plugins": {}}},
    ],
    ids=lambda recipe: next(iter(recipe)),
)
def test_a_recipe_that_is_none_is_refused(recipe: dict[str, Any]) -> None:
    data = make_data()
    with pytest.raises(ValueError):
        believe(
            make_record(**{key: data[key] for key in ("recipe_sha256", "identity")}).model_copy(
                update={"recipe": data["recipe"] | recipe}
            )
        )


def test_trained_weights_are_those_of_the_recipe() -> None:
    recipe = {"model": {"backbone": {"name": "clip/ViT-B-16", "weights_sha256": digest("file")}}}
    told = {"network": "clip/ViT-B-16", "source": "a file", "data": "images", "parameters": 9, "learned": 1}
    believe(make_record(recipe=recipe, pretrained={**told, "sha256": digest("file")}))
    with pytest.raises(ValueError, match=r"^pretrained.sha256: "):
        believe(make_record(recipe=recipe, pretrained={**told, "sha256": digest("another file")}))


def test_the_split_that_was_recorded_counts_where_there_is_no_card() -> None:
    believe(make_record())
    with pytest.raises(ValueError, match=r"^identity: "):
        believe(make_record(identity=digest("another")))


def test_digests_are_those_of_recipes() -> None:
    for name in ("cifar10-lt/ce", "digits-lt/mislas"):
        recipe = load_recipe(name)
        assert recipe_sha256(recipe.resolved()) == recipe.sha256()
        assert run_identity(recipe.sha256(), digest("split"), 3) == recipe.identity(digest("split"), 3)


def test_the_first_twelve_digits_are_not_an_identity(tmp_path: Path) -> None:
    path = place(stored(TRAINED), tmp_path)
    identity = stored(TRAINED)["identity"]
    assert find_record(tmp_path, identity) == path
    assert find_record(tmp_path, identity[:12] + "0" * 52) is None


def test_a_diverged_network_gets_no_record(tmp_path: Path) -> None:
    record, predictions = make_record(), make_predictions(confidence=float("nan"))
    with pytest.raises(RunError, match="there is no record: confidence: not all are finite"):
        write_record(record, predictions, tmp_path)
    assert not list(tmp_path.iterdir())


def test_predictions_of_another_run_make_no_record(tmp_path: Path) -> None:
    made = make_predictions()
    constant = Predictions(made.labels, made.predicted * 0, made.confidence)
    with pytest.raises(RunError, match=r"fewer images of a class than selections\.last\.correct"):
        write_record(make_record(), constant, tmp_path)


# --- the seal ----------------------------------------------------------------------------------------


@given(data=st.data())
def test_no_byte_of_a_record_can_change(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = add_record(tmp_path_factory.mktemp("records"))
    stored = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(stored) - 1)), data.draw(st.integers(0, 7))
    path.write_bytes(stored[:at] + bytes([stored[at] ^ 1 << bit]) + stored[at + 1 :])
    with pytest.raises(UserError):
        load_record(path)


def exchanged(record: Any) -> None:
    """Right predictions of two classes, at equal sums."""
    correct = record["selections"]["last"]["correct"]
    correct[0], correct[1] = correct[1], correct[0]


def shifted(record: Any) -> None:
    """Confidence within a bin."""
    record["selections"]["last"]["calibration"]["confidence_sum"][11] += 0.5


def without_seal(record: Any) -> None:
    del record["sha256"]


def without_version(record: Any) -> None:
    del record["schema_version"]


@pytest.mark.parametrize("change", [exchanged, shifted, without_seal, without_version])
def test_what_a_record_says_once_is_sealed(tmp_path: Path, change: Callable[[Any], None]) -> None:
    path = add_record(tmp_path)
    record = json.loads(path.read_bytes())
    change(record)
    path.write_text(json.dumps(record, indent=1))
    with pytest.raises(UserError, match=r"sha256|schema_version") as error:
        load_record(path)
    assert "\n" not in str(error.value)


def test_line_ends_of_another_system_are_no_change(tmp_path: Path) -> None:
    path = add_record(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    load_record(path)


def test_a_record_that_needs_no_version_is_none() -> None:
    with pytest.raises(ValueError, match="schema_version"):
        Record.read({key: value for key, value in stored(TRAINED).items() if key != "schema_version"})
