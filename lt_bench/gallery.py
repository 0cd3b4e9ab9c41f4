"""What a mix makes of images: originals, what the network is given, and the labels that go with it, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lt_bench.data.cards import Card
from lt_bench.data.opening import open_split
from lt_bench.data.sets import image_sets
from lt_bench.data.types import Batch, ClassStats, Epoch, ImageSet, IntArray, Step
from lt_bench.errors import UserError
from lt_bench.figures import save_figure
from lt_bench.losses.binary_cross_entropy import soft_target
from lt_bench.mixing import Answer, MapsOf, Mix, Objective, Term
from lt_bench.mixing.teachers import teach, training_maps
from lt_bench.recipe import Recipe
from lt_bench.training.network import build_recipe_network

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lt_bench.data.augment import Normalisation
    from lt_bench.models.network import Network

STEPS = 200
"""After so many batches without a mixture the coin of a mix is taken to be against it."""
SMALLEST_SHARE = 0.02
"""Of a label that gets a bar of its own."""


@dataclass(frozen=True)
class Mixture:
    """Images [B, 3, H, W] in 0..1 before and after, and what each is made of, [B, C]."""

    originals: Tensor
    images: Tensor
    targets: Tensor
    class_names: tuple[str, ...]


def mixture(recipe: Recipe, size: int, seed: int, data_root: Path | None, teachers: Path) -> Mixture:
    """The first batch of a recipe that is mixed, of `size` images of classes spread over all, by a fresh network.

    Raises UserError for a recipe that mixes nothing, or whose coin falls against it too often.
    """
    split = open_split(recipe.data, data_root)
    seen, epochs = recipe.protocol.augmentation, recipe.protocol.epochs
    sets = image_sets(split, seen, torch.device("cpu"), 0, recipe.augment, epochs=epochs)
    mix, epoch = _mix(recipe, split.counts, seed)
    network = build_recipe_network(recipe, len(split.counts), seed, trained=True)
    mix.attach(network)
    teach(mix, _maps(sets.train, split.digest, len(split.counts), teachers))
    watched = _Watched(network, recipe.protocol.augmentation.normalisation(split.card))
    batch, partner = _batches(mix, sets.train, size, epoch)
    rng = epoch.rng("gallery")
    for index in range(STEPS):
        mix.loss(watched.objective, batch, partner, Step(epoch, index, STEPS, rng))
        for images, terms in watched.seen():
            target = soft_target(terms, torch.zeros(len(images), len(split.counts)))
            if len(terms) > 1 or not torch.equal(images, batch.images):
                originals, mixed = (_pixels(part, recipe, split.card) for part in (batch.images, images))
                return Mixture(originals, mixed, target, split.class_names)
    raise UserError(f"{recipe.data.name}/{recipe.name}: {mix.name} mixed none of {STEPS} batches")


def _mix(recipe: Recipe, counts: IntArray, seed: int) -> tuple[Mix, Epoch]:
    """The mix of the first phase that has one, and the first epoch in which it acts."""
    start = 0
    for phase in recipe.phase_choices():
        choice, total = phase.mix, recipe.protocol.epochs
        epochs: range = choice.component.active_epochs(choice.config, range(start, phase.until), total)
        if choice.component.name != "none" and epochs:
            return choice.component(ClassStats.of_counts(counts), choice.config), Epoch(epochs.start, total, seed)
        start = phase.until
    raise UserError(f"{recipe.data.name}/{recipe.name}: it mixes nothing; name a mix, such as mix=cutmix")


def _batches(mix: Mix, train: ImageSet, size: int, epoch: Epoch) -> tuple[Batch, Batch | None]:
    classes = np.linspace(0, train.labels.max(), size).round().astype(np.int64)
    rng = epoch.rng("gallery images")
    order = np.array([rng.choice(np.flatnonzero(train.labels == label)) for label in classes])
    (batch,) = train.stream(order, size, epoch.rng("gallery views"), epoch.progress)
    partners = mix.partner_order(order, train.labels, epoch)
    if partners is None:
        return batch, None
    (partner,) = train.stream(partners, size, epoch.rng("gallery partners"), epoch.progress)
    return batch, partner


class _Watched:
    """An objective that keeps what a mix has asked the network, and the labels that it trained the answers on."""

    def __init__(self, network: Network, normalisation: Normalisation) -> None:
        self.asked: list[tuple[Tensor, Answer]] = []
        self.trained: list[tuple[Answer, Sequence[Term]]] = []
        self.objective = Objective(network, self._reading, self._criterion, normalisation)

    def seen(self) -> list[tuple[Tensor, Sequence[Term]]]:
        """Images [B, 3, H, W] with the terms that they were trained on since the last call, the most terms first."""
        images = {id(answer): images for images, answer in self.asked}
        found = [(images[id(answer)], terms) for answer, terms in self.trained if id(answer) in images]
        # A mix that asks of several views at once trains a part of their answer by labels; all views are theirs.
        found = found or [
            (view, terms)
            for (views, _), (answer, terms) in zip(self.asked, self.trained, strict=False)
            for view in torch.split(views, answer.logits.shape[-2])
        ]
        self.asked, self.trained = [], []
        return sorted(found, key=lambda one: -len(one[1]))

    def _reading(self, network: Network, images: Tensor) -> Answer:
        answer = Answer(network(images))
        self.asked.append((images.detach(), answer))
        return answer

    def _criterion(self, answer: Answer, terms: Sequence[Term]) -> Tensor:
        self.trained.append((answer, terms))
        return answer.logits.float().square().mean()


def _pixels(images: Tensor, recipe: Recipe, card: Card) -> Tensor:
    """Normalised images as in the file, in 0..1."""
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in recipe.protocol.augmentation.normalisation(card))
    return (images * std + mean).clamp(0, 1)


def _maps(train: ImageSet, split: str, num_classes: int, teachers: Path) -> MapsOf:
    device = torch.device("cpu")
    return lambda teacher, kind: training_maps(teacher, kind, train, split, num_classes, teachers, device)


def draw(shown: Mixture, title: str, path: Path) -> None:
    """A column an image: the original, what became of it, its labels as bars. Raises UserError, see `save_figure`."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (1 s)

    size = len(shown.images)
    figure = Figure(figsize=(1.1 * size, 3.4), layout="constrained")
    rows: Any = figure.subplots(3, size, squeeze=False, height_ratios=[1, 1, 0.9])
    for column, (original, image, target) in enumerate(zip(shown.originals, shown.images, shown.targets, strict=True)):
        for axes, pixels in zip(rows[:2, column], (original, image), strict=True):
            axes.imshow(pixels.movedim(0, -1).numpy(), interpolation="nearest")
            axes.set_axis_off()
        _bars(rows[2, column], target, shown.class_names)
    figure.suptitle(title, fontsize=9)
    save_figure(figure, path)


def _bars(axes: Axes, target: Tensor, names: Sequence[str]) -> None:
    """The labels with their shares, the largest first; what is left over is that of all others."""
    shares = sorted(((float(share), names[label]) for label, share in enumerate(target)), reverse=True)
    own = [one for one in shares if one[0] >= SMALLEST_SHARE][:4]
    for place, (share, name) in enumerate(own):
        axes.barh(place, share, color=f"C{place}", alpha=0.45)
        axes.text(0.02, place, f"{name[:12]} {share:.2f}", va="center", fontsize=6)
    axes.set(xlim=(0, 1), ylim=(3.5, -0.5))
    axes.set_axis_off()
