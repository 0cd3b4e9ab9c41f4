"""What a training says of itself while it goes on: how fast, how long still, within 80 columns."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from run_cases import tiny, train

from lt_bench.durations import spoken
from lt_bench.training import progress as progress_module
from lt_bench.training.checkpoint import History
from lt_bench.training.progress import Bar, Lines, Progress, Shared, Status, on_screen


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Stands still until a test moves it."""
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(perf_counter=lambda: now.s))
    return now


def terminal(**_: Any) -> Console:
    """Of 80 columns, whatever standard error is."""
    return Console(file=sys.stderr, width=80, force_terminal=True, color_system=None)


def without_codes(capsys: pytest.CaptureFixture[str]) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)


def trained(progress: Progress, clock: Any, seconds: float, *, training: float, **entry: float) -> None:
    """An epoch of 10 steps that takes so many seconds, of which the steps take some."""
    for _ in range(10):
        clock.s += training / 10
        progress.step()
    clock.s += seconds - training
    progress.history.train_s += training
    progress.history.images += 1000
    progress.history.curve.append({"epoch": len(progress.history.curve), "train_loss": 3.70929, **entry})
    progress.epoch()


def test_an_epoch_says_how_fast_it_was_and_what_is_left(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Lines("set method seed 0", "a machine", History(), 30, 1000, 10) as progress:
        trained(progress, clock, 20, training=10)
        trained(progress, clock, 10, training=10, test_top1=0.125)
    assert capsys.readouterr().err.splitlines() == [
        "set method seed 0: a machine",
        "set method seed 0: epoch 1/30 loss 3.7093, 100 images/s, 20 s, 10 min left",
        "set method seed 0: epoch 2/30 loss 3.7093 test top-1 12.50 %, 100 images/s, 30 s, 7 min left",
    ]


def test_the_end_and_what_is_not_trained(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Lines("set ncm seed 0", "a machine", History(), 1, 1000, 10) as progress:
        clock.s += 3
        progress.history.curve.append({"epoch": 0, "train_loss": float("nan"), "test_top1": 0.5})
        progress.epoch()
    assert (
        capsys.readouterr().err.splitlines()[1] == "set ncm seed 0: epoch 1/1 without training test top-1 50.00 %, 3 s"
    )


def test_what_goes_on_counts_its_own_time_alone(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(curve=[{}] * 20, images=20_000, train_s=1e6)
    with Lines("set method seed 0", "a machine", history, 30, 1000, 10) as progress:
        trained(progress, clock, 10, training=10)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(", goes on after epoch 20 of 30")
    assert second.endswith("epoch 21/30 loss 3.7093, 100 images/s, 10 s, 90 s left")


def test_a_long_epoch_is_not_silent(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Lines("set method seed 0", "a machine", History(), 2, 1000, 10) as progress:
        trained(progress, clock, 100, training=100)
    _, *within, _ = capsys.readouterr().err.splitlines()
    assert within == [
        "set method seed 0: epoch 1/2, step 3 of 10, 10 images/s, 30 s, 3 min left",
        "set method seed 0: epoch 1/2, step 6 of 10, 10 images/s, 60 s, 2 min left",
        "set method seed 0: epoch 1/2, step 9 of 10, 10 images/s, 90 s, 2 min left",
    ]


def test_epochs_of_another_phase_are_not_told_from_those_before(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Three epochs of 10 s, then some of 100 s: seen within the first of them, and after it without the others."""
    with Lines("set method seed 0", "a machine", History(), 6, 1000, 10) as progress:
        for seconds in (10, 10, 10, 100):
            trained(progress, clock, seconds, training=seconds)
    _, _, _, third, *within, fourth = capsys.readouterr().err.splitlines()
    assert third.endswith("30 s, 30 s left")
    assert [line.rpartition(", ")[2] for line in within] == ["4 min left", "4 min left", "4 min left"]
    assert fourth.endswith("2 min, 3 min left")


def test_an_epoch_of_more_steps_says_so(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Lines("set method seed 0", "a machine", History(), 2, 1000, 10) as progress:
        for _ in range(4):
            clock.s += 10
            progress.step(120)
    assert "epoch 1/2, step 3 of 120, 10 images/s, 30 s, 40 min left" in capsys.readouterr().err


def test_an_evaluation_is_no_epoch(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Lines("set/method seed 0", "a machine", History(), 1, 1000, 10, "test images") as progress:
        for _ in range(10):
            clock.s += 7
            progress.step()
    assert capsys.readouterr().err.splitlines() == [
        "set/method seed 0: a machine",
        "set/method seed 0: test images, step 5 of 10, 14 images/s, 35 s, 35 s left",
        "set/method seed 0: test images, step 10 of 10, 14 images/s, 70 s",
    ]


def test_an_evaluation_has_a_bar(
    clock: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_module, "Console", terminal)
    with on_screen("set/method seed 0", "a machine", History(), 1, 1000, 10, "test images") as progress:
        for _ in range(10):
            clock.s += 0.3
            progress.step()
            progress.bar.refresh()
    first, *bars = (line for line in re.split(r"[\r\n]+", without_codes(capsys)) if line)
    assert first == "set/method seed 0: a machine"
    assert max(map(len, bars)) <= 80
    assert any(re.fullmatch(r"test images ━+╸? +333 images/s 0.9 s left *", bar) for bar in bars)
    assert re.fullmatch(r"test images ━+ 333 images/s 3 s *", bars[-1])


@pytest.mark.parametrize("epochs", [2, 1000])
def test_the_bar_fits_into_a_terminal(
    clock: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], epochs: int
) -> None:
    monkeypatch.setattr(progress_module, "Console", terminal)
    with on_screen("set method seed 0", "a machine", History(), epochs, 10_000_000, 10) as progress:
        assert isinstance(progress, Bar)
        trained(progress, clock, 10_000, training=0.1, test_top1=1.0)
    (last,) = [line for line in re.split(r"[\r\n]+", without_codes(capsys)) if "loss" in line][-1:]
    assert len(last) <= 80
    left = "2 h 47 min left" if epochs == 2 else "115 d 15 h left"
    assert [text in last for text in ("epoch 2/", "10000 images/s", left, "loss 3.7093", "100.00 %")] == [True] * 5


def test_another_process_can_read_where_a_training_stands(clock: Any) -> None:
    status = Status()
    with Shared(status, "set method seed 0", "a machine", History(), 4, 1000, 10) as progress:
        assert (status.done, status.epochs, status.left_s) == (0, 4, -1)
        trained(progress, clock, 10, training=10)
        assert (status.done, status.images_per_s, status.left_s) == (1, 100, 30)


@pytest.mark.usefixtures("working_folder", "tiny_backbone")
def test_a_second_stage_says_that_it_is_one(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    train(tiny("crt", "second_stage.epochs=1"), tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].startswith("digits-lt ce seed 0, first stage of crt: epoch 1/5 loss ")
    assert lines[-1].startswith("digits-lt crt seed 0 stage 2 (crt): epoch 1/1 loss ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.04, "0.0 s"), (0.94, "0.9 s"), (17.2, "17 s"), (99.4, "99 s"), (99.6, "2 min"), (3599, "1 h")),
        *((7800, "2 h 10 min"), (86399, "1 d"), (273_600, "3 d 4 h")),
    ],
)
def test_time_as_people_say_it(seconds: float, text: str) -> None:
    assert spoken(seconds) == text
