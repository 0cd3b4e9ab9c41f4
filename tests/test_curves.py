"""What a run's log holds of each epoch, and the one command that draws it or makes a table of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_cases import TINY, at_epoch, once, only, record, refused, tiny, train

from lt_bench.curves import read_curves, told_apart
from lt_bench.evaluation.metrics import accuracy_by_class, group_accuracy
from lt_bench.leaderboard.record import load_record

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

LtBench = Callable[..., Any]
GROUPED = ("data.n_max=40", "data.factor=4")  # medium and few; no class is above 100


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in only(folder, "log.jsonl").read_text().splitlines()]


def test_an_epoch_of_the_log(tmp_path: Path) -> None:
    train(tiny("ce", *GROUPED), tmp_path)
    entries, found = log(tmp_path), record(tmp_path)
    last = found.selections["last"]
    groups = group_accuracy(accuracy_by_class(last.correct, last.total), found.dataset.train_counts)
    assert {name: entries[-1].get(f"test_{name}") for name in groups} == groups
    assert groups["many"] is None
    evaluated = [{"test_top1", "test_medium", "test_few"} <= entry.keys() for entry in entries]
    assert evaluated == [False, True, False, True, True]
    assert sum(entry["seconds"] for entry in entries) == pytest.approx(found.timing.wall_s, abs=0.1)
    images = sum(found.dataset.train_counts)
    assert all(images / entry["images_per_s"] <= entry["seconds"] + 0.002 for entry in entries)


def test_settings_of_one_method_are_told_apart(tmp_path: Path) -> None:
    records = [train(tiny("ce", *given), tmp_path, seed=7).record for given in ((), ("loss.label_smoothing=0.1",))]
    titles = [one.title for one in told_apart([read_curves(path) for path in records])]
    assert titles == [f"digits-lt/ce seed 7 [{load_record(path).identity[:8]}]" for path in records]
    assert len(set(titles)) == 2


def test_epochs_that_were_logged_stay_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_epoch(monkeypatch, before=once(5), after=once(3))
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path)
    before = log(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path)
    train(tiny(), tmp_path)
    assert log(tmp_path)[:3] == before
    assert [entry["epoch"] for entry in log(tmp_path)] == [0, 1, 2, 3, 4]


def test_folder_and_record_of_a_run_say_the_same(tmp_path: Path) -> None:
    outcome = train(tiny(), tmp_path, seed=7)
    folder, written = read_curves(only(tmp_path, "log.jsonl").parent), read_curves(outcome.record)
    assert folder.title == written.title == "digits-lt/ce seed 7"
    assert told_apart([folder, written]) == [folder, written]
    for name in ("lr", "train_loss", "test_top1"):
        assert folder.points(name) == written.points(name)
    assert folder.points("test_top1")[0] == [2, 4, 5]


def test_several_runs_in_one_picture(lt_bench: LtBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    assert lt_bench("run", "digits-lt/ce", *TINY, *GROUPED, "--device", "cpu", "--seeds", "0,1").code == 0
    logs, records = sorted(tmp_path.rglob("log.jsonl")), sorted(tmp_path.rglob("seed*.json"))
    done = lt_bench("curves", logs[0].parent, records[1])
    assert (done.code, done.out) == (0, "curves.png: digits-lt/ce seed 0, digits-lt/ce seed 1\n")
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")
    drawn: list[Any] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    lt_bench("curves", logs[0].parent, records[1], "--out", "b.png")
    loss, top1, groups = drawn[0].axes
    assert [line.get_label() for line in loss.lines] == ["digits-lt/ce seed 0", "digits-lt/ce seed 1"]
    entries = [json.loads(line) for line in logs[0].read_text().splitlines()]
    assert top1.lines[0].get_xydata().tolist() == [[k + 1, 100 * entries[k]["test_top1"]] for k in (1, 3, 4)]
    assert [len(line.get_xydata()) for line in groups.lines] == [0, 3, 3, 0, 0, 0]


def test_a_table_of_several_runs(lt_bench: LtBench, tmp_path: Path) -> None:
    lt_bench("run", "digits-lt/ce", "digits-lt/ncm", *TINY, "--device", "cpu")
    folders = [path.parent for path in sorted(tmp_path.rglob("log.jsonl"))]
    assert lt_bench("curves", *folders, "--out", "both.csv").code == 0
    rows = list(csv.DictReader(Path("both.csv").read_text().splitlines()))
    assert [row["run"] for row in rows] == ["digits-lt/ce seed 0"] * 5 + ["digits-lt/ncm seed 0"]
    assert (
        float(rows[4]["test_top1"])
        == json.loads(only(folders[0], "log.jsonl").read_text().splitlines()[4])["test_top1"]
    )
    assert rows[5]["train_loss"] == ""  # nothing was trained


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"epoch": 0}\n{"epoch": 2}\n', "its epochs are not 0, 1, 2"),
        ('{"epoch": 0, "lr": "high"}\n', "something else than numbers"),
        ("[1]\n", "not the log of a run"),
        ("{\n", "not the log of a run"),
    ],
)
def test_what_is_no_log(lt_bench: LtBench, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    refused(lt_bench("curves", tmp_path), f"{tmp_path / 'log.jsonl'}: ", said)
    assert not Path("curves.png").exists()


def test_a_line_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"epoch": 0, "train_loss": 1.5}\n{"epoch": 1, "tra')
    assert read_curves(tmp_path).entries == [{"epoch": 0, "train_loss": 1.5}]


def test_what_cannot_be_drawn(lt_bench: LtBench, tmp_path: Path) -> None:
    refused(lt_bench("curves", "absent.json"), "absent.json")
    refused(lt_bench("curves", tmp_path), f"{tmp_path / 'log.jsonl'}")
    (tmp_path / "log.jsonl").write_text('{"epoch": 0, "train_loss": 1.5}\n')
    refused(lt_bench("curves", tmp_path, "--out", "nowhere/a.csv"), "nowhere/a.csv: cannot be written")
    refused(lt_bench("curves", tmp_path, "--out", "a.txt"), "a.txt: the figure cannot be written")
