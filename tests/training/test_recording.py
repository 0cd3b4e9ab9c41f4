"""What no record could hold is told before the training, and costs nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from run_cases import only, record, tiny, train

from lt_bench.errors import UserError
from lt_bench.leaderboard.record import Record
from lt_bench.recipe import Recipe
from lt_bench.training import loop, recording
from lt_bench.training import run as run_module

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training would end the test."""
    monkeypatch.setattr(loop, "train_epoch", None)


def classes_are_called(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    real = run_module.open_split
    monkeypatch.setattr(
        run_module, "open_split", lambda *settings: dataclasses.replace(real(*settings), class_names=names)
    )


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("third", "said"),
    [
        ("", "dataset.class_names.2: .*, found ''$"),
        ("a\nb", r"dataset.class_names.2: .*, found 'a\\nb'$"),
        ("x" * 600, r"dataset.class_names.2: .*, found 'x+\.\.\.$"),
        ("\udcff", ".*surrogate"),
    ],
)
def test_names_that_a_record_cannot_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, third: str, said: str
) -> None:
    classes_are_called(monkeypatch, "0", "1", third, *"3456789")
    with pytest.raises(UserError, match=rf"^digits-lt/ce: no record could hold this run: {said}") as caught:
        train(tiny(), tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no record could hold this run"):
        train(tiny("crt", "second_stage.epochs=2"), tmp_path)  # before the first stage


@pytest.mark.usefixtures("untrained")
def test_more_names_than_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes_are_called(monkeypatch, *"0123456789", "ten")
    with pytest.raises(UserError, match=r"dataset.class_names has 11, dataset.train_counts has 10"):
        train(tiny(), tmp_path)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(("limit", "most"), [("MOST_BYTES", 2**11), ("MOST_VALUES", 100)])
def test_a_record_too_large_to_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(recording, limit, most)
    with pytest.raises(UserError, match=rf"5 epochs and 10 classes are \d+ bytes and \d+ values, at most .*\b{most}\b"):
        train(tiny(), tmp_path)


@pytest.mark.usefixtures("untrained")
def test_a_record_that_would_not_be_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recipe, "identity", lambda *_: "1" * 64)
    with pytest.raises(UserError, match="no record could hold this run: identity: "):
        train(tiny(), tmp_path)


@pytest.mark.usefixtures("untrained")
def test_a_folder_inside_the_records_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "digits-lt-if4").touch()
    with pytest.raises(UserError, match=r"--records .*digits-demo/ce: cannot be written: Not a directory"):
        train(tiny(), tmp_path)


@pytest.mark.parametrize("name", ["ce", "ncm"])
def test_the_draft_is_the_record_but_for_what_is_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    drafts: dict[str, Record] = {}

    def draft(recipe: Any, *rest: Any) -> Record:
        drafts[recipe.name] = recording.draft_record(recipe, *rest)
        return drafts[recipe.name]

    monkeypatch.setattr(run_module, "draft_record", draft)
    recipe = tiny(name, "data.validation_per_class=2")
    found = train(recipe, tmp_path).record
    made, drafted = run_module.load_record(found), drafts[name]
    for field in ("identity", "recipe", "dataset", "protocol", "environment", "seed", "overrides", "first_stage"):
        assert getattr(made, field) == getattr(drafted, field), field
    assert made.curve.epoch == drafted.curve.epoch
    assert made.curve.lr == drafted.curve.lr
    assert made.selections["last"].total == drafted.selections["last"].total


def test_a_record_says_when_its_last_epoch_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when it was written, which may be after a mended disk: it is the same training."""
    times = iter(f"2030-01-01T00:00:00.{n:06}+00:00" for n in range(100))
    monkeypatch.setattr(run_module, "now", lambda: next(times))
    train(tiny(), tmp_path)
    assert record(tmp_path).created == "2030-01-01T00:00:00.000004+00:00"
    assert not only(tmp_path, "log.jsonl").with_name("checkpoint.pt").exists()
