from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_factory import add_record, digest, make_data, make_predictions, make_record

from lt_bench.errors import UserError
from lt_bench.leaderboard.record import (
    Curve,
    Record,
    Selection,
    find_record,
    latest,
    load_predictions,
    load_record,
    load_records,
    to_json,
    write_record,
)


def files(folder: Path) -> list[str]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return sorted(str(path.relative_to(folder)) for path in found)


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_written_record_is_where_it_belongs_and_reads_back(tmp_path: Path) -> None:
    path = add_record(tmp_path, recipe_name="cmo-bs", seed=3, dataset={"factor": 100.0, "profile": "step"})
    record = load_record(path)
    stem = f"seed3-{record.identity[:12]}"
    assert path.relative_to(tmp_path) == Path("tiny-lt-if100-step", "cifar-30ep", "cmo-bs", f"{stem}.json")
    assert files(path.parent) == [f"{stem}.json", f"{stem}.npz"]
    assert to_json(record).encode() == path.read_bytes()
    assert path.read_text().endswith("}\n")
    predicted, confidence = load_predictions(path, record)
    expected = make_predictions()
    np.testing.assert_array_equal(predicted, expected.predicted)
    np.testing.assert_array_equal(confidence, expected.confidence.astype(np.float16))
    assert (predicted.dtype, confidence.dtype) == (np.int16, np.float16)


def test_writing_the_same_run_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (add_record(tmp_path / name) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".npz").read_bytes() == second.with_suffix(".npz").read_bytes()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(), st.floats(), st.none() | st.floats(0, 1)), max_size=5), st.text())
def test_any_float_and_text_survives(rows: list[tuple[float, float, float | None]], text: str) -> None:
    points = [{"epoch": i, "lr": lr, "train_loss": loss, "test_top1": top1} for i, (lr, loss, top1) in enumerate(rows)]
    record = make_record(curve=Curve.of(points).model_dump(), recipe={"note": text, "value": [r[0] for r in rows]})
    stored = to_json(record)
    assert to_json(Record.model_validate_json(stored)) == stored


def test_a_column_of_counts_stands_on_one_line() -> None:
    lines = to_json(make_record(dataset={"train_counts": [1000 + k for k in range(6)]})).splitlines()
    assert '  "train_counts": [1000, 1001, 1002, 1003, 1004, 1005]' in lines
    assert len(lines) < 100


def test_what_a_killed_writer_left_goes_with_the_next_record(tmp_path: Path) -> None:
    home = add_record(tmp_path).parent
    left = home / ".0123456789abcdef.tmp"
    left.write_text("half")
    add_record(tmp_path, seed=7)
    assert not left.exists()


def test_an_old_record_stays_and_the_latest_revision_is_found(tmp_path: Path) -> None:
    first = add_record(tmp_path)
    before = first.read_bytes()
    paths = [first, *(add_record(tmp_path, created=f"2026-05-02T12:00:{k:02}Z") for k in range(10))]
    assert [path.name.split(".", 1)[1] for path in paths] == ["json", *(f"r{k}.json" for k in range(2, 12))]
    assert first.read_bytes() == before
    identity = load_record(first).identity
    assert find_record(tmp_path, identity) == paths[-1]
    assert find_record(tmp_path, digest("another")) is None
    assert latest(tmp_path, lambda _, record: record.created) == ["2026-05-02T12:00:09Z"]
    assert len(load_records(tmp_path)) == 11
    assert load_predictions(paths[4], load_record(paths[4]))[0].shape == (60,)


def test_an_older_record_that_comes_later_does_not_take_the_place_of_a_newer_one(tmp_path: Path) -> None:
    newer = add_record(tmp_path, created="2026-05-02T12:00:00Z")
    older = add_record(tmp_path, created="2026-05-01T12:00:00Z")
    assert older.name.endswith(".r2.json")
    assert find_record(tmp_path, load_record(newer).identity) == newer
    assert latest(tmp_path, lambda path, _: path) == [newer]


def test_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    path = add_record(
        tmp_path / "records", recipe_name="../../../evil", dataset={"name": "/etc"}, protocol={"name": ".."}
    )
    assert path.resolve().is_relative_to(tmp_path / "records" / "etc-if500" / "unnamed" / "evil")


def test_predictions_of_another_run_are_refused(tmp_path: Path) -> None:
    path = add_record(tmp_path)
    path.with_suffix(".npz").write_bytes(b"not what it was")
    with pytest.raises(UserError, match="sha256 differs") as error:
        load_predictions(path, load_record(path))
    one_line(error)
    path.with_suffix(".npz").unlink()
    with pytest.raises(UserError, match="No such file"):
        load_predictions(path, load_record(path))


