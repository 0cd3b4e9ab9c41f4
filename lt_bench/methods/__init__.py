"""Training procedures. This page holds their common base; most recipes use the `standard` one.

A method owns its streams, extra networks and state, and turns the batches of one step into a loss.
The training loop knows nothing else about it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lt_bench.data.augment import AS_PIXELS, Normalisation
from lt_bench.data.types import Batch, ClassStats, Epoch, IntArray, Step
from lt_bench.models.network import Network
from lt_bench.registry import Component, Phase
from lt_bench.settings import Settings


@dataclass(frozen=True)
class Task:
    """What a method is told of the run: the labels it may draw from and the recipe's phases."""

    labels: IntArray
    """int64 [N], of the training images."""
    stats: ClassStats
    phases: tuple[Phase, ...]
    normalisation: Normalisation = AS_PIXELS
    """Of the images that it will be given, for what is done to their pixels."""
    batch_size: int = 128
    """Images of a batch but the last of an epoch, for a method that arranges batches."""


@dataclass(frozen=True)
class Suspects:
    """Which training labels a method takes for wrong, in the order of the images."""

    flagged: Tensor
    """bool [N]."""
    score: Tensor
    """How much each label is doubted, float [N]; only the order counts."""


class Method(Component, torch.nn.Module, ABC):
    """A training procedure; buffers and parameters are saved with the checkpoint."""

    uses: ClassVar[frozenset[str]] = frozenset()
    """Which of the recipe's families `sampler`, `mix`, `loss` it honours; to set another is refused."""
    heads: ClassVar[frozenset[str] | None] = None
    """Names of the heads it can train, None for all but those with layers that serve training alone."""
    averages_weights: ClassVar[bool] = False
    """Whether an average of the weights is evaluated and saved, so that the protocol must not have another."""
    adversarial: ClassVar[bool] = False
    """Whether it trains against an adversary: its runs have tables of their own."""

    class Config(Settings):
        """No settings."""

    divisible: ClassVar[bool] = True
    """Whether several processes may train it, each on its rows of every batch: not where the loss itself moves weights,
    is none of a mean over images, or needs batches as `streams` arranged them."""
    learns_in_loss: ClassVar[bool] = False
    """Whether the loss itself moves weights, once a batch, so that a step of the optimizer cannot be of several."""
    view_streams: ClassVar[frozenset[str]] = frozenset()
    """Names of streams that show the same images and may each vary them in its own way, as a recipe's `views` say."""
    freezes_parts: ClassVar[bool] = False
    """Whether it lets parts of the network stand still for a time, and all of it learn after."""
    arranges_batches: ClassVar[bool] = False
    """Whether an order of `streams` says which images meet in a batch, so that none may come in between."""

    def __init__(self, task: Task, config: Config | None = None, **settings: Any) -> None:
        super().__init__()
        self.config: Method.Config = self.settled(config, settings)
        self.prepare(task)

    def prepare(self, task: Task) -> None:
        """What the method makes of its task: streams, buffers, parts; called once, the settings read."""

    @classmethod
    def check(cls, config: Any, head: Any, num_classes: int) -> None:
        """Called when a recipe is read, with the settings of this method and of its head, one of `heads`.

        Raises UserError, which begins with the field, if they contradict each other or ask for too many classes.
        """

    def attach(self, network: Network) -> None:
        """Called once with the fresh network, where it will be trained: for a method that keeps a copy of it."""

    @abstractmethod
    def streams(self, epoch: Epoch) -> Mapping[str, IntArray]:
        """The streams of this epoch by name: positions of training images, all of one length."""

    @abstractmethod
    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        """The training loss, a float32 scalar, of one batch from each stream."""

    def scores(self, network: Network, images: Tensor) -> Tensor:
        """Logits [B, C] for prediction; their softmax is the confidence."""
        logits: Tensor = network(images)
        return logits

    def after_step(self, network: Network, step: Step) -> None:
        """Called after each step of the optimizer. See `Mix.after_step`."""

    def evaluated(self, network: Network) -> Network:
        """What is evaluated and saved, once attached. See `Mix.evaluated`."""
        return network

    def end_epoch(
        self, epoch: Epoch, predict: Callable[[Tensor], Tensor], clean: Callable[[], Iterable[Batch]]
    ) -> None:
        """Called after each epoch, the network in evaluation mode, without gradient. See `Mix.end_epoch`."""

    def look(self, epoch: Epoch, predict: Callable[[Tensor], Tensor], views: Callable[[str], Iterable[Batch]]) -> None:
        """Called after `end_epoch`, in the same way: for a method that judges single training images.

        `views` gives all training images once, in order, augmented as in training: `end_epoch` has them as they are.
        By another word, which keys its draws, it gives other views.
        """

    def suspects(self, network: Network, clean: Callable[[], Iterable[Batch]]) -> Suspects | None:
        """Which training labels it takes for wrong when the training is over; None for a method that does not choose.

        Called once, the network in evaluation mode, without gradient; `clean` gives all training images in order.
        """
        return None

    def diagnostics(self, epoch: Epoch) -> Mapping[str, Tensor]:
        """What the epoch that has just ended leaves to be looked at later. See `Mix.diagnostics`."""
        return {}
