"""How a run fails: on a full disk, at a folder or device that is none, and what that costs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import assert_same_result, no_space, only, record, tiny, train, weights

from lt_bench.errors import RunError, UserError
from lt_bench.files import TEMPORARY
from lt_bench.leaderboard.record import load_record
from lt_bench.training import loop
from lt_bench.training import run as run_module

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")


def test_a_full_disk_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, saved = run_module.save_checkpoint, []

    def save(path: Path, state: Any, setting: Any) -> None:
        with monkeypatch.context() as patch:
            if len(saved) == 2:
                patch.setattr(os, "fsync", no_space)
            real(path, state, setting)
        saved.append(path)

    monkeypatch.setattr(run_module, "save_checkpoint", save)
    with pytest.raises(
        RunError, match=r"checkpoint\.pt: the checkpoint could not be written: No space left on device$"
    ):
        train(tiny(), tmp_path / "cut")
    assert not list(tmp_path.rglob(TEMPORARY))
    monkeypatch.setattr(run_module, "save_checkpoint", real)
    train(tiny(), tmp_path / "cut")
    assert record(tmp_path / "cut").timing.resumed == 1
    train(tiny(), tmp_path / "whole")
    assert_same_result(tmp_path / "cut", tmp_path / "whole")


def full_during(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The disk is full while the function `name` of a run writes."""
    real = getattr(run_module, name)

    def write(*arguments: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", no_space)
            return real(*arguments)

    monkeypatch.setattr(run_module, name, write)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_full_disk_while_the_record_is_written_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        full_during(patch, "write_record")
        with pytest.raises(UserError, match=r"could not be written: No space left on device") as caught:
            train(tiny(), tmp_path)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == {"checkpoint.pt", "log.jsonl", "recipe.json", "weights.safetensors"}
    monkeypatch.setattr(loop, "train_epoch", None)
    assert train(tiny(), tmp_path, force=True).trained
    assert record(tmp_path).timing.epochs == 5


def test_a_full_disk_while_the_weights_are_written_costs_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        full_during(patch, "save_weights")
        outcome = train(tiny(), tmp_path)
    said = "weights.safetensors: the weights could not be written: No space left on device; the record is written, and"
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert load_record(outcome.record).weights_sha256 is None
    assert files(tmp_path) - {outcome.record.name, outcome.record.with_suffix(".npz").name} == {
        *("checkpoint.pt", "log.jsonl", "recipe.json")
    }
    assert not train(tiny(), tmp_path).trained
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_epoch", None)
        assert train(tiny("ncm"), tmp_path).trained  # from the checkpoint that was kept
    assert weights(tmp_path / "runs" / "digits-lt" / "digits-demo" / "ce")


@pytest.mark.parametrize("name", ["recipe.json", "log.jsonl"])
def test_a_full_disk_while_the_run_begins_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real = run_module.write_atomically
    monkeypatch.setattr(
        run_module, "write_atomically", lambda path, data: no_space() if path.name == name else real(path, data)
    )
    with pytest.raises(UserError, match=r"cannot be written: No space left on device$"):
        train(tiny(), tmp_path)


def test_a_full_disk_while_the_log_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def opened(path: Path, mode: str = "r", **settings: Any) -> Any:
        return no_space() if mode == "a" else real(path, mode, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(UserError, match=r"cannot be written: No space left on device$"):
            train(tiny(), tmp_path)
    train(tiny(), tmp_path)
    assert only(tmp_path, "log.jsonl").read_text().count('"epoch"') == 5


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    train(tiny(), tmp_path)
    left = only(tmp_path, "log.jsonl").parent / ".0123456789abcdef.tmp"
    left.touch()
    train(tiny(), tmp_path, force=True)
    assert not left.exists()


def test_an_error_in_the_training_is_not_taken_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "train_epoch", lambda *_: Path("absent").read_text())
    with pytest.raises(FileNotFoundError):
        train(tiny(), tmp_path)


@pytest.mark.parametrize("place", ["work", "records"])
def test_a_folder_that_is_a_file(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"written: .*(Not a directory|File exists)"):
        train(tiny(), tmp_path, **{place: tmp_path / "file"})


def test_a_device_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--device tpu: allowed are auto, cpu, cuda"):
        train(tiny(), tmp_path, device="tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, so asking for it is no mistake")
def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--device cuda: torch finds no CUDA device"):
        train(tiny(), tmp_path, device="cuda")
