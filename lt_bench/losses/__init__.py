"""Losses for long-tailed recognition, one file per family. This page holds their common base."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from lt_bench.data.types import ClassStats, Counts, Step, effective_number
from lt_bench.errors import RunError
from lt_bench.lazy import lazily
from lt_bench.mixing import Mixed, Share, Term, each_class
from lt_bench.ranks.division import over_batch
from lt_bench.registry import Component
from lt_bench.settings import Settings, added

if TYPE_CHECKING:
    from lt_bench.losses.binary_cross_entropy import BinaryCrossEntropy
    from lt_bench.losses.bootstrapping import Bootstrapping
    from lt_bench.losses.class_balanced import ClassBalanced
    from lt_bench.losses.cross_entropy import CrossEntropy
    from lt_bench.losses.focal import Focal, SigmoidFocal
    from lt_bench.losses.gcl import GCL
    from lt_bench.losses.influence_balanced import InfluenceBalanced
    from lt_bench.losses.label_aware_smoothing import LabelAwareSmoothing
    from lt_bench.losses.lade import LADE
    from lt_bench.losses.ldam import LDAM
    from lt_bench.losses.logit_adjustment import BalancedSoftmax, LogitAdjustment
    from lt_bench.losses.softmax_equalisation import SoftmaxEqualisation
    from lt_bench.losses.vector_scaling import CDT, VectorScaling

__all__ = [
    "CDT",
    "GCL",
    "LADE",
    "LDAM",
    "BalancedSoftmax",
    "BinaryCrossEntropy",
    "Bootstrapping",
    "ClassBalanced",
    "ClassWeights",
    "CrossEntropy",
    "Focal",
    "InfluenceBalanced",
    "LabelAwareSmoothing",
    "LogitAdjustment",
    "Loss",
    "SigmoidFocal",
    "SoftmaxEqualisation",
    "VectorScaling",
    "mixed_loss",
    "terms_loss",
]

__getattr__ = lazily(
    __name__,
    {
        "BalancedSoftmax": "logit_adjustment",
        "BinaryCrossEntropy": "binary_cross_entropy",
        "Bootstrapping": "bootstrapping",
        "CDT": "vector_scaling",
        "ClassBalanced": "class_balanced",
        "CrossEntropy": "cross_entropy",
        "Focal": "focal",
        "GCL": "gcl",
        "InfluenceBalanced": "influence_balanced",
        "LADE": "lade",
        "LDAM": "ldam",
        "LabelAwareSmoothing": "label_aware_smoothing",
        "LogitAdjustment": "logit_adjustment",
        "SigmoidFocal": "focal",
        "SoftmaxEqualisation": "softmax_equalisation",
        "VectorScaling": "vector_scaling",
    },
)

Beta = Annotated[float, Field(ge=0, lt=1)]


class ClassWeights(Settings):
    """Per-class weights that sum to C.

    A common factor cancels in the weighted mean, which cross entropy takes by itself: there `inverse-frequency` equals
    the weights (n_min / n)^exponent of cost-sensitive learning, which are not normalised.
    """

    name: Literal["effective-number", "inverse-frequency"]
    beta: Beta = 0.9999
    """Of the effective number (1 - beta^n) / (1 - beta); 0 gives equal weights, 1 would be inverse frequency, which
    does not read it."""
    exponent: float = added(1.0, ge=0, le=10)
    """Power taken of the weights, the rho of generalised re-weighting; 0 gives equal weights, 0.5 square roots."""

    def tensor(self, stats: ClassStats) -> Tensor:
        """Weights float32 [C]."""
        counts = stats.counts.double()
        effective = counts if self.name == "inverse-frequency" else effective_number(counts, self.beta)
        effective = effective**self.exponent
        return (1 / effective * stats.num_classes / (1 / effective).sum()).float()


def _named(weights: Any) -> Any:
    """`weights: effective-number` means the weights of that name with their default settings."""
    return {"name": weights} if isinstance(weights, str) else weights


Weights = Annotated[ClassWeights | None, BeforeValidator(_named)]
Mean = Literal["weighted", "plain"]


class Loss(Component, torch.nn.Module, ABC):
    """A criterion on logits [B, C] and hard labels [B]; soft labels are sums of such terms.

    Everything is computed in float32, also under autocast.
    """

    takes_cosines: ClassVar[bool] = False
    """Whether the logits must be cosines in [-1, 1], which only the cosine head gives."""
    takes_features: ClassVar[bool] = False
    """Whether `forward` needs a fourth argument, the pooled features [B, D] that the classifier was given; only a
    head of one branch has them."""

    class Config(Settings):
        """Settings common to all losses."""

        weights: Weights = None
        """Per-class weights, by name or with their settings. None: all ones."""
        mean: Mean | None = added(None)
        """How the weighted losses of a batch become one: `weighted`, sum(w[y] * loss) / sum(w[y]), as torch's cross
        entropy does; `plain`, sum(w[y] * loss) / B. Without weights they are the same. None: `Loss.usual_mean`."""

    class_weights: Tensor | None

    def __init__(self, counts: Counts, config: Config | None = None, **settings: Any) -> None:
        super().__init__()
        self.config: Loss.Config = self.settled(config, settings)
        stats = ClassStats.of_counts(counts)
        weights = None if self.config.weights is None else self.config.weights.tensor(stats)
        self.register_buffer("class_weights", weights, persistent=False)
        self.prepare(stats)

    def prepare(self, stats: ClassStats) -> None:
        """What the loss keeps of the class sizes, in buffers, which move with it; called once, the settings read."""

    @abstractmethod
    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Unweighted losses [B] of float32 logits [B, C]."""

    def forward(self, logits: Tensor, labels: Tensor, share: Share = 1.0) -> Tensor:
        """Mean loss, a scalar: that of share * loss, weighted by the classes of the labels."""
        losses = self.per_sample(logits.float(), labels)
        if not isinstance(losses, Tensor):
            raise RunError(f"loss {self.name}: per_sample should return a Tensor, found {type(losses).__name__}")
        return self.averaged(share * losses, labels)

    def of_terms(self, logits: Tensor, terms: Sequence[Term], *features: Tensor) -> Tensor:
        """Mean loss, a scalar, of images with several labels, as (labels [B], share) pairs: the sum over the pairs.

        That of all classes alike, where there are no labels, is `of_all_classes`. A loss that is not linear in its
        target looks at all pairs at once.
        """
        losses = [
            self.of_all_classes(logits, share, *features) if labels is None else self(logits, labels, share, *features)
            for labels, share in terms
        ]
        return torch.stack(losses).sum()

    def of_all_classes(self, logits: Tensor, share: Share, *features: Tensor) -> Tensor:
        """The mean over the classes, a scalar, of the mean loss of images that would all be of the class."""
        pairs = each_class([(None, share)], logits)
        return torch.stack([self(logits, labels, part, *features) for labels, part in pairs]).sum()

    def averaged(self, losses: Tensor, labels: Tensor) -> Tensor:
        """The mean of losses [B] that the settings ask for."""
        if losses.shape != labels.shape:  # which a mean would hide
            found, wanted = list(losses.shape), list(labels.shape)
            raise ValueError(f"{type(self).__name__}.per_sample: expected one loss a label, {wanted}, found {found}")
        if self.class_weights is None:
            return losses.mean()
        weights = self.class_weights[labels]
        if self.mean == "plain":
            return (weights * losses).mean()
        return (weights * losses).sum() / over_batch(weights.sum())

    @property
    def mean(self) -> Mean:
        """How the weighted losses of a batch become one."""
        return self.config.mean or self.usual_mean()

    def usual_mean(self) -> Mean:
        """The mean that is taken where the settings do not say: that of the loss's own code."""
        return "weighted"

    def disturbed(self, logits: Tensor, labels: Sequence[Tensor], rng: np.random.Generator) -> Tensor:
        """Logits [B, C] as a training step sees them: as they are unless a loss disturbs them at random.

        Called once for a batch, before the losses of its labels, so that all labels of a mixed image see the same
        logits. `labels` are these labels, each [B]; `rng` is the step's.
        """
        return logits

    def scores(self, logits: Tensor) -> Tensor:
        """Logits as they are read at test time [B, C]: the raw ones unless a loss says otherwise."""
        return logits

    def trained(self, logits: Tensor) -> Tensor:
        """Logits [B, C] whose softmax the loss trains, without its margins: those of `scores` unless it says otherwise.

        A mix that adds a cross entropy of its own takes these.
        """
        return self.scores(logits)

    @classmethod
    def changes_scores(cls, config: Any) -> bool:
        """Whether `scores` with these settings are others than the logits, in a loss that is not trained with too."""
        return cls.scores is not Loss.scores

    @classmethod
    def adjusts(cls, config: Any) -> bool:
        """Whether with these settings it adds the log prior in training, so that the logits are learned without."""
        return False

    @classmethod
    def gives_probabilities(cls, config: Any) -> bool:
        """Whether the softmax of `scores` with these settings is meant as probabilities; not of one sigmoid a class."""
        return True


def mixed_loss(loss: Loss, logits: Tensor, mixed: Mixed, step: Step, *features: Tensor) -> Tensor:
    """The loss, a scalar, of the logits [B, C] of mixed images: the sum over their labels, which see the same logits.

    `features` [B, D] where the loss `takes_features`.
    """
    return terms_loss(loss, logits, mixed.terms, step, *features)


def terms_loss(loss: Loss, logits: Tensor, terms: Sequence[Term], step: Step, *features: Tensor) -> Tensor:
    """The same of what the images are made of."""
    logits = loss.disturbed(logits, [labels for labels, _ in terms if labels is not None], step.rng)
    return loss.of_terms(logits, terms, *features)