@pytest.mark.parametrize("failing", ["open", "write", "first rename", "second rename"])
def test_a_full_disk_leaves_nothing_behind(failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    renames: list[Path] = []
    opens: list[Path] = []
    replace, opened = Path.replace, Path.open

    def fail(*args: Any, **kwargs: Any) -> None:
        raise full

    def rename(self: Path, target: Path) -> Path:
        renames.append(target)
        if len(renames) == (1 if failing == "first rename" else 2):
            raise full
        return replace(self, target)

    def open_one(self: Path, *args: Any, **kwargs: Any) -> Any:
        opens.append(self)
        if len(opens) == 2:  # the record, after its side file
            raise full
        return opened(self, *args, **kwargs)

    patches = {"open": (Path, "open", open_one), "write": (os, "fsync", fail)}
    monkeypatch.setattr(*patches.get(failing, (Path, "replace", rename)))
    with pytest.raises(UserError, match=r"could not be written: No space left on device") as error:
        write_record(make_record(), make_predictions(), tmp_path)
    one_line(error)
    assert files(tmp_path) == []
    monkeypatch.undo()
    assert files(add_record(tmp_path).parent) != []


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("")
    with pytest.raises(UserError) as error:
        write_record(make_record(), make_predictions(), tmp_path / "records")
    one_line(error)


def broken(**changes: Any) -> str:
    return json.dumps(make_data(**changes))


def altered(path: str, value: Any) -> str:
    """A record with one field, named by its dotted path, set to another value."""
    data = make_data(best=(9, 9, 9, 9, 9, 9))
    *parents, last = path.split(".")
    target = data
    for name in parents:
        target = target[name]
    target[last] = value
    return json.dumps(data)


HOSTILE = {
    "unknown field": (altered("timing.cost", 1), "timing.cost"),
    "correct above total": (altered("selections.last.correct", [11, 8, 7, 6, 5, 4]), "class 0 has 11 correct of 10"),
    "bins of other predictions": (altered("selections.last.calibration.count", [60] * 15), "different predictions"),
    "bins cut short": (altered("selections.last.calibration.count", [60]), "lengths differ"),
    "negative count": (altered("selections.last.correct", [-1, 8, 7, 6, 5, 4]), "selections.last.correct.0"),
    "fractional count": (altered("selections.last.correct", [1.5, 8, 7, 6, 5, 4]), "selections.last.correct.0"),
    "count as text": (altered("selections.last.correct", ["9", 8, 7, 6, 5, 4]), "selections.last.correct.0"),
    "endless integer": (altered("dataset.train_counts", [10**400] * 6), "train_counts: more than any data set has"),
    "NaN as a count": (altered("seed", math.nan), "seed"),
    "percent instead of fraction": (altered("curve.test_top1", [47.2, 48.0]), "curve.test_top1.0"),
    "curve cut short": (altered("curve.lr", [0.1]), "curve: lengths differ"),
    "classes missing": (altered("dataset.class_names", ["only one"]), "class_names has 1"),
    "two test sets": (altered("selections.best-on-test.total", [10, 10, 10, 10, 9, 11]), "different test sets"),
    "unknown selection rule": (altered("selections", {"best-on-train": {}}), "selections.best-on-train"),
    "no last": (altered("selections", {}), "selections.last is missing"),
    "identity not a digest": (altered("identity", "../../x"), "identity"),
    "line break in a name": (altered("recipe_name", "ce\n# heading"), "recipe_name"),
    "terminal codes in a name": (altered("overrides", ["a=\x1b[2J"]), "overrides.0"),
    "side file elsewhere": (altered("predictions", {"file": "../x.npz", "sha256": digest("x")}), "predictions.file"),
    "a factor below 1": (altered("dataset.factor", 0.5), "dataset.factor: Input should be greater than or equal to 1"),
    "an endless factor": (altered("dataset.factor", math.inf), "dataset.factor"),
    "an unknown profile": (altered("dataset.profile", "pareto"), "dataset.profile"),
    "a negative subset seed": (altered("dataset.subset_seed", -1), "dataset.subset_seed"),
    "an endless seed": (altered("seed", 10**400), "seed"),
    "a class without images": (altered("dataset.train_counts", [500, 101, 100, 20, 19, 0]), "dataset.train_counts.5"),
    "time without end": (altered("timing.wall_s", math.inf), "timing.wall_s"),
    "a later schema": (altered("schema_version", 3), "schema_version"),
    "no date": (altered("created", "yesterday"), "created"),
    "truncated": (broken()[:500], "Invalid JSON"),
    "empty": ("", "Invalid JSON"),
    "a list": ("[]", "record"),
    "nested without end": ('{"recipe": ' + "[" * 100_000, "recursion limit"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_bad_record_is_one_line_naming_file_and_field(case: str, tmp_path: Path) -> None:
    text, named = HOSTILE[case]
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_records(tmp_path)
    message = one_line(error)
    assert message.startswith(f"{path}: ")
    assert named in message


def test_bytes_that_are_not_text_and_files_without_end(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError):
        load_record(path)
    with path.open("wb") as file:
        file.truncate(2**33)  # Sparse: takes no room, and must not be read.
    with pytest.raises(UserError, match="8,589,934,592 bytes, the most is 2,097,152"):
        load_record(path)


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_records(tmp_path / "nowhere")


def test_selection_counts_what_was_predicted() -> None:
    chosen = Selection.of(make_predictions((9, 0, 7, 6, 5, 4), confidence=0.75), epoch=4, num_classes=6)
    assert chosen.correct == (9, 0, 7, 6, 5, 4)
    assert chosen.total == (10,) * 6
    assert chosen.calibration.count[11] == 60  # 11/15 < 0.75 <= 12/15
    assert chosen.calibration.confidence_sum[11] == pytest.approx(45)
