"""What a person sees of a training: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress:
    """Follows a training of `epochs` epochs of which `done` were finished before; `how` says on what it computes."""

    def __init__(self, title: str, epochs: int, done: int, how: str, *, bar: bool) -> None:
        self.title, self.epochs = title, epochs
        self.console = Console(file=sys.stderr)
        self.moving = bar and self.console.is_terminal
        self.bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=self.console,
            disable=not self.moving,
        )
        self.task = self.bar.add_task(title, total=epochs, completed=done, state="")
        since = f", goes on after epoch {done} of {epochs}" if done else ""
        self.console.print(f"{title}: {how}{since}", highlight=False, soft_wrap=True)
        self.start = time.perf_counter()

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def step(self, steps_per_epoch: int) -> None:
        """One optimizer step of `steps_per_epoch` is done."""
        # The bar counts whole epochs; a fraction keeps it moving within long ones.
        self.bar.advance(self.task, 1 / steps_per_epoch)

    def epoch(self, entry: dict[str, Any]) -> None:
        """An epoch is done; `entry` is its line of the log."""
        number = entry["epoch"] + 1
        top1 = f" test top-1 {100 * entry['test_top1']:.2f} %" if "test_top1" in entry else ""
        loss = entry["train_loss"]
        state = f"without training{top1}" if math.isnan(loss) else f"loss {loss:.4f}{top1}"
        self.bar.update(self.task, completed=number, state=state)
        if not self.moving:
            elapsed = time.perf_counter() - self.start
            line = f"{self.title}: epoch {number}/{self.epochs} {state} ({elapsed:.0f} s)"
            self.console.print(line, highlight=False, soft_wrap=True)
