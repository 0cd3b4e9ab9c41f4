"""Curves of a run for a tracker: TensorBoard, Weights & Biases or Trackio, behind what all three can do.

They get what the log of the run gets, by its names: `train_loss`, `lr`, `test_top1`, the groups' `test_many`, ... A run
does not depend on them: what a tracker fails at is said once, and the training goes on without it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from lt_bench.data.reading import reason
from lt_bench.errors import UserError, unknown

PROJECT = "lt-bench"


@dataclass(frozen=True)
class Tracked:
    """What a tracker is told of a run before it begins."""

    title: str
    identity: str
    """By which a run that is resumed is known again."""
    recipe: Mapping[str, Any]
    """Resolved."""
    folder: Path
    """Of the run, for what a tracker keeps in files."""
    epochs_done: int
    """By an earlier call: the run goes on after them."""


class Tracker(Protocol):
    """What follows a run."""

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Keep the quantities after so many finished epochs."""

    def finish(self) -> None:
        """The training has ended, in whatever way."""


class _TensorBoard:
    """Event files in the folder of the run."""

    def __init__(self, run: Tracked) -> None:
        from torch.utils import tensorboard  # noqa: PLC0415

        module: Any = tensorboard  # which has types or none, as its own package is there or not
        # What an earlier call wrote beyond its last checkpoint is trained again.
        purge = run.epochs_done + 1 if run.epochs_done else None
        self.writer = module.SummaryWriter(str(run.folder / "tensorboard"), purge_step=purge)

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()

    def finish(self) -> None:
        self.writer.close()


class _Hosted:
    """Weights & Biases and Trackio, which take the same words."""

    def __init__(self, module: Any, run: Tracked, **settings: Any) -> None:
        config = dict(run.recipe) | {"identity": run.identity}
        name = f"{run.title} ({run.identity[:8]})"  # by which Trackio knows a run again
        self.run = module.init(project=PROJECT, name=name, config=config, resume="allow", **settings)

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        self.run.log(dict(values), step=epoch)

    def finish(self) -> None:
        self.run.finish()


def _wandb(run: Tracked) -> Tracker:
    import wandb  # noqa: PLC0415

    return _Hosted(wandb, run, id=run.identity[:32], dir=str(run.folder))


def _trackio(run: Tracked) -> Tracker:
    import trackio  # noqa: PLC0415

    return _Hosted(trackio, run)


TRACKERS: Mapping[str, Callable[[Tracked], Tracker]] = {
    "tensorboard": _TensorBoard,
    "trackio": _trackio,
    "wandb": _wandb,
}


def check_tracker(name: str) -> str:
    """A tracker from the command line. Raises UserError for any other word, and where its package is missing."""
    if name not in TRACKERS:
        raise UserError(f"--track {unknown('tracker', name, TRACKERS)}")
    if find_spec(name) is None:
        raise UserError(f"--track {name}: not installed; pip install 'lt-bench[track]', or {name} alone")
    return name


@contextmanager
def tracking(name: str | None, run: Tracked) -> Iterator[Callable[[Mapping[str, float | None]], None]]:
    """Follow a run: takes each entry of its curve as it comes. Without a name nothing is done.

    Raises UserError where the tracker cannot begin.
    """
    if name is None:
        yield lambda entry: None
        return
    try:
        tracker = TRACKERS[name](run)
    except Exception as error:
        raise UserError(f"--track {name}: could not begin: {reason(error)}") from error
    following = _Following(name, tracker)
    try:
        yield following.log
    finally:
        following.attempt(tracker.finish)


class _Following:
    """Lets a tracker fail without harm."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.name, self.tracker, self.failed = name, tracker, False

    def log(self, entry: Mapping[str, float | None]) -> None:
        known = {key: value for key, value in entry.items() if value is not None and math.isfinite(value)}
        epoch = int(known.pop("epoch")) + 1
        self.attempt(lambda: self.tracker.log(known, epoch))

    def attempt(self, act: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            act()
        except Exception as error:
            self.failed = True
            print(f"--track {self.name}: {reason(error)}; the run goes on without it", file=sys.stderr, flush=True)
