"""Predictions of another program on the board: shown and marked, ranked only if asked."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records_factory import make_data

from lt_bench.data import DataSpec, open_split
from lt_bench.errors import UserError
from lt_bench.leaderboard import build, load_predictions, load_record
from lt_bench.leaderboard.aggregate import scores
from lt_bench.leaderboard.belief import believe
from lt_bench.leaderboard.external import Claim, add_predictions
from lt_bench.leaderboard.schema import Record

LtBench = Callable[..., Any]
CLAIM = Claim("theirs", "A. Group", "digits-lt", "digits-demo")
WORDS = ["--method", "theirs", "--by", "A. Group", "--on", "digits-lt", "--protocol", "digits-demo"]


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return open_split(DataSpec(name="digits-lt")).test.labels


def probabilities(labels: np.ndarray, seed: int, right: float = 0.95) -> np.ndarray:
    rng = np.random.default_rng(seed)
    chosen = np.where(rng.random(len(labels)) < right, labels, 0)
    return np.where(np.arange(10) == chosen[:, None], 0.82, 0.02)


def test_what_cannot_be_known_is_empty(labels: np.ndarray, tmp_path: Path) -> None:
    given = probabilities(labels, 0)
    np.savez(tmp_path / "p.npz", probabilities=given)
    path = add_predictions(tmp_path / "p.npz", CLAIM, tmp_path / "records").path
    record = load_record(path)
    assert (record.environment, record.timing, record.curve.epoch) == (None, None, ())
    assert record.external is not None
    assert (record.external.by, record.protocol.name, record.dataset.factor) == ("A. Group", "digits-demo", 20)
    found = scores(record)
    assert found["top1"] == pytest.approx(100 * (given.argmax(1) == labels).mean())
    assert found["ece"] == pytest.approx(abs(found["top1"] - 82), abs=1e-3)
    np.testing.assert_array_equal(load_predictions(path, record)[0], given.argmax(1))


def test_classes_alone_have_no_calibration(labels: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", predicted=labels)
    record = load_record(add_predictions(tmp_path / "p.npz", CLAIM, tmp_path / "records").path)
    assert (scores(record)["top1"], scores(record)["ece"]) == (100, None)
    assert record.selections["last"].calibration.count == ()


def test_the_same_file_comes_once_and_another_is_a_revision_where_it_is_asked_for(
    labels: np.ndarray, tmp_path: Path
) -> None:
    np.savez(tmp_path / "p.npz", predicted=labels)
    first = add_predictions(tmp_path / "p.npz", CLAIM, tmp_path / "records")
    again = add_predictions(tmp_path / "p.npz", CLAIM, tmp_path / "records")
    assert (first.new, again.new, again.path) == (True, False, first.path)
    np.savez(tmp_path / "p.npz", predicted=labels[::-1])
    with pytest.raises(UserError, match=r"theirs is there with seed 0 .* --seed 0 puts it in the place of that"):
        add_predictions(tmp_path / "p.npz", CLAIM, tmp_path / "records")
    other = add_predictions(tmp_path / "p.npz", replace(CLAIM, seed=0), tmp_path / "records")
    assert (other.new, other.path.name) == (True, f"{first.path.stem}.r2.json")


def test_one_file_is_no_two_trainings(labels: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", predicted=labels)
    add_predictions(tmp_path / "p.npz", CLAIM, tmp_path / "records")
    some = np.roll(labels, 1)
    np.savez(tmp_path / "a.npz", predicted=some, confidence=np.full(len(some), 1 / 3))
    rows = np.stack([some, np.full(len(some), 0.333)], axis=1)
    np.savetxt(tmp_path / "b.csv", rows, fmt=["%d", "%.3f"], delimiter=",", header="predicted,confidence", comments="")
    add_predictions(tmp_path / "a.npz", replace(CLAIM, method="wrong"), tmp_path / "records")
    with pytest.raises(UserError, match=r"b\.csv: is there as seed 0 of wrong"):
        add_predictions(tmp_path / "b.csv", replace(CLAIM, method="wrong", seed=1), tmp_path / "records")
    with pytest.raises(UserError, match=r"p\.npz: is there as seed 0 of theirs; each training has its own file"):
        add_predictions(tmp_path / "p.npz", replace(CLAIM, seed=1), tmp_path / "records")
    assert len(list((tmp_path / "records").rglob("*.json"))) == 2
    assert add_predictions(tmp_path / "p.npz", replace(CLAIM, method="another"), tmp_path / "records").new


def add_rows(folder: Path, labels: np.ndarray) -> None:
    for seed in range(3):
        for method, right in (("better", 0.99), ("worse", 0.5)):
            np.savez(folder / "p.npz", probabilities=probabilities(labels, seed, right))
            claim = Claim(method, "A. Group", "digits-lt", "digits-demo", seed, "https://example.org")
            add_predictions(folder / "p.npz", claim, folder / "records")


def test_shown_and_marked_and_ranked_only_if_asked(labels: np.ndarray, tmp_path: Path) -> None:
    add_rows(tmp_path, labels)
    build(tmp_path / "records", tmp_path / "board")
    (page,) = (tmp_path / "board" / "tables").glob("*.md")
    assert "| better (external, A. Group) | 3 |" in page.read_text()
    assert "| Rank |" in page.read_text()
    assert "| – | better" in page.read_text()
    assert "- better (external, A. Group): trained elsewhere (https://example.org); of its" in page.read_text()
    assert "not ranked." in page.read_text()
    build(tmp_path / "records", tmp_path / "board", rank_external=True)
    assert "| 1 | better" in page.read_text()
    assert "not ranked." not in page.read_text()
    (row, _) = csv.DictReader(page.with_suffix(".csv").read_text().splitlines())
    assert (row["external"], row["command"], row["commits"]) == ("A. Group", "", "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"environment": None}, "environment and timing: an external record has none"),
        ({"external": {"by": "us", "file_sha256": "0" * 64}}, "environment and timing: an external record has none"),
    ],
)
def test_only_external_records_lack_their_origin(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Record.read(make_data(**changes))


def test_the_mark_cannot_be_taken_off_or_put_on(labels: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", predicted=labels)
    record = load_record(add_predictions(tmp_path / "p.npz", CLAIM, tmp_path / "records").path)
    plain = make_data()
    origin = {"environment": plain["environment"], "timing": plain["timing"], "external": None}
    for taken_off in (origin, {"external": {"by": "B. Group", "file_sha256": "0" * 64}}):
        with pytest.raises(ValueError, match="external"):
            believe(Record.read(record.model_dump(mode="json") | taken_off))
    put_on = {"environment": None, "timing": None, "external": {"by": "us", "file_sha256": "0" * 64}}
    with pytest.raises(ValueError, match="external"):
        believe(Record.read(make_data(**put_on)))


def test_the_command(lt_bench: LtBench, labels: np.ndarray, tmp_path: Path) -> None:
    np.savez("p.npz", predicted=labels, label=labels)
    done = lt_bench("leaderboard", "add", "p.npz", *WORDS, "--seed", "3", "--records", "theirs")
    assert (done.code, done.out.splitlines()[-1][:27]) == (0, "1 taken in, 0 there already")
    (path,) = Path("theirs").rglob("*.json")
    assert (path.name[:6], json.loads(path.read_text())["seed"]) == ("seed3-", 3)
    copied = lt_bench("leaderboard", "add", "theirs")
    assert copied.out.startswith(f"results/{path.relative_to('theirs').parent}".replace("results", "results/records"))
    shown = lt_bench("leaderboard", "show").out
    assert "theirs (external, A. Group) (yours)" in shown
    for command, said in (
        (("run", path), "trained by A. Group with another program, which this suite cannot run"),
        (("curves", path), "its epochs are not known"),
        (("leaderboard", "add", "p.npz", "--method", "m"), "p.npz: predictions need --by, --on, --protocol"),
        (("leaderboard", "add", "theirs", "--by", "us"), "--by: belongs to predictions"),
        (("leaderboard", "add", "p.npz", *WORDS[:-1], "digits"), "--protocol 'digits' is not a known protocol"),
        (("leaderboard", "add", "p.npz", *WORDS, "--by", "two\nlines"), "--by: should be one line of text"),
        (("leaderboard", "add", "p.npz", "q.npz", *WORDS), "q.npz"),
        (("leaderboard", "add", "p.npz", *WORDS, "factor=0.5"), "data.factor"),
        (("leaderboard", "add", "p.npz", *WORDS, "validation_per_class=5"), "validation_per_class: an external record"),
    ):
        refused = lt_bench(*command)
        assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1), refused
        assert said in refused.err


def test_predictions_of_this_suite_come_back_as_they_were_counted(labels: np.ndarray, tmp_path: Path) -> None:
    """What `evaluate --predictions` writes."""
    given = np.log(probabilities(labels, 0)).astype(np.float32)
    arrays = {"image": np.arange(len(labels)), "label": labels, "predicted": given.argmax(1).astype(np.int16)}
    arrays |= {"confidence": np.exp(given.max(1)), "logits": given, "class_names": np.array(list("0123456789"))}
    np.savez(tmp_path / "p.npz", **arrays)
    record = load_record(add_predictions(tmp_path / "p.npz", CLAIM, tmp_path / "records").path)
    assert record.selections["last"].correct == tuple(np.bincount(labels[given.argmax(1) == labels], minlength=10))
    with pytest.raises(UserError, match="600 of 600 are not those of the test set"):
        np.savez(tmp_path / "p.npz", predicted=labels, label=(labels + 1) % 10)
        add_predictions(tmp_path / "p.npz", CLAIM, tmp_path / "records")
