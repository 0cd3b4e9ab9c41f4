"""Partners chosen by the distance between classes in the network's eyes, in front of any mix.

Only the outline of the method could be read (Fujii et al., arXiv 2209.05122); every formula here is this
project's own proposal, hence the name. That the first class follows the accuracies, as in the outline, is left
out: it is about the order of the main stream, which a mix does not own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np
import torch
from pydantic import Field, FiniteFloat, ValidationInfo, field_validator
from torch import Tensor

from lt_bench.data.samplers import draw_with_replacement
from lt_bench.data.types import Batch, ClassStats, Epoch, IntArray, Step
from lt_bench.mixing import Mix, Mixed, Objective, permuted
from lt_bench.mixing.cutmix import cutmix_pair
from lt_bench.mixing.generators import Generator, build_generator, generator_epochs, generator_reads_views
from lt_bench.mixing.mixup import mixup_pair
from lt_bench.models.network import Network
from lt_bench.registry import Info, between

Distance = Literal["l2", "jensen-shannon"]

PAIRS = {"mixup": mixup_pair, "cutmix": cutmix_pair}
"""What a generator given as a word does with a pair of batches."""


class ClassDistanceMix(Mix):
    """Each image meets one of another class j, P(j | i) ~ exp(-d_ij / T), d from mean class probabilities.

    Until the class means have been measured, at the end of the last warm-up epoch, partners are random, or those
    that the generator chooses for itself.
    """

    name = "class-distance-mix-ours"
    info = Info(
        "partners from near classes, by this project's reading of an outline",
        "in the spirit of Fujii et al., arXiv 2209.05122",
        2022,
        cost="1.3x",
    )
    refuses_partners = "it only chooses partners"

    class Config(Mix.Config):
        """The generator, and how partners are chosen for it."""

        generator: Generator = "mixup"
        """How the two images are mixed: the word mixup or cutmix, or another mix, by its name or as a mapping with
        its settings. Coin, shares and epochs of another mix are its own; only its partners are replaced."""
        alpha: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law of the share. For a generator given as a word only."""
        probability: float = Field(default=1.0, ge=0, le=1)
        """Of mixing a batch. For a generator given as a word only."""
        warmup_epochs: int = Field(default=5, ge=0)
        """Epochs with random partners, or the generator's own."""
        momentum: float = Field(default=0.9, ge=0, lt=1)
        """Of the class means from epoch to epoch; rows of rare classes are noisy."""
        temperature: FiniteFloat = Field(default=0.2, gt=0)
        """T, in units of the distance: towards 0 the nearest class always, towards infinity all alike."""
        distance: Distance = "l2"
        """Between mean class probabilities."""

        @field_validator("alpha", "probability")
        @classmethod
        def _for_a_word(cls, value: float, info: ValidationInfo) -> float:
            generator = info.data.get("generator")
            if isinstance(generator, dict) and value != cls.model_fields[str(info.field_name)].default:
                raise ValueError(f"has no effect on {generator['name']}, which brings its own settings")
            return value

    config: Config
    prior: Tensor
    timing = "warmup_epochs {warmup_epochs}"

    @classmethod
    def active_epochs(cls, config: Config, epochs: range, total: int) -> range:
        # The means are measured for the first time after the first epoch, if not later.
        chosen = between(epochs, max(config.warmup_epochs, epochs.start + 1), total)
        return chosen if isinstance(config.generator, str) else generator_epochs(config.generator, chosen, total)

    @classmethod
    def reads_views(cls, config: Config) -> bool:
        return isinstance(config.generator, dict) and generator_reads_views(config.generator)

    def prepare(self, stats: ClassStats) -> None:
        self.register_buffer("prior", stats.prior, persistent=False)
        given = self.config.generator
        self.generator = build_generator(given, stats) if isinstance(given, dict) else None
        self.classes = ClassMeans(stats.num_classes, self.config.momentum)
        self._measures = False

    def partner_order(self, order: IntArray, labels: IntArray, epoch: Epoch) -> IntArray | None:
        self._measures = epoch.index + 1 >= self.config.warmup_epochs
        # Asked even where its answer is not taken: this is also how a mix learns that an epoch begins.
        own = self.generator.partner_order(order, labels, epoch) if self.generator else None
        if epoch.index < self.config.warmup_epochs or not self.classes.seen.any():
            return own
        law = partner_law(self.distances(), self.config.temperature)
        return draw_partners(law.cpu().numpy(), order, labels, epoch.rng("class-distance partners"))

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        if self.generator:
            mixed: Mixed = self.generator(batch, partner, step)
            return mixed
        if step.rng.random() >= self.config.probability:
            return Mixed.plain(batch)
        generate = PAIRS[str(self.config.generator)]
        return generate(batch, partner or permuted(batch, step.rng), self.config.alpha, step.rng)

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        return (self.generator.loss if self.generator else super().loss)(objective, batch, partner, step)

    def attach(self, network: Network) -> None:
        if self.generator:
            self.generator.attach(network)

    def end_epoch(self, predict: Callable[[Tensor], Tensor], clean: Callable[[], Iterable[Batch]]) -> None:
        # Before the last warm-up epoch nobody reads the means, and a pass over the data is not free.
        if self._measures:
            self.classes.refresh(predict, clean())
        if self.generator:
            self.generator.end_epoch(predict, clean)

    def diagnostics(self) -> Mapping[str, Tensor]:
        """Distances and mean probabilities [C, C], accuracies and expected shares of the partners [C] of the classes.

        Their share of the labels is the mean of that and of the prior where a share is as likely as its rest.
        """
        kept = self.generator.diagnostics() if self.generator else {}
        if not self._measures:
            return kept
        distances = self.distances()
        measured = {"probability": self.classes.probability, "accuracy": self.classes.accuracy}
        share = self.prior.double() @ partner_law(distances, self.config.temperature)
        return {**kept, "distance": distances.float(), **measured, "partner_share": share.float()}

    def distances(self) -> Tensor:
        """Between all classes as they were last measured, float64 [C, C]."""
        return class_distances(self.classes.probability, self.config.distance)


