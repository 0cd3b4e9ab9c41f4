"""What both variants of PADDLES have in common: when which spectrum stops, what is learned anew, whom they trust."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.samplers import PURPOSE
from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.methods import Method, Suspects, Task
from lt_bench.methods.spectrum import Block, stopped
from lt_bench.models.network import Network
from lt_bench.registry import between
from lt_bench.validation import in_words

VIEWS = ("confident/first", "confident/second")
"""Two augmentations of every image, whose mean prediction decides."""


class EarlyStopping(Method):
    """Cross entropy on all labels, of which the amplitudes of the trunk's maps stop to learn first, the phases later.

    With the phases, in an epoch of their own, late layers are set back to what they began with and learned anew by
    Adam. From then on an image counts only while the network confirms its label.
    """

    heads = frozenset({"linear"})
    acts = "choose images"
    timing = "phase_stop {phase_stop}"
    refined: ClassVar[tuple[str, ...]]
    """Parts of the branch that are learned anew, and then not known to the run's optimizer."""
    divisible = False
    learns_in_loss = True
    freezes_parts = True
    cap: ClassVar[float] = float("inf")
    """The most that a class counts for."""

    class Config(Method.Config):
        """Epochs count from 0: how often images have been seen says what a network has learned by heart, and not how
        often it will see them. In a short training all come sooner, in proportion.
        """

        amplitude_stop: int = Field(default=20, ge=0)
        """T_A, the first epoch without gradient through amplitudes."""
        phase_stop: int = Field(default=30, ge=1)
        """T_P, the epoch in which late layers are learned anew."""
        latest: float = Field(default=0.5, gt=0, lt=1)
        """Share of the training behind which T_P does not come. The authors' comes behind a tenth to a quarter of 200
        or 300 epochs, or of the 105 that some of their scripts name behind a third and more."""
        refinement_lr: FiniteFloat = Field(default=1e-4, gt=0)
        """Of Adam."""
        train_refined: bool = False
        """Whether what was learned anew goes on learning with the rest. In the authors' code the optimizer does not
        know it, and it stays as it is."""
        over: Block = "batch"
        """What a Fourier transform spans: the batch, channels included, as in the authors' code, or a single map."""

        @model_validator(mode="after")
        def _in_order(self) -> Self:
            if self.amplitude_stop >= self.phase_stop:
                found = f"amplitude_stop {self.amplitude_stop} and phase_stop {self.phase_stop}"
                raise in_words(f"phases have to stop after amplitudes, found {found}")
            return self

    config: Config
    confident: Tensor
    doubt: Tensor
    class_weights: Tensor

    def prepare(self, task: Task) -> None:
        self.labels = task.labels
        self.num_classes = task.stats.num_classes
        self.register_buffer("confident", torch.ones(len(task.labels), dtype=torch.bool))
        self.register_buffer("doubt", torch.zeros(len(task.labels)))  # 1 - probability of the given label
        self.register_buffer("class_weights", torch.ones(self.num_classes))
        self.initial: dict[str, Tensor] = {}
        self.adam: torch.optim.Adam | None = None

    @classmethod
    def active_epochs(cls, config: Any, epochs: range, total: int) -> range:
        return between(epochs, stops(config, total)[1] + 1, total)

    @classmethod
    def turns(cls, config: Any, epochs: range, total: int) -> set[int]:
        return super().turns(config, epochs, total) | {*stops(config, total)}

    def attach(self, network: Network) -> None:
        self.initial = {name: tensor.detach().clone() for name, tensor in network.branches[0].state_dict().items()}

    def shuffled(self, epoch: Epoch, times: int = 1, positions: IntArray | None = None) -> IntArray:
        """Some passes over training images in random orders, by default over all of them."""
        every = np.arange(len(self.labels)) if positions is None else positions
        rng = epoch.rng(PURPOSE)
        return np.concatenate([rng.permutation(every) for _ in range(times)]).astype(np.int64)

    def chosen(self) -> IntArray:
        """Positions of the confident images; of all where there are none, for something has to be learned from."""
        positions = np.flatnonzero(self.confident.cpu().numpy())
        return positions if len(positions) else np.arange(len(self.labels))

    def given_loss(self, network: Network, batch: Batch, epoch: Epoch) -> Tensor:
        """Cross entropy on given labels, whose gradient reaches the trunk as the epoch lets it."""
        amplitude_stop, phase_stop = stops(self.config, epoch.total)
        shared = network.trunk(batch.images)
        shared = stopped(shared, amplitude=amplitude_stop <= epoch.index < phase_stop, over=self.config.over)
        return F.cross_entropy(network.branches[0](shared).float(), batch.labels)

    # --- learning late layers anew ----------------------------------------------------------------------

    def begin_refinement(self, network: Network, names: tuple[str, ...]) -> None:
        """Set these parts of the branch back to what they began with, and let them alone be learned."""
        branch = network.branches[0]
        network.requires_grad_(False)
        for name in names:
            part, prefix = branch.get_submodule(name), f"{name}."
            kept = {key: value for key, value in self.initial.items() if key.startswith(prefix)}
            part.load_state_dict({key.removeprefix(prefix): value for key, value in kept.items()})
            part.requires_grad_(True)
        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.adam = torch.optim.Adam(learned, lr=self.config.refinement_lr)

    def refinement_loss(self, network: Network, batch: Batch) -> Tensor:
        """The loss, after a step of Adam on what is learned anew: it leaves nothing for the optimizer of the run."""
        assert self.adam is not None
        loss = F.cross_entropy(network(batch.images).float(), batch.labels)
        learned = self.adam.param_groups[0]["params"]
        for parameter, gradient in zip(learned, torch.autograd.grad(loss, learned), strict=True):
            parameter.grad = gradient
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        return loss.detach().requires_grad_()

    def release(self, network: Network, step: Step) -> None:
        """At the first step of an epoch after the refinement: let all learn but what was refined."""
        if step.index == 0:
            network.requires_grad_(True)
            for name in () if self.config.train_refined else self.refined:
                network.branches[0].get_submodule(name).requires_grad_(False)

    # --- whom to trust ----------------------------------------------------------------------------------

    def look(self, epoch: Epoch, predict: Callable[[Tensor], Tensor], views: Callable[[str], Iterable[Batch]]) -> None:
        if epoch.index < stops(self.config, epoch.total)[1]:
            return
        found = [torch.cat([predict(batch.images).softmax(1) for batch in views(view)]) for view in VIEWS]
        probability = torch.stack(found).mean(0)
        labels = torch.from_numpy(self.labels).to(probability.device)
        self.confident.copy_(probability.argmax(1) == labels)
        self.doubt.copy_(1 - probability.gather(1, labels[:, None]).squeeze(1))
        kept = torch.bincount(labels[self.confident], minlength=self.num_classes)
        self.class_weights.copy_(class_weights(kept, self.cap))

    def diagnostics(self, epoch: Epoch) -> Mapping[str, Tensor]:
        """Images [C] whose label the network confirms, by class, and what these count for [C]."""
        if epoch.index < stops(self.config, epoch.total)[1]:
            return {}
        labels = torch.from_numpy(self.labels)[self.confident.cpu()]
        return {"confirmed": torch.bincount(labels, minlength=self.num_classes), "class_weights": self.class_weights}

    def suspects(self, network: Network, clean: Callable[[], Iterable[Batch]]) -> Suspects:
        """Labels that the network does not confirm after the last epoch."""
        return Suspects(~self.confident, self.doubt)


def stops(config: Any, total: int) -> tuple[int, int]:
    """T_A and T_P: the first epoch without gradient through amplitudes, and the one in which late layers start anew."""
    phase = min(config.phase_stop, max(1, round(config.latest * total)))
    return min(sooner(config, total, config.amplitude_stop), phase - 1), phase


def sooner(config: Any, total: int, epochs: int) -> int:
    """So many epochs of the authors' training in one of `total` epochs, whose T_P may come before theirs."""
    brought_forward: int = round(epochs * min(1, max(1, round(config.latest * total)) / config.phase_stop))
    return brought_forward


def class_weights(kept: Tensor, cap: float = float("inf")) -> Tensor:
    """w_c = mean(n) / n_c, at most `cap`, of n [C] images kept of each class, the mean over classes that have some.

    0 for a class that has none, and all ones where nothing is kept; float32 [C].
    """
    n = kept.double()
    some = n > 0
    if not bool(some.any()):
        return torch.ones_like(n).float()
    weights = (n[some].mean() / n.clamp_min(1)).clamp_max(cap)
    return torch.where(some, weights, torch.zeros_like(weights)).float()
