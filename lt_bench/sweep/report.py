"""What a sweep says beside the results: how far it is, when it will end, and what became of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from lt_bench.durations import clock, spoken
from lt_bench.errors import MOST_NAMES
from lt_bench.estimates import Estimator, Run, counted, grouped

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from lt_bench.training.options import Outcome
    from lt_bench.training.progress import Status

UNKNOWN = "no record made on this machine tells how long it will take, --dry-run measures it"


@dataclass
class Report:
    """Follows runs of which `jobs` go on at once. It speaks on standard error; results go to standard output."""

    runs: Sequence[Run]
    estimator: Estimator
    jobs: int
    place: str = ""
    """Where they are made, if not on this machine: how long they take there is not known."""
    quiet: bool = False
    trained: int = 0
    known: int = 0
    """Had a record already."""
    failed: int = 0
    left: dict[str, Run] = field(default_factory=dict)
    """What has not ended yet, by title."""
    since: dict[str, float] = field(default_factory=dict)
    """When each of the runs began that are going on."""

    done: set[str] = field(default_factory=set)
    """Titles of the runs that have a record before the sweep."""
    work: tuple[float, bool] = (0.0, True)
    """Seconds of what is left to train, as far as they are known, and whether all of them are."""

    def begin(self) -> None:
        """Say what there is to do."""
        self.start = time.monotonic()
        self.left = {run[0]: run for run in self.runs}
        if self.quiet:
            return
        self.done = self.estimator.done(self.runs)
        pending = len(self.left) - len(self.done & {*self.left})
        counts = f"{counted(len(self.runs))}, {len(self.runs) - pending} already done"
        self._estimate()
        how_long = f" {self.place}" if self.place else f", {self.until() or UNKNOWN}"
        self._say(f"{counts}, {pending} to train" + how_long * bool(pending))

    def begins(self, title: str) -> None:
        """One of several at once begins."""
        self.since[title] = time.monotonic()

    def ended(self, title: str, outcome: Outcome | None) -> None:
        """A run has ended, without an outcome where it failed."""
        self.since.pop(title, None)
        self.left.pop(title, None)
        self.trained += outcome is not None and outcome.trained
        self.known += outcome is not None and not outcome.trained
        self.failed += outcome is None
        if not self.quiet and self.left and (outcome is None or outcome.trained):
            self._estimate()
            self._say(", ".join(filter(None, [f"{len(self.runs) - len(self.left)} of {len(self.runs)}", self.until()])))

    def undone(self) -> str:
        """What is left of the runs, for a budget that is spent."""
        names = grouped([*self.left.values()])
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        return f"{len(self.left)} of {counted(len(self.runs))} left, {'; '.join(names[:MOST_NAMES])}{more}"

    def end(self) -> None:
        """Say what became of all, and how to look at it."""
        if self.quiet:
            return
        records, usual = self.estimator.options.records, type(self.estimator.options)().records
        where = "" if records == usual else f" --records {records}"
        counts = f"{self.trained} trained, {self.known} already done, {self.failed} failed"
        undone = f", {len(self.left)} left" if self.left else ""
        took = spoken(time.monotonic() - self.start)
        self._say(f"{counts}{undone} in {took}; the tables: lt-bench leaderboard show{where}")

    def left_s(self) -> float:
        """Seconds until all will have ended, by estimate, as far as that is known."""
        gone = sum(time.monotonic() - begun for title, begun in self.since.items() if title not in self.done)
        return max(0.0, self.work[0] - gone) / self.jobs

    def until(self) -> str:
        """How long it will still take, empty where nothing is known."""
        (seconds, whole), left = self.work, self.left_s()
        if not seconds:
            return ""
        return f"about {spoken(left)}, until {clock(left)}" if whole else f"at least {spoken(left)}"

    def _estimate(self) -> None:
        if self.place:
            return
        self.work = self.estimator.seconds([run for title, run in self.left.items() if title not in self.done])

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Live:
    """A row for all runs and one for each that goes on, with its epoch; only on a terminal."""

    def __init__(self, report: Report) -> None:
        from rich.console import Console  # noqa: PLC0415 (slow to import)

        self.report, self.console = report, Console(file=sys.stderr)
        self.active = self.console.is_terminal
        self.every = 0.5 if self.active else None
        """Seconds from one look to the next; None: there is nothing to look at."""
        self.rows: dict[str, Any] = {}

    def __enter__(self) -> Self:
        if self.active:
            self.table = _table(self.console)
            self.table.start()
            self.all = self.table.add_task("all runs", total=len(self.report.runs), count="", speed="", left="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.show({})
        if self.active:
            self.table.stop()

    def show(self, running: Mapping[str, Status]) -> None:
        """Bring the rows up to date with what the runs' processes tell."""
        if not self.active:
            return
        for title in [*self.rows]:
            if title not in running:
                self.table.remove_task(self.rows.pop(title))
        for title, status in running.items():
            if title not in self.rows:
                self.rows[title] = self.table.add_task(title, total=None, count="", speed="", left="")
            self.table.update(self.rows[title], **_row(status))
        self._show_all()

    def _show_all(self) -> None:
        total = len(self.report.runs)
        done = total - len(self.report.left)
        left = self.report.left_s() if self.report.left else 0.0
        until = f"{'' if self.report.work[1] else '> '}{spoken(left)} left" if left else ""
        self.table.update(self.all, completed=done, count=f"{done}/{total}", left=until)


def _row(status: Status) -> dict[str, Any]:
    if not status.epochs:
        return {"count": "begins"}
    return {
        "total": status.epochs,
        "completed": status.done,
        "count": f"{min(status.epochs, int(status.done) + 1)}/{status.epochs}",
        "speed": f"{status.images_per_s:.0f} images/s" if status.images_per_s else "",
        "left": "" if status.left_s < 0 else f"{spoken(status.left_s)} left",
    }


def _table(console: Any) -> RichProgress:
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415

    fields = [TextColumn(f"{{task.fields[{name}]}}") for name in ("count", "speed", "left")]
    title = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
    # Results go where standard output goes: through the table only if that is the same terminal.
    shared = sys.stdout.isatty()
    return Progress(title, BarColumn(bar_width=10), *fields, console=console, expand=True, redirect_stdout=shared)
