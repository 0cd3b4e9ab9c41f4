"""Ways of mixing two images and their labels, one file each. This page holds their common base."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lt_bench.data.augment import AS_PIXELS, Normalisation
from lt_bench.data.types import Batch, ClassStats, Counts, Epoch, IntArray, Step
from lt_bench.errors import RunError
from lt_bench.lazy import lazily
from lt_bench.models.network import Network
from lt_bench.ranks.division import backwards, order_of, permuted
from lt_bench.registry import Component
from lt_bench.settings import Settings

if TYPE_CHECKING:
    from lt_bench.mixing.adautomix import AdAutoMix
    from lt_bench.mixing.alignmixup import AlignMixup
    from lt_bench.mixing.attentive_cutmix import AttentiveCutMix
    from lt_bench.mixing.augmix import AugMix
    from lt_bench.mixing.automix import AutoMix
    from lt_bench.mixing.balanced_mixup import BalancedMixup
    from lt_bench.mixing.class_distance import ClassDistanceMix
    from lt_bench.mixing.cmo import CMO
    from lt_bench.mixing.co_mixup import CoMixup
    from lt_bench.mixing.cutmix import CutMix
    from lt_bench.mixing.decouple_mix import DecoupleMix
    from lt_bench.mixing.fmix import FMix
    from lt_bench.mixing.gmix import GMix
    from lt_bench.mixing.gridmixup import GridMixup
    from lt_bench.mixing.guided_mixup import GuidedMixup
    from lt_bench.mixing.hmix import HMix
    from lt_bench.mixing.label_occurrence_balanced_mixup import (
        LabelOccurrenceBalancedMixup as LabelOccurrenceBalancedMixup,
    )
    from lt_bench.mixing.lumix import LUMix
    from lt_bench.mixing.manifold_mixup import ManifoldMixup
    from lt_bench.mixing.minority_partners import MinorityPartners
    from lt_bench.mixing.mixed_example import MixedExample
    from lt_bench.mixing.mixrnet import MixRNet
    from lt_bench.mixing.mixup import Mixup
    from lt_bench.mixing.mixup_or_cutmix import MixupOrCutMix
    from lt_bench.mixing.mixupe import MixupE
    from lt_bench.mixing.noisy_feature_mixup import NoisyFeatureMixup
    from lt_bench.mixing.none import NoMix
    from lt_bench.mixing.pixmix import PixMix
    from lt_bench.mixing.puzzlemix import PuzzleMix
    from lt_bench.mixing.recursive_mix import RecursiveMix
    from lt_bench.mixing.remix import Remix
    from lt_bench.mixing.resizemix import ResizeMix
    from lt_bench.mixing.ricap import RICAP
    from lt_bench.mixing.saliencymix import SaliencyMix
    from lt_bench.mixing.samix import SAMix
    from lt_bench.mixing.sample_pairing import SamplePairing
    from lt_bench.mixing.smoothmix import SmoothMix
    from lt_bench.mixing.snapmix import SnapMix
    from lt_bench.mixing.soft_augmentation import SoftAugmentation
    from lt_bench.mixing.sumix import SUMix
    from lt_bench.mixing.teachers import Kind, Teacher
    from lt_bench.mixing.tokenmix import TokenMix
    from lt_bench.mixing.transmix import TransMix
    from lt_bench.mixing.unimix import UniMix

__all__ = [
    "CMO",
    "RICAP",
    "AdAutoMix",
    "AlignMixup",
    "AttentiveCutMix",
    "AugMix",
    "AutoMix",
    "BalancedMixup",
    "Batch",
    "ClassDistanceMix",
    "CoMixup",
    "CutMix",
    "DecoupleMix",
    "FMix",
    "GMix",
    "GridMixup",
    "GuidedMixup",
    "HMix",
    "LUMix",
    "LabelOccurrenceBalancedMixup",
    "ManifoldMixup",
    "MinorityPartners",
    "Mix",
    "MixRNet",
    "Mixed",
    "MixedExample",
    "Mixup",
    "MixupE",
    "MixupOrCutMix",
    "NoMix",
    "NoisyFeatureMixup",
    "Objective",
    "PixMix",
    "PuzzleMix",
    "RecursiveMix",
    "Remix",
    "ResizeMix",
    "SAMix",
    "SUMix",
    "SaliencyMix",
    "SamplePairing",
    "SmoothMix",
    "SnapMix",
    "SoftAugmentation",
    "Step",
    "TokenMix",
    "TransMix",
    "UniMix",
    "backwards",
    "permutation",
    "permuted",
    "sent",
    "with_maps",
]

__getattr__ = lazily(
    __name__,
    {
        "AdAutoMix": "adautomix",
        "AlignMixup": "alignmixup",
        "AugMix": "augmix",
        "AttentiveCutMix": "attentive_cutmix",
        "AutoMix": "automix",
        "BalancedMixup": "balanced_mixup",
        "CMO": "cmo",
        "CoMixup": "co_mixup",
        "ClassDistanceMix": "class_distance",
        "CutMix": "cutmix",
        "DecoupleMix": "decouple_mix",
        "FMix": "fmix",
        "GMix": "gmix",
        "GridMixup": "gridmixup",
        "GuidedMixup": "guided_mixup",
        "HMix": "hmix",
        "LUMix": "lumix",
        "LabelOccurrenceBalancedMixup": "label_occurrence_balanced_mixup",
        "ManifoldMixup": "manifold_mixup",
        "MinorityPartners": "minority_partners",
        "MixRNet": "mixrnet",
        "MixedExample": "mixed_example",
        "Mixup": "mixup",
        "MixupE": "mixupe",
        "MixupOrCutMix": "mixup_or_cutmix",
        "NoMix": "none",
        "NoisyFeatureMixup": "noisy_feature_mixup",
        "PixMix": "pixmix",
        "PuzzleMix": "puzzlemix",
        "RICAP": "ricap",
        "RecursiveMix": "recursive_mix",
        "Remix": "remix",
        "ResizeMix": "resizemix",
        "SAMix": "samix",
        "SUMix": "sumix",
        "SaliencyMix": "saliencymix",
        "SamplePairing": "sample_pairing",
        "SmoothMix": "smoothmix",
        "SnapMix": "snapmix",
        "SoftAugmentation": "soft_augmentation",
        "TokenMix": "tokenmix",
        "TransMix": "transmix",
        "UniMix": "unimix",
    },
)

Share = float | Tensor
Term = tuple[Tensor | None, Share]
"""Labels int64 [B], or None for all classes alike, and their share: one number for the batch or one per image [B]."""
MapsOf = Callable[["Teacher", "Kind"], Tensor]
"""What a trained network sees in the cells of each whole training image: float32 [N, h, w], none below 0."""


@dataclass(frozen=True)
class Mixed:
    """Mixed images [B, 3, H, W] and what they are made of.

    The shares of the `terms` sum to 1 unless a mix says otherwise. The training loss is the sum of
    share * loss(logits, labels); that of all classes alike is the mean over the classes.
    """

    images: Tensor
    terms: tuple[Term, ...]

    @classmethod
    def plain(cls, batch: Batch) -> Mixed:
        return cls(batch.images, ((batch.labels, 1.0),))


def as_they_are(logits: Tensor) -> Tensor:
    """The same logits."""
    return logits


class Answer(NamedTuple):
    """What a network says of images, as far as a loss asks, and how that loss reads it."""

    logits: Tensor
    """[B, C], or [E, B, C] of several experts; cosines, where the loss takes them."""
    features: Tensor | None = None
    """[B, D]."""
    scores: Callable[[Tensor], Tensor] = as_they_are
    """From what a classifier gives, [B, C], to logits as they are read at test time; see `Loss.scores`."""
    trained: Callable[[Tensor], Tensor] = as_they_are
    """To those whose softmax the loss trains; see `Loss.trained`."""

    @property
    def mean(self) -> Tensor:
        """The logits [B, C], of several experts their mean."""
        return self.logits if self.logits.ndim == 2 else self.logits.mean(0)

    @property
    def prediction(self) -> Tensor:
        """Logits [B, C] as they are read at test time: their softmax are probabilities."""
        return self.scores(self.mean)


@dataclass(frozen=True)
class Objective:
    """What a mix trains in a step: a network, and the loss of its answers.

    Which answers these are, and which loss, is the method's and the recipe's: a mix takes them as they come.
    """

    network: Network
    reading: Callable[[Network, Tensor], Answer]
    criterion: Callable[[Answer, Sequence[Term]], Tensor]
    normalisation: Normalisation = AS_PIXELS
    """Of the images, for a mix that works on their pixels."""

    def answer(self, images: Tensor) -> Answer:
        """What the network says of images [B, 3, H, W]."""
        return self.reading(self.network, images)

    def loss(self, answer: Answer, terms: Sequence[Term]) -> Tensor:
        """The loss, a scalar, of an answer to images that are made of these terms."""
        return self.criterion(answer, terms)

    def of(self, mixed: Mixed) -> Tensor:
        """The loss, a scalar, of mixed images."""
        return self.loss(self.answer(mixed.images), mixed.terms)


class Mix(Component, torch.nn.Module, ABC):
    """Turns a batch, and perhaps a second one, into mixed images. State lives in buffers.

    Never changes the tensors it is given.
    """

    refuses_partners: ClassVar[str | None] = None
    """Why it makes no sense that another mix chooses its partners; None where it does."""
    evaluates_its_own: ClassVar[bool] = False
    """Whether a network of its own is evaluated and saved: then it is the mix of a whole training, of one branch."""
    one_branch: ClassVar[bool] = False
    """Whether it takes the network apart: then the head has one branch, and no second stage has the mix."""

    of_two_labels: ClassVar[bool] = True
    """Whether the terms of what it mixes are two labels with shares that sum to 1."""

    class Config(Settings):
        """No settings."""

    def __init__(self, counts: Counts, config: Config | None = None, **settings: Any) -> None:
        super().__init__()
        self.config: Mix.Config = self.settled(config, settings)
        self.prepare(ClassStats.of_counts(counts))

    def prepare(self, stats: ClassStats) -> None:
        """What the mix keeps of the class sizes, in buffers, which move with it; called once, the settings read."""

    @classmethod
    def check_given(cls, config: Any) -> None:
        """Raises UserError, which begins with the field, where a training would lack a file that no setting names.

        A recipe that leaves it to its user is a valid one all the same.
        """

    def attach(self, network: Network) -> None:
        """Called once with the fresh network, where it will be trained: for a mix with networks of its own.

        Its parameters learn with the network's, by the same optimizer, unless they require no gradient.
        """

    def teach(self, maps_of: MapsOf) -> None:
        """Called once before a training, `Batch.views` says what is seen of the images: for a mix with a teacher.

        Raises UserError where it has none and needs one, as `check_given` does.
        """

    @classmethod
    def reads_views(cls, config: Any) -> bool:
        """Whether with these settings it needs `Batch.views`, which only images that are varied have."""
        return False

    def partner_order(self, order: IntArray, labels: IntArray, epoch: Epoch) -> IntArray | None:
        """Positions [N] of a second stream that runs beside the main one, drawn at the start of an epoch.

        `order` [N] are the positions of the main stream, `labels` [N] the labels of the training set.
        None, the default: partners come from a permutation of the batch itself.
        """
        return None

    @abstractmethod
    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        """Mix `batch` with `partner` (as long as `batch`), or with itself where `partner` is None."""

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        """The training loss, a scalar: that of the mixed images.

        A mix says it anew that looks at the network's answer before it knows the shares, mixes hidden features, or has
        a second term. It may ask the objective as often as it wants.
        """
        mixed = self(batch, partner, step)
        if not isinstance(mixed, Mixed):
            raise RunError(f"mix {self.name}: forward should return a Mixed, found {type(mixed).__name__}")
        if step.index == 0 and self.of_two_labels:  # once an epoch, for it waits for the device
            self._check_shares(mixed)
        return objective.of(mixed)

    def _check_shares(self, mixed: Mixed) -> None:
        total = torch.as_tensor(sum(share for _, share in mixed.terms)).detach()
        if not ((total - 1).abs() < 0.01).all():
            found = total.flatten()[(total - 1).abs().argmax()]
            raise RunError(
                f"mix {self.name}: the shares of an image sum to {found:.3g} and not to 1; a mix that means it says "
                "`of_two_labels = False`"
            )

    def after_step(self, network: Network, step: Step) -> None:
        """Called after each step of the optimizer, for a mix with a network that follows the trained one."""

    def evaluated(self, network: Network) -> Network:
        """What is evaluated and saved in place of the network that is trained: by default it itself."""
        return network

    def end_epoch(self, predict: Callable[[Tensor], Tensor], clean: Callable[[], Iterable[Batch]]) -> None:
        """Called after each epoch with the network in evaluation mode.

        `predict` maps images to logits [B, C] without gradient; `clean()` runs once over the un-augmented
        training images. A mix that follows the state of the network refreshes itself here.
        """

    def diagnostics(self) -> Mapping[str, Tensor]:
        """What the epoch that has just ended leaves to be looked at later, by name; the run keeps it in a file.

        Asked for after `end_epoch`. Empty, the default, also where this epoch measured nothing new.
        """
        return {}


def each_class(terms: Sequence[Term], logits: Tensor) -> Iterator[tuple[Tensor, Share]]:
    """The terms of images with logits [..., B, C]; that of all classes alike as one for each class."""
    size, num_classes = logits.shape[-2:]
    for labels, share in terms:
        if labels is not None:
            yield labels, share
            continue
        for label in range(num_classes):
            yield torch.full((size,), label, device=logits.device), share / num_classes


def permutation(batch: Batch, rng: np.random.Generator) -> Tensor:
    """A random order int64 [B] of a batch, on its device. Fixed points are allowed."""
    return torch.from_numpy(order_of(len(batch.labels), rng)).to(batch.labels.device, non_blocking=True)


def with_maps(
    batch: Batch, partner: Batch | None, maps_of: Callable[[Batch], Tensor], rng: np.random.Generator
) -> tuple[Tensor, Batch, Tensor]:
    """Maps [B, H, W] of a batch, its partner, by default the batch in a random order, and the partner's maps."""
    maps = maps_of(batch)
    if partner is not None:
        return maps, partner, maps_of(partner)
    order = permutation(batch, rng)
    return maps, batch[order], maps[order]


def sent(drawn: np.ndarray, device: torch.device) -> Tensor:
    """What was drawn, as float32 on a device, without waiting for it."""
    return torch.from_numpy(drawn.astype(np.float32)).to(device, non_blocking=True)
