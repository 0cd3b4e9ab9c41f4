"""What a run keeps of its epochs to be looked at later: one file an epoch, and a picture of the class distances."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lt_bench.data.groups import group_masks
from lt_bench.data.types import IntArray
from lt_bench.errors import UserError
from lt_bench.figures import save_figure
from lt_bench.files import in_words
from lt_bench.recipe import Recipe
from lt_bench.tensor_files import UNREADABLE, read_tensors, write_tensors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCALES = {
    "l2": "L2 distance (at most √2)",
    "jensen-shannon": "Jensen–Shannon divergence (nats, at most log 2)",
}
"""What a number is, by the setting `distance` of the mix."""
NAMED_CLASSES = 20
"""Up to so many, classes are named one by one at the axes."""


@dataclass(frozen=True)
class Distances:
    """Distances between classes, [C, C], after so many epochs of a run."""

    epoch: int
    matrix: np.ndarray
    train_counts: IntArray
    """[C], training images of the classes."""
    recipe: Recipe
    seed: int

    @property
    def mean(self) -> float:
        """Over pairs of different classes."""
        classes = len(self.matrix)
        return float(self.matrix.sum() / (classes * (classes - 1)))

    @property
    def scale(self) -> str:
        """What a distance is, with its unit."""
        mix = next((phase.mix for phase in self.recipe.phases if self.epoch <= phase.until), {})
        return SCALES.get(mix.get("distance", ""), "distance")

    @property
    def title(self) -> str:
        data, epochs = self.recipe.data, self.recipe.protocol.epochs
        split = data.name if data.factor is None else f"{data.name} (factor {data.factor:g})"
        return f"{self.recipe.name} on {split}, seed {self.seed}: after epoch {self.epoch} of {epochs}"


def save_diagnostics(
    folder: Path, epoch: int, values: Mapping[str, Tensor], train_counts: Tensor, recipe: Recipe, seed: int
) -> None:
    """Keep what there is after `epoch` epochs of the run in `folder`; an epoch that is trained again is replaced."""
    if not values:
        return
    path = _path(folder, f"{epoch:03}")
    about = {"recipe": json.dumps(recipe.resolved()), "seed": str(seed), "epoch": str(epoch)}
    about["train_counts"] = json.dumps(train_counts.tolist())
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: the diagnostics could not be written: {in_words(error)}") from None
    write_tensors(path, "diagnostics", values, about)


def kept_epochs(folder: Path) -> dict[int, Path]:
    """The files of a run's folder by the number of finished epochs. Raises UserError where there are none."""
    pattern = _path(folder, "*")
    try:
        there, paths = folder.is_dir(), list(pattern.parent.glob(pattern.name))
    except OSError as error:  # Such as a name longer than any folder's.
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from None
    if not there:
        raise UserError(f"{folder}: there is no such folder")
    numbers = {path.stem.removeprefix("epoch-"): path for path in paths}
    found = {int(number): path for number, path in numbers.items() if number.isdecimal()}
    if not found:
        raise UserError(f"{folder}: holds no diagnostics of a run; runs with the mix class-distance-mix-ours keep them")
    return dict(sorted(found.items()))


def _path(folder: Path, epoch: str) -> Path:
    return folder / "diagnostics" / f"epoch-{epoch}.safetensors"


def read_distances(path: Path) -> Distances:
    """The class distances in one file. Raises UserError where it holds none."""
    try:
        tensors, about = read_tensors(path)
        matrix = tensors["distance"].numpy()
        counts = np.array(json.loads(about["train_counts"]), dtype=np.int64)
        if matrix.shape != (len(counts), len(counts)):
            raise ValueError(f"a matrix {matrix.shape} for {len(counts)} classes")
        recipe = Recipe.read(json.loads(about["recipe"]))
        return Distances(int(about["epoch"]), matrix, counts, recipe, int(about["seed"]))
    except UNREADABLE as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"{path}: holds no class distances of a run ({reason})") from None


def draw_distances(folder: Path, path: Path, epoch: int | None = None) -> int:
    """Draw the class distances that a run kept, after its last epoch or after `epoch` ones; returns that number.

    Where several epochs were kept, their mean distances stand beside the matrix. The suffix of `path` is the format.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    paths = kept_epochs(folder)
    shown = max(paths) if epoch is None else epoch
    if shown not in paths:
        raise UserError(f"{folder}: nothing was kept after epoch {shown}, only from {min(paths)} to {max(paths)}")
    chosen, means = read_distances(paths[shown]), {index: read_distances(file).mean for index, file in paths.items()}
    widths = [1.2, 1] if len(means) > 1 else [1]
    figure = Figure(figsize=(5.4 * len(widths), 4.8), layout="constrained")
    left, *right = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    figure.colorbar(_draw_matrix(left, chosen), ax=left, label=chosen.scale)
    for axes in right:
        _draw_means(axes, means, shown)
        axes.set_ylabel(chosen.scale)
    figure.suptitle(chosen.title, fontsize="medium")
    save_figure(figure, path)
    return shown


def _draw_matrix(axes: Axes, distances: Distances) -> Any:
    counts = distances.train_counts
    order = np.argsort(-counts, kind="stable")
    image = axes.imshow(distances.matrix[np.ix_(order, order)], vmin=0, cmap="viridis", interpolation="nearest")
    sizes = {name: int(members.sum()) for name, members in group_masks(counts).items() if members.any()}
    ends = np.cumsum(list(sizes.values()))
    for end in ends[:-1]:
        axes.axhline(end - 0.5, color="white", linewidth=1)
        axes.axvline(end - 0.5, color="white", linewidth=1)
    axes.set(title="distance between mean class probabilities", xlabel="class, largest first; lines: many, medium, few")
    if len(counts) <= NAMED_CLASSES:
        axes.set_xticks(range(len(counts)), [str(label) for label in order])
        axes.set_yticks(range(len(counts)), [f"{label} ({counts[label]})" for label in order])
        axes.set_ylabel("class (training images)")
    else:
        middles = ends - np.array(list(sizes.values())) / 2 - 0.5
        axes.set_xticks(middles, list(sizes))
        axes.set_yticks(middles, list(sizes), rotation=90, verticalalignment="center")
    return image


def _draw_means(axes: Axes, means: dict[int, float], shown: int) -> None:
    axes.plot(list(means), list(means.values()), color="black", marker=".")
    axes.plot(shown, means[shown], color="tab:red", marker="o", linestyle="none", label="the matrix on the left")
    axes.set(title="mean distance over pairs of classes", xlabel="epochs", ylim=(0, None))
    axes.locator_params(axis="x", integer=True)
    axes.legend()
