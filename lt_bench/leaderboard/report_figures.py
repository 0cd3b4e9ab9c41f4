"""Figures for a paper, in the width of its column: curves, classes, reliability, and where the images of the tail go.

Colours are those of Okabe and Ito, which all eyes tell apart, and every line has a style of its own for print in grey.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_bench.data.groups import GROUPS, group_masks
from lt_bench.errors import UserError, unknown
from lt_bench.figures import save_figure
from lt_bench.leaderboard.report import DESTINATIONS, Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_INCHES = 3.3
"""Of the two-column styles of the field's conferences."""
DPI = 300
FORMATS = ("pdf", "svg", "png")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX"
GROUP_COLOURS = dict(zip(GROUPS, ("#0072B2", "#009E73", "#D55E00"), strict=True))
DESTINATION_COLOURS = ("#4d4d4d", *(GROUP_COLOURS[group] for group in reversed(GROUPS)))
MOST = len(COLOURS)
LONGEST_TITLE = 28
"""Characters; of a longer one the beginning."""
STYLE: dict[Any, Any] = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "legend.fontsize": 6.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # whole fonts, as conferences ask for
    "svg.hashsalt": "lt-bench",
}


def draw_report(
    found: Sequence[Shown],
    labels: np.ndarray | None,
    folder: Path,
    formats: Sequence[str] = FORMATS,
    width: float = COLUMN_INCHES,
) -> tuple[list[Path], list[str]]:
    """Draw all figures that the records hold.

    Args:
        found: The methods, on one data set.
        labels: Of the test images, int64 [N]; None: nothing is told of single images.
        folder: Made where it is not there.
        formats: Of `FORMATS`.
        width: Of the figures, in inches.

    Returns:
        The files, and a sentence for each figure that is left out.

    Raises:
        UserError: There are more methods than can be told apart, an unknown format, or a file cannot be written.
    """
    _check(found, formats)
    figures: dict[str, Callable[[], Figure | str]] = {
        "curve": lambda: curve_figure(found, width),
        "classes": lambda: classes_figure(found, width),
        "reliability": lambda: reliability_figure(found, width),
        "tail": lambda: "no test labels" if labels is None else tail_figure(found, labels, width),
    }
    written, left_out = [], []
    with _paper_style():
        for name, draw in figures.items():
            figure = draw()
            if isinstance(figure, str):
                left_out.append(f"{name}: {figure}")
            else:
                written += _saved(figure, folder, name, formats)
    return written, left_out


def _check(found: Sequence[Shown], formats: Sequence[str]) -> None:
    if len(found) > MOST:
        raise UserError(f"report: {len(found)} methods, and at most {MOST} can be told apart in a figure")
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"--format {unknown('format', name, FORMATS)}")


def curve_figure(found: Sequence[Shown], width: float = COLUMN_INCHES) -> Figure | str:
    """Training loss and test accuracy over the epochs: means over the seeds, and the range between them."""
    known = [(place, one) for place, one in enumerate(found) if one.newest.curve.epoch]
    if not known:
        return "no record has a curve"
    figure = _figure(width, 0.95)
    loss, top1 = figure.subplots(2, 1, sharex=True)
    for place, one in known:
        _line(loss, *one.curve("train_loss"), place, "")
        epochs, values = one.curve("test_top1")
        _line(top1, epochs, 100 * values, place, _short(one))
    loss.set(ylabel="training loss")
    top1.set(ylabel="top-1 (%)", xlabel="epoch")
    figure.align_ylabels()
    figure.legend(*top1.get_legend_handles_labels(), loc="outside upper center", ncols=min(2, len(known)))
    return figure


