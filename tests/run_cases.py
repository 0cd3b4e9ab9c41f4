"""Runs of a second: a tiny split of the digits, five epochs with every step of the schedule inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lt_bench.leaderboard.record import Record, load_record
from lt_bench.recipe import Recipe, load_recipe
from lt_bench.training import run as run_module
from lt_bench.training.options import Options, Outcome
from lt_bench.training.run import run
from lt_bench.training.weights import read_weights

TINY = (
    "data.n_max=12",
    "data.factor=4",
    "model.backbone=tiny",
    "protocol.epochs=5",
    "protocol.batch_size=16",
    "protocol.evaluate_every=2",
    "protocol.schedule={warmup_epochs: 1, milestones: [3, 4], factors: [0.1, 0.01]}",
)
RUN = ("run", "digits-lt/ce", *TINY, "--device", "cpu")
"""The command line of one."""
STRANGER = (*TINY[:2], "protocol.epochs=2", "protocol.batch_size=16", "protocol.schedule={warmup_epochs: 0}")
"""Overrides that shorten a stranger's recipe of the digits and leave its network as it is."""
COUNTS = (12, 10, 8, 7, 6, 5, 4, 4, 3, 3)
"""Training images of the classes; with batches of 16 an epoch has four steps, the last on 14 images."""


def tiny(name: str = "ce", *overrides: str) -> Recipe:
    return load_recipe(f"digits-lt/{name}", [*TINY, *overrides])


def options(folder: Path, **changes: Any) -> Options:
    return Options(**({"work": folder / "runs", "records": folder / "records", "device": "cpu"} | changes))


def train(recipe: Recipe, folder: Path, seed: int = 0, **changes: Any) -> Outcome:
    return run(recipe, seed, options(folder, **changes))


def only(folder: Path, pattern: str) -> Path:
    """The one file of that kind below a folder."""
    (path,) = folder.rglob(pattern)
    return path


def weights(folder: Path) -> dict[str, Tensor]:
    return read_weights(only(folder, "weights.safetensors")).tensors


def record(folder: Path) -> Record:
    return load_record(only(folder, "seed*.json"))


def assert_same_result(found: Path, expected: Path) -> None:
    """Bitwise: weights, curve, what each rule selected, predictions."""
    left, right = weights(found), weights(expected)
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []
    assert record(found).curve == record(expected).curve
    assert record(found).selections == record(expected).selections
    assert record(found).predictions == record(expected).predictions  # by sha256
    assert record(found).identity == record(expected).identity


def at_epoch(monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None], after: Callable[[int], None]) -> None:
    """Call `before` and `after` the work done at the end of each epoch, with the number of finished epochs."""
    real = run_module.fit

    def fit(job: Any, state: Any, on_step: Any, on_epoch: Any) -> None:
        def wrapped() -> None:
            before(len(state.curve))
            on_epoch()
            after(len(state.curve))

        real(job, state, on_step, wrapped)

    monkeypatch.setattr(run_module, "fit", fit)


def until_done(recipe: Recipe, folder: Path, **changes: Any) -> int:
    """Call the same run until it ends, and tell how often it was interrupted."""
    interruptions = 0
    while True:
        try:
            train(recipe, folder, **changes)
        except KeyboardInterrupt:
            interruptions += 1
            assert interruptions < 20
        else:
            return interruptions


def once(*moments: int) -> Any:
    """Interrupts the first time that each number of finished epochs is reached."""
    left = set(moments)

    def interrupt(finished: int) -> None:
        if finished in left:
            left.remove(finished)
            raise KeyboardInterrupt

    return interrupt


def no_space(*arguments: object, **settings: object) -> None:
    raise OSError(28, "No space left on device")


def lines(text: str) -> Sequence[str]:
    return text.strip().splitlines()


def refused(done: Any, *said: str, code: int = 2) -> None:
    """One line, the right exit code, and what is wrong."""
    assert done.code == code
    assert done.err.startswith("lt-bench: ")
    assert len(done.err.splitlines()) == 1
    assert all(text in done.err for text in said), done.err
