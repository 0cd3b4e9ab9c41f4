"""What a person sees of a training or an evaluation: a bar on a terminal, lines elsewhere, a row of several at once."""

from __future__ import annotations

import ctypes
import math
import sys
import time
from collections import deque
from statistics import fmean
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from lt_bench.durations import spoken

if TYPE_CHECKING:
    from lt_bench.training.checkpoint import History

RECENT = 10
"""Epochs whose mean tells what the coming ones will take."""


class Progress:
    """Follows a training by the clock alone: it waits for no device, so that a step costs what it did.

    Args:
        title: What is trained, on one line.
        how: On what it computes.
        history: Of the run, which grows by an epoch at a time.
        epochs: Of the whole training; those in `history` were finished before.
        images: Of an epoch.
        steps: Of an epoch.
        part: What is gone through, where it is no training: that is then one epoch without an end.
    """

    every: ClassVar[float] = 30.0
    """Seconds from one look within an epoch to the next."""

    def __init__(
        self, title: str, how: str, history: History, epochs: int, images: int, steps: int, part: str = ""
    ) -> None:
        self.title, self.how, self.history, self.epochs = title, how, history, epochs
        self.images_per_step, self.steps, self.part = images / steps, steps, part
        self.took: deque[float] = deque(maxlen=RECENT)
        self.speed = 0.0
        self.start = self.due = time.perf_counter()
        self._begin_epoch()

    def __enter__(self) -> Self:
        done = len(self.history.curve)
        since = f", goes on after epoch {done} of {self.epochs}" if done else ""
        self.begin(f"{self.title}: {self.how}{since}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def step(self, steps: int | None = None) -> None:
        """One optimizer step is done, or one batch seen, of so many where this epoch has others than most."""
        self.steps = steps or self.steps
        self.steps_done += 1
        now = time.perf_counter()
        if now >= self.due:
            self.due = now + self.every
            self.show_step()

    def epoch(self) -> None:
        """An epoch is done, and stands in the history."""
        took = time.perf_counter() - self.begun
        if self.took and not 1 / 2 <= took / fmean(self.took) <= 2:
            self.took.clear()  # another phase, of epochs that cost more or less
        self.took.append(took)
        images, seconds = self.history.images - self.before[0], self.history.train_s - self.before[1]
        self.speed = images / seconds if seconds else 0.0
        self._begin_epoch()
        self.show_epoch()

    def _begin_epoch(self) -> None:
        self.before = self.history.images, self.history.train_s
        self.steps_done = 0
        self.begun = time.perf_counter()
        self.due = self.begun + self.every

    def where(self) -> str:
        """The epoch that goes on, or what else does."""
        return self.part or f"epoch {min(self.epochs, len(self.history.curve) + 1)}/{self.epochs}"

    def pace(self) -> str:
        """Images per second, and the seconds that are gone and left, as far as they are known."""
        seconds, left = time.perf_counter() - self.start, self.left_s()
        parts = [f"{self.images_per_s():.0f} images/s"] if self.images_per_s() else []
        return ", ".join([*parts, spoken(seconds), *([f"{spoken(left)} left"] if left else [])])

    def images_per_s(self) -> float:
        """In the epoch so far, or where it has just begun in the one before."""
        if not self.steps_done:
            return self.speed
        return self.images_per_step * self.steps_done / (time.perf_counter() - self.begun)

    def left_s(self) -> float | None:
        """Seconds to the end of the training, None before its first step."""
        gone = time.perf_counter() - self.begun
        if not self.took and not self.steps_done:
            return None
        one = fmean(self.took) if self.took else 0.0
        if gone > one and self.steps_done:  # of no epoch yet, or another phase has begun
            one = gone * self.steps / self.steps_done
        return max(0.0, one * (self.epochs - len(self.history.curve)) - gone)

    def state(self) -> str:
        """What the last epoch gave."""
        entry = self.history.curve[-1]
        top1 = f" test top-1 {100 * entry['test_top1']:.2f} %" if "test_top1" in entry else ""
        loss = entry["train_loss"]
        return f"without training{top1}" if math.isnan(loss) else f"loss {loss:.4f}{top1}"

    def begin(self, text: str) -> None:
        """Show that a training begins, or goes on."""

    def end(self) -> None:
        """The training is over, or was broken off."""

    def show_step(self) -> None:
        """Called within an epoch, once in `every` seconds."""

    def show_epoch(self) -> None:
        """Called after each epoch."""


class Lines(Progress):
    """A line an epoch, and in long epochs one now and then."""

    def begin(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def show_step(self) -> None:
        self.begin(f"{self.title}: {self.where()}, step {self.steps_done} of {self.steps}, {self.pace()}")

    def show_epoch(self) -> None:
        self.begin(f"{self.title}: epoch {len(self.history.curve)}/{self.epochs} {self.state()}, {self.pace()}")


class Bar(Progress):
    """A moving bar within the width of the terminal, below a line that says what is trained."""

    every = 0.2

    def begin(self, text: str) -> None:
        console = Console(file=sys.stderr)
        console.print(text, highlight=False, markup=False, soft_wrap=True)
        fields = [TextColumn(f"{{task.fields[{name}]}}") for name in ("speed", "left", "state")]
        columns = [TextColumn("{task.description}"), BarColumn(bar_width=None), *fields]
        self.bar = RichProgress(*columns, console=console, expand=True)
        self.task = self.bar.add_task("", total=self.epochs, **self._fields())
        self.show_step()
        self.bar.start()

    def end(self) -> None:
        self.show_step()
        self.bar.stop()

    def show_step(self) -> None:
        done = len(self.history.curve) + self.steps_done / self.steps
        self.bar.update(self.task, completed=done, description=self.where(), **self._fields())

    def show_epoch(self) -> None:
        self.show_step()

    def _fields(self) -> dict[str, Any]:
        speed, left = self.images_per_s(), self.left_s()
        over = len(self.history.curve) == self.epochs or (self.part and self.steps_done == self.steps)
        return {
            "speed": f"{speed:.0f} images/s" if speed else "",
            "left": spoken(time.perf_counter() - self.start) if over else f"{spoken(left)} left" if left else "",
            "state": self.state().replace("test ", "") if self.history.curve else "",
        }


class Status(ctypes.Structure):
    """Where a training stands, in memory that two processes share. To write it neither waits for the other."""

    _fields_: ClassVar = [
        ("done", ctypes.c_double),  # epochs, with the fraction of the current one
        ("epochs", ctypes.c_int),
        ("images_per_s", ctypes.c_double),
        ("left_s", ctypes.c_double),  # negative: unknown
        ("pid", ctypes.c_int),  # of the process that trains, 0 before it has begun
    ]
    done: float
    epochs: int
    images_per_s: float
    left_s: float
    pid: int


class Shared(Progress):
    """Shows nothing, but lets another process know."""

    every = 0.5

    def __init__(self, status: Status, *arguments: object) -> None:
        self.status = status
        super().__init__(*arguments)  # type: ignore[arg-type]

    def begin(self, text: str) -> None:
        self.show_step()

    def show_step(self) -> None:
        left = self.left_s()
        self.status.done = len(self.history.curve) + self.steps_done / self.steps
        self.status.epochs = self.epochs
        self.status.images_per_s = self.images_per_s()
        self.status.left_s = -1.0 if left is None else left

    def show_epoch(self) -> None:
        self.show_step()


def on_screen(*arguments: Any) -> Progress:
    """A bar where standard error is a terminal, else lines; from what `Progress` takes."""
    shown = Bar if Console(file=sys.stderr).is_terminal else Lines
    return shown(*arguments)