def classes_figure(found: Sequence[Shown], width: float = COLUMN_INCHES) -> Figure:
    """The accuracy of every class, the largest first: a panel a method, with the first method as a line behind."""
    sizes = found[0].train_counts
    order = np.argsort(-sizes, kind="stable")
    figure = _figure(width, 0.12 + 0.3 * len(found))
    panels = figure.subplots(len(found), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    places = np.arange(len(order))
    for panel, one in zip(panels, found, strict=True):
        for group, mask in group_masks(sizes).items():
            members = mask[order]
            panel.bar(places[members], one.accuracy[order][members], 1.0, color=GROUP_COLOURS[group], label=group)
        if one is not found[0]:
            edges = np.arange(len(order) + 1) - 0.5
            panel.stairs(found[0].accuracy[order], edges, color="black", linewidth=0.7, label=_short(found[0]))
        panel.set_title(_short(one), loc="left", pad=2)
        panel.set(ylim=(0, 100), xlim=(-0.5, len(order) - 0.5), yticks=(0, 50, 100))
    panels[-1].set_xlabel(f"class, from {sizes.max():,} to {sizes.min():,} training images")
    figure.supylabel("accuracy (%)", fontsize=7)
    handles, names = panels[-1].get_legend_handles_labels()
    line_last = sorted(range(len(names)), key=lambda place: names[place] not in GROUPS)
    entries = [handles[place] for place in line_last], [names[place] for place in line_last]
    figure.legend(*entries, loc="outside upper center", ncols=4, handlelength=1)
    return figure


def reliability_figure(found: Sequence[Shown], width: float = COLUMN_INCHES) -> Figure | str:
    """Accuracy against confidence, in 15 bins, and how the confidences are spread; perfect is the diagonal."""
    known = [(place, one, one.bins) for place, one in enumerate(found) if one.bins is not None]
    if not known:
        return "no record has confidences that are probabilities"
    figure = _figure(width, 0.95)
    diagram, spread = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    diagram.plot((0, 1), (0, 1), color="0.6", linewidth=0.7)
    for place, one, bins in known:
        filled = bins.count > 0
        confidence = bins.confidence_sum[filled] / bins.count[filled]
        style = {"color": COLOURS[place], "linestyle": STYLES[place % len(STYLES)]}
        title = f"{_short(one)} (ECE {one.ece:.1f})"
        accuracy = bins.correct[filled] / bins.count[filled]
        diagram.plot(confidence, accuracy, marker=MARKERS[place], markersize=2.5, label=title, **style)
        edges = np.linspace(0, 1, len(bins.count) + 1)
        spread.stairs(100 * bins.count / bins.count.sum(), edges, color=COLOURS[place], linestyle=style["linestyle"])
    diagram.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
    spread.set(ylabel="images (%)", xlabel="confidence")
    figure.align_ylabels()
    figure.legend(*diagram.get_legend_handles_labels(), loc="outside upper center", ncols=1 if len(known) < 2 else 2)
    return figure


def tail_figure(found: Sequence[Shown], labels: np.ndarray, width: float = COLUMN_INCHES) -> Figure | str:
    """What the test images of the few-shot classes are taken for: a bar a method."""
    shares = [one.destinations(labels) for one in found]
    if any(share is None for share in shares):
        return "no class is of the group few"
    figure = _figure(width, 0.2 + 0.07 * len(found))
    axes = figure.subplots()
    begin = np.zeros(len(found))
    for place, (name, colour) in enumerate(zip(DESTINATIONS, DESTINATION_COLOURS, strict=True)):
        part = np.array([share[place] for share in shares if share is not None])
        bars = axes.barh(range(len(found)), part, left=begin, color=colour, label=name, height=0.7)
        cells = [f"{value:.0f}" if value >= 5 else "" for value in part]
        axes.bar_label(bars, cells, label_type="center", color="white")
        begin += part
    axes.set_yticks(range(len(found)), [_short(one) for one in found])
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="test images of the few-shot classes (%)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, handlelength=1)
    return figure


def _short(one: Shown) -> str:
    return one.title if len(one.title) <= LONGEST_TITLE else f"{one.title[: LONGEST_TITLE - 1]}…"


def _line(axes: Axes, epochs: list[int], values: np.ndarray, place: int, title: str) -> None:
    """A mean over the rows of values [S, E], and their range."""
    marker = MARKERS[place] if len(epochs) == 1 else ""
    style = STYLES[place % len(STYLES)]
    axes.plot(epochs, values.mean(0), style, color=COLOURS[place], label=title, marker=marker, markersize=3)
    if len(values) > 1:
        axes.fill_between(epochs, values.min(0), values.max(0), color=COLOURS[place], alpha=0.2, linewidth=0)


def _figure(width: float, height: float) -> Figure:
    """`height` as a part of the width."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    return Figure(figsize=(width, width * height), layout="constrained")


@contextmanager
def _paper_style() -> Iterator[None]:
    import matplotlib as mpl  # noqa: PLC0415

    with mpl.rc_context(STYLE):
        yield


def _saved(figure: Figure, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    paths = [folder / f"{name}.{suffix}" for suffix in formats]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from None
    for path in paths:
        save_figure(figure, path, DPI)
    return paths
