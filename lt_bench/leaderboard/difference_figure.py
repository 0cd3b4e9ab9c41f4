"""The picture of a comparison: what one method gains over another, class by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lt_bench.data.groups import GROUPS
from lt_bench.evaluation.metrics import FloatArray
from lt_bench.figures import save_figure
from lt_bench.leaderboard.per_class import ClassAccuracies

COLOURS = dict(zip(GROUPS, ("tab:blue", "tab:green", "tab:red"), strict=True))
NAMED_CLASSES = 20
"""Up to so many, classes are named at the axis."""


def differences(first: ClassAccuracies, second: ClassAccuracies) -> FloatArray:
    """Second minus first in percent points, float64 [C]: means over the seeds that both have."""
    common = [seed for seed in first.seeds if seed in second.seeds]
    pair = [one.accuracy[[one.seeds.index(seed) for seed in common]].mean(0) for one in (first, second)]
    gains: FloatArray = pair[1] - pair[0]
    return gains


def draw_differences(first: ClassAccuracies, second: ClassAccuracies, path: Path) -> None:
    """A bar a class, the largest first, in the colour of its group, whose mean is a line.

    The suffix of `path` is the format. Raises UserError where it cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    sizes = np.array([row["train_count"] for row in first.classes])
    order = np.argsort(-sizes, kind="stable")
    gains = differences(first, second)[order]
    groups = np.array([row["group"] for row in first.classes])[order]
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, colour in COLOURS.items():
        places = np.flatnonzero((groups == name) & ~np.isnan(gains))
        if len(places):
            mean = gains[places].mean()
            axes.bar(places, gains[places], width=1.0, color=colour, alpha=0.45)
            axes.plot([places[0] - 0.5, places[-1] + 0.5], [mean, mean], color=colour, label=f"{name}: {mean:+.2f}")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(title=f"{second.method} minus {first.method}", xlabel="class, largest first", ylabel="accuracy (points)")
    if len(order) <= NAMED_CLASSES:
        axes.set_xticks(range(len(order)), [first.classes[k]["class_name"] for k in order], rotation=45, ha="right")
    axes.legend(title="mean of the classes")
    save_figure(figure, path)