class ClassMeans(torch.nn.Module):
    """Mean class probabilities M [C, C] (row i over images of class i) and accuracies a [C] of a network in training.

    Exponential averages over refreshes; the first sets, and a class without images keeps its row.
    """

    probability: Tensor
    accuracy: Tensor
    seen: Tensor

    def __init__(self, num_classes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("probability", torch.full((num_classes, num_classes), 1 / num_classes))
        self.register_buffer("accuracy", torch.zeros(num_classes))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.bool))

    @torch.no_grad()
    def refresh(self, predict: Callable[[Tensor], Tensor], batches: Iterable[Batch]) -> None:
        """Measure the network, given as images -> logits [B, C], on un-mixed images."""
        # Sums in double: the order of a GPU's atomic additions must not show in the float32 means.
        sums = torch.zeros_like(self.probability, dtype=torch.float64)
        hits, counts = torch.zeros_like(sums[0]), torch.zeros_like(sums[0])
        for batch in batches:
            probability = predict(batch.images).double().softmax(dim=1)
            sums.index_add_(0, batch.labels, probability)
            hits.index_add_(0, batch.labels, (probability.argmax(dim=1) == batch.labels).double())
            counts.index_add_(0, batch.labels, torch.ones_like(batch.labels, dtype=torch.float64))
        self._average(sums, hits, counts)

    def _average(self, sums: Tensor, hits: Tensor, counts: Tensor) -> None:
        divisor = counts.clamp_min(1)
        rate = torch.where(self.seen, 1 - self.momentum, 1.0) * (counts > 0)  # [C], of the new value
        self.probability.lerp_((sums / divisor[:, None]).float(), rate[:, None])
        self.accuracy.lerp_((hits / divisor).float(), rate)
        self.seen |= counts > 0


def class_distances(probability: Tensor, distance: Distance) -> Tensor:
    """Distances float64 [C, C], with zero diagonal, between rows of class probabilities [C, C].

    `l2` is at most sqrt(2); `jensen-shannon` is the divergence in nats, at most log 2.
    """
    rows = probability.double()
    if distance == "l2":
        distances = torch.cdist(rows, rows)
    else:
        entropy = torch.special.entr(rows).sum(dim=1)
        # Row by row: all pairs at once would need C^3 numbers.
        mixed = torch.stack([torch.special.entr((row + rows) / 2).sum(dim=1) for row in rows])
        distances = (mixed - (entropy[:, None] + entropy) / 2).clamp_min(0)
    return distances.fill_diagonal_(0)


def partner_law(distances: Tensor, temperature: float) -> Tensor:
    """P(j | i) ~ exp(-d_ij / temperature) for j != i, [C, C] with rows that sum to 1 and zero diagonal."""
    others = distances.clone().fill_diagonal_(torch.inf)
    # Measured from the nearest class, so that a tiny temperature cannot turn the whole row into -inf.
    return ((others.amin(dim=1, keepdim=True) - others) / temperature).softmax(dim=1)


def draw_partners(
    law: np.ndarray[tuple[int, ...], np.dtype[np.float64]], order: IntArray, labels: IntArray, rng: np.random.Generator
) -> IntArray:
    """For each position in `order` a class by its own class's row of `law` [C, C], then an image of it uniformly.

    `labels` int64 [N] are those of the training set, where every class that can be drawn has an image.
    """
    counts = np.bincount(labels, minlength=len(law))
    by_class, first = np.argsort(labels, kind="stable"), np.cumsum(counts) - counts
    own = labels[order]
    partner = np.empty_like(own)
    for label in np.unique(own):
        here = np.flatnonzero(own == label)
        partner[here] = draw_with_replacement(law[label], len(here), rng)
    chosen: IntArray = by_class[first[partner] + rng.integers(counts[partner])]
    return chosen
