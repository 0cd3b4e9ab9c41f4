"""An interrupted run goes on to the very weights, curve and predictions of an uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import TINY, assert_same_result, at_epoch, once, only, record, tiny, train, until_done

from lt_bench.files import TEMPORARY
from lt_bench.recipe import load_recipe
from lt_bench.training import loop

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

RECIPES = {
    "ce": (),
    "cmo-ldam-drw": ("mix.start_epoch=0", "mix.stop_before_end=1"),  # its loss changes at epoch 4 of 5
    "dbn-mix": ("protocol.optimizer={nesterov: true}",),
    "bbn": (),
    "bcl": (),
    # It has a second network, a queue that the batches do not divide, and here a stream with views of its own.
    "paco": ("method.queue_size=24", "views.key={cutout: 8}"),
    "dropout": ("regularise.shake-drop={}", "regularise.drop-block={}", "model.backbone=resnet8"),  # what they draw
    "class-distance-mix-ours": ("mix.warmup_epochs=1", "data.validation_per_class=2"),  # its mix has a state
}


# --- interruptions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", RECIPES)
def test_interrupted_after_and_just_before_every_checkpoint(
    name: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(name, *RECIPES[name])
    train(recipe, tmp_path / "whole", precision=precision)
    at_epoch(monkeypatch, before=once(1, 2, 3, 4, 5), after=once(1, 2, 3, 4, 5))
    assert until_done(recipe, tmp_path / "cut", precision=precision) == 10
    assert_same_result(tmp_path / "cut", tmp_path / "whole")
    # Every second call began without anything new on disk.
    assert record(tmp_path / "cut").timing.resumed == 5
    assert record(tmp_path / "whole").timing.resumed == 0


@pytest.mark.parametrize("name", RECIPES)
def test_interrupted_in_the_middle_of_an_epoch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny(name, *RECIPES[name])
    train(recipe, tmp_path / "whole")
    real, steps = loop.predict, iter([True, False, True, False, False])

    def predict(*arguments: Any) -> Any:
        if next(steps, False):
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "predict", predict)
    assert until_done(recipe, tmp_path / "cut") == 2
    assert_same_result(tmp_path / "cut", tmp_path / "whole")


def test_interrupted_while_the_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny()
    train(recipe, tmp_path / "whole")
    real, saves = torch.save, iter([False, False, True])

    def save(content: Any, file: Any) -> None:
        if next(saves, False):
            file.write(b"half of it")
            raise KeyboardInterrupt
        real(content, file)

    monkeypatch.setattr(torch, "save", save)
    assert until_done(recipe, tmp_path / "cut") == 1
    assert_same_result(tmp_path / "cut", tmp_path / "whole")
    assert not list(tmp_path.rglob(TEMPORARY))


def test_the_log_tells_every_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_epoch(monkeypatch, before=once(2), after=once(1, 3))
    until_done(tiny(), tmp_path)
    assert only(tmp_path, "log.jsonl").read_text().count('"epoch"') == 5


def test_a_longer_interruption_is_not_in_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_epoch(monkeypatch, before=lambda _: None, after=once(3))
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path)
    time.sleep(1.5)
    train(tiny(), tmp_path)
    timing = record(tmp_path).timing
    assert timing.wall_s < 1.5
    assert timing.epochs == 5


def test_no_resume_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_epoch(monkeypatch, before=lambda _: None, after=once(3))
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path)
    train(tiny(), tmp_path, restart=True)
    assert record(tmp_path).timing.resumed == 0


# --- real processes ----------------------------------------------------------------------------------

LONG = [*TINY, "protocol.epochs=60"]


@pytest.fixture
def process(working_folder: Path, tiny_backbone: Path) -> Iterator[subprocess.Popen[str]]:
    """The real command line in a process of its own, after its third epoch."""
    # What a shell runs in the background ignores Ctrl-C, and so would what it starts.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{listening}; from lt_bench.cli import main; main()"
    command = [sys.executable, "-c", code, "run", "digits-lt/ce", *LONG, "--plugin", tiny_backbone, "--device", "cpu"]
    with subprocess.Popen(
        [*map(str, command), "--work", "cut/runs", "--records", "cut/records"], stderr=subprocess.PIPE, text=True
    ) as running:
        patience = time.monotonic() + 60
        while running.poll() is None and time.monotonic() < patience:
            logs = [path.read_text().count("\n") for path in working_folder.rglob("log.jsonl")]
            if logs and logs[0] >= 3:
                break
            time.sleep(0.005)
        yield running
        running.kill()


def goes_on_to_the_same_end(folder: Path) -> None:
    recipe = load_recipe("digits-lt/ce", LONG)
    assert not list((folder / "cut").rglob("seed*.json"))
    train(recipe, folder / "cut")
    train(recipe, folder / "whole")
    assert record(folder / "cut").timing.resumed == 1
    assert_same_result(folder / "cut", folder / "whole")


def test_killed(process: subprocess.Popen[str], working_folder: Path) -> None:
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    goes_on_to_the_same_end(working_folder)


def test_interrupted_by_a_person(process: subprocess.Popen[str], working_folder: Path) -> None:
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "lt-bench: interrupted; the same command goes on from the last finished epoch"
    assert "Traceback" not in said
    goes_on_to_the_same_end(working_folder)
