"""Trackers get what the log gets, and can do a run no harm."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from run_cases import RUN, refused

from lt_bench.errors import UserError
from lt_bench.training.tracking import Tracked, tracking

LtBench = Callable[..., Any]


@pytest.fixture(params=["wandb", "trackio"])
def hosted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that keeps what it is told in `said`."""
    module: Any = ModuleType(request.param)
    module.__spec__ = ModuleSpec(request.param, None)
    module.said = []

    def begin(**settings: Any) -> Any:
        module.said.append(("init", settings))
        log = lambda values, step: module.said.append((step, values))  # noqa: E731
        return SimpleNamespace(log=log, finish=lambda: module.said.append(("finish", {})))

    module.init = begin
    monkeypatch.setitem(sys.modules, request.param, module)
    return module  # type: ignore[no-any-return]


@pytest.mark.usefixtures("tiny_backbone")
def test_a_run_tells_what_its_log_holds(lt_bench: LtBench, hosted: Any) -> None:
    done = lt_bench(*RUN, "--track", hosted.__name__)
    assert done.code == 0, done.err
    (log,) = Path("runs").rglob("log.jsonl")
    (record,) = Path("results/records").rglob("*.json")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    (_, settings), *told, end = hosted.said
    assert end == ("finish", {})
    assert [step for step, _ in told] == [entry["epoch"] + 1 for entry in entries]
    assert [values for _, values in told] == [
        {name: value for name, value in entry.items() if name != "epoch" and value is not None} for entry in entries
    ]
    assert {"train_loss", "lr", "test_top1", "test_few"} <= told[-1][1].keys()
    assert settings["config"]["identity"] == json.loads(record.read_text())["identity"]
    assert (settings["project"], settings["resume"]) == ("lt-bench", "allow")
    assert "digits-lt ce" in settings["name"]


def followed(name: str, folder: Path, done: int = 0) -> Any:
    return tracking(name, Tracked("a run", "0" * 64, {"name": "ce"}, folder, done))


def test_what_fails_is_said_once_and_left(hosted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(**_: Any) -> Any:
        def log(*_: Any, **__: Any) -> None:
            raise ConnectionError("no network")

        return SimpleNamespace(log=log, finish=log)

    hosted.init = broken
    with followed(hosted.__name__, tmp_path) as track:
        for epoch in range(3):
            track({"epoch": epoch, "train_loss": 1.0})
    assert capsys.readouterr().err == f"--track {hosted.__name__}: no network; the run goes on without it\n"


def test_one_that_cannot_begin_ends_the_run_before_it_begins(hosted: Any, tmp_path: Path) -> None:
    def refuses(**_: Any) -> Any:
        raise RuntimeError("no key:\nlog in first")

    hosted.init = refuses
    with pytest.raises(UserError, match=r"could not begin: no key: log in first$"), followed(hosted.__name__, tmp_path):
        pass


def test_an_error_of_the_training_passes_and_the_tracker_ends(hosted: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), followed(hosted.__name__, tmp_path):
        raise KeyboardInterrupt
    assert hosted.said[-1] == ("finish", {})


def test_what_is_no_number_is_left_out(hosted: Any, tmp_path: Path) -> None:
    with followed(hosted.__name__, tmp_path) as track:
        track({"epoch": 0, "train_loss": float("nan"), "val_top1": None, "lr": 0.1})
    assert hosted.said[1] == (1, {"lr": 0.1})


def test_without_the_extra_one_line_says_what_to_install(lt_bench: LtBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_bench.training.tracking.find_spec", lambda name: None)
    said = "--track wandb: not installed; pip install 'lt-bench[track]', or wandb alone"
    refused(lt_bench("run", "digits-lt/ce", "--track", "wandb"), said)
    refused(lt_bench("sweep", "digits-lt/ce", "--track", "wanbd"), "'wanbd' is not a known tracker", "mean wandb?")


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_can_read_what_is_written(tmp_path: Path) -> None:
    with followed("tensorboard", tmp_path) as track:
        for epoch in range(3):
            track({"epoch": epoch, "train_loss": 3.0 - epoch})
    with followed("tensorboard", tmp_path, done=2) as track:  # after a checkpoint of two epochs
        track({"epoch": 2, "train_loss": 0.5})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("train_loss")] == [(1, 3.0), (2, 2.0), (3, 0.5)]
