"""Training epoch by epoch: read from a run's log or its record, drawn side by side or written as one table."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_bench.csv_text import csv_text
from lt_bench.data.groups import GROUPS
from lt_bench.data.reading import read_bytes, reason
from lt_bench.errors import UserError
from lt_bench.figures import save_figure
from lt_bench.files import write_atomically
from lt_bench.leaderboard.record import load_record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOG = "log.jsonl"
"""In the folder of a run: a line of JSON for each finished epoch."""
Entry = dict[str, Any]


@dataclass(frozen=True)
class Curves:
    """One run: its title, and an entry for each finished epoch as its log has it; accuracies are fractions."""

    title: str
    entries: list[Entry]
    identity: str = ""
    """What tells the run from others of its title: the first characters of its identity."""

    def points(self, name: str) -> tuple[list[int], list[float]]:
        """Numbers of finished epochs, and the values of one quantity after them, where there are any."""
        known = [(entry["epoch"] + 1, entry[name]) for entry in self.entries if entry.get(name) is not None]
        return [epoch for epoch, _ in known], [value for _, value in known]


def read_curves(path: Path) -> Curves:
    """The curves of a run, from its folder or from its record. Raises UserError for anything else."""
    if path.is_dir():
        return _from_folder(path)
    record = load_record(path)
    if record.external is not None:
        raise UserError(f"{path}: trained by {record.external.by} with another program: its epochs are not known")
    columns = record.curve.model_dump()
    entries = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return Curves(f"{record.dataset.name}/{record.recipe_name} seed {record.seed}", entries, record.identity[:8])


def _from_folder(folder: Path) -> Curves:
    path = folder / LOG
    # A line without its end is being written, or was when its process was killed.
    *lines, _ = read_bytes(path, "log of a run").decode(errors="replace").split("\n")
    try:
        entries = [json.loads(line) for line in lines]
        numbers = [value for entry in entries for value in entry.values() if value is not None]
        if not all(isinstance(value, int | float) for value in numbers):
            raise ValueError("holds something else than numbers")
        if [entry["epoch"] for entry in entries] != list(range(len(entries))):
            raise ValueError("its epochs are not 0, 1, 2, ...")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not the log of a run ({' '.join(str(error).split())[:200]})") from None
    # A run lies in DATASET/PROTOCOL/RECIPE/seedN-IDENTITY.
    *_, dataset, _, recipe, run = ("",) * 4 + folder.absolute().parts
    seed, _, identity = run.partition("-")
    return Curves(f"{dataset}/{recipe} {seed.replace('seed', 'seed ')}", entries, identity[:8])


def told_apart(curves: Sequence[Curves]) -> list[Curves]:
    """The curves, with the identity in the title where runs of different settings have one."""
    runs = {(one.title, one.identity) for one in curves}
    several = {title for title, count in Counter(title for title, _ in runs).items() if count > 1}
    return [replace(one, title=f"{one.title} [{one.identity}]") if one.title in several else one for one in curves]


def save_curves(curves: Sequence[Curves], path: Path) -> None:
    """Write the curves of several runs: `.csv` as a line a run and epoch, any other suffix as a picture.

    Raises UserError where the file cannot be written.
    """
    curves = told_apart(curves)
    if path.suffix != ".csv":
        return draw_curves(curves, path)
    rows = [{"run": one.title, **_known(entry)} for one in curves for entry in one.entries]
    try:
        write_atomically(path, csv_text(rows).encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {reason(error)}") from None


def _known(entry: Entry) -> Entry:
    return {name: value for name, value in entry.items() if value is not None and not math.isnan(value)}


def draw_curves(curves: Sequence[Curves], path: Path) -> None:
    """Draw training loss, top-1 and, where the logs hold it, the accuracy of the groups; a colour a run."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    grouped = any(f"test_{group}" in entry for one in curves for entry in one.entries for group in GROUPS)
    panels = 3 if grouped else 2
    figure = Figure(figsize=(4.6 * panels, 3.8 + 0.16 * len(curves)), layout="constrained")
    loss, top1, *groups = figure.subplots(1, panels)
    for index, one in enumerate(curves):
        colour = f"C{index % 10}"
        loss.plot(*one.points("train_loss"), color=colour, label=one.title)
        _accuracy(top1, one, {"test_top1": "-", "val_top1": ":"}, colour)
        for axes in groups:
            _accuracy(
                axes, one, dict(zip((f"test_{group}" for group in GROUPS), ("-", "--", ":"), strict=True)), colour
            )
    loss.set(title="training loss", xlabel="epochs")
    top1.set(title="top-1 (%), dotted on validation", xlabel="epochs")
    for axes in groups:
        axes.set(title="test accuracy (%): many –, medium - -, few ···", xlabel="epochs")
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center")
    save_figure(figure, path)


def _accuracy(axes: Axes, one: Curves, styles: dict[str, str], colour: str) -> None:
    for name, style in styles.items():
        epochs, values = one.points(name)
        marker = "." if len(epochs) < 2 else ""  # a line of one point is not seen
        axes.plot(epochs, [100 * value for value in values], style, color=colour, marker=marker)
