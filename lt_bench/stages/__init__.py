"""Second stages: what is done about the classifier once the network is trained. This page holds their common base.

A stage is the classifier that takes the place of the trained one. The features stay: no gradient reaches what
stands before the classifier (decoupling, Kang et al., ICLR 2020), unless a stage says what it adapts.

It starts from the last epoch of the first stage. Released codes start from the best one, on validation images (Kang
et al.) or on the test images (MiSLAS).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor, nn

from lt_bench.data.augment import Augmentation
from lt_bench.data.types import generator
from lt_bench.models.network import Branch, Network
from lt_bench.registry import Component
from lt_bench.settings import Settings


class Stage(Component, nn.Module, ABC):
    """Logits [B, C] from features [B, D]; made from the trained classifier, whose weights it may take over."""

    defaults: ClassVar[dict[str, Any]] = {"sampler": "instance", "mix": "none", "loss": "cross-entropy"}
    """What the stage trains with where the recipe does not say, each by name or with settings, as in a recipe."""
    goes_on_with: ClassVar[frozenset[str]] = frozenset()
    """Of these, what stands as it was in the last phase of the first stage, where the recipe does not say."""
    keeps_classifier: ClassVar[bool] = False
    """Whether its logits are those of the trained classifier as it is, read by the loss."""
    heads: ClassVar[frozenset[str]] = frozenset({"linear"})
    """Names of the heads, of one branch each, whose classifier it can take the place of."""
    needs_features: ClassVar[bool] = False
    """Whether `fit` is to be called."""
    plain_images: ClassVar[bool] = False
    """Whether it learns from images as evaluation sees them, which nothing varies."""
    scores_are_probabilities: ClassVar[bool] = True
    """Whether the softmax of its logits means probabilities: not of distances, nor where a norm sets the scale."""

    class Config(Settings):
        """How long and how fast the stage learns. The rate falls as half a cosine, to 0, once per epoch.

        It learns by gradient descent, also under a protocol with another optimizer (then with the defaults of `sgd`),
        and its weights are not averaged.
        """

        epochs: int = Field(default=10, ge=1)
        lr: FiniteFloat = Field(default=0.1, gt=0)
        """That of the CIFAR protocols, whatever the protocol's; on ImageNet-LT cRT and LWS were published with 0.2."""
        weight_decay: FiniteFloat | None = Field(default=None, ge=0)
        """None: that of the protocol, whose batch size and momentum hold as well."""
        shifted_batch_norm: bool = False
        """Whether the running statistics of batch normalisation follow the stage's sampler or stand still."""

    def __init__(self, trained: nn.Module, config: Config | None = None, **settings: Any) -> None:
        super().__init__()
        self.config: Stage.Config = self.settled(config, settings)
        self.prepare(trained)

    def prepare(self, trained: Any) -> None:
        """What the stage takes over from the trained classifier, of one of `heads`; called once, the settings read."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, C] of features [B, D]."""

    @classmethod
    def sees(cls, config: Any, augmentation: Augmentation, side: int) -> Augmentation:
        """How images reach it, in training and in evaluation, where the protocol shows them so, of a side in pixels."""
        return augmentation

    @classmethod
    def adapted(cls, last_stage: nn.Module) -> Sequence[nn.Module]:
        """What learns with it of the stage that gives the features. Raises UserError where that has no such part."""
        return ()

    def rates(self) -> Mapping[Tensor, float]:
        """What learns, each with a factor on the learning rate."""
        return {parameter: 1.0 for parameter in self.parameters() if parameter.requires_grad}

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Called once, before the first epoch, with the features [N, D] of all un-augmented training images.

        Only where `needs_features` says so: they cost a pass over the data. What it finds has to lie in parameters
        or buffers, which checkpoints and weights hold.
        """

    def after_step(self) -> None:
        """Called after every step of the optimizer, without gradient."""


class NoTraining(Stage.Config):
    """Of a stage that is as it is from the start."""

    epochs: Literal[0] = 0

    @model_validator(mode="after")
    def _nothing_to_train(self) -> Self:
        for name in ("lr", "weight_decay", "shifted_batch_norm"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect on a stage that trains nothing")
        return self


class DecoupledNetwork(Network):
    """A trained network of one branch, with a stage in the place of its classifier; only the stage may learn.

    Building it leaves torch's global random state as it was; what the stage draws follows from `seed` alone.
    """

    def __init__(self, trained: Network, stage: type[Stage], config: Stage.Config, seed: int) -> None:
        (branch,) = trained.branches
        last_stage = branch.get_submodule("stage")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(seed, "second stage").integers(2**63)))
            classifier = stage(branch.get_submodule("classifier"), config)
        super().__init__(trained.trunk.requires_grad_(False), [Branch(last_stage.requires_grad_(False), classifier)])
        self.shifted_batch_norm, self.tuned = config.shifted_batch_norm, trained.tuned
        self.adapted = tuple(part.requires_grad_() for part in classifier.adapted(last_stage))

    @property
    def second_stage(self) -> Stage:
        """What stands in the place of the classifier."""
        (stage,) = self.classifiers
        assert isinstance(stage, Stage)
        return stage

    def features(self, images: Tensor) -> Tensor:
        """Pooled features [B, D] of images [B, 3, H, W]."""
        (branch,) = self.branches
        assert isinstance(branch, Branch)
        return branch.features(self.trunk(images))

    def rates(self) -> Mapping[Tensor, float]:
        adapted = (parameter for part in self.adapted for parameter in part.parameters())
        return {**self.second_stage.rates(), **dict.fromkeys(adapted, 1.0)}

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if not self.shifted_batch_norm:
            self.trunk.eval()
            self.branches[0].get_submodule("stage").eval()
        for part in self.adapted:
            part.train(mode)
        return self


def frozen(trained: nn.Linear) -> nn.Linear:
    """The trained classifier as it is, learning no more."""
    return trained.requires_grad_(False)


def row_norms(weight: Tensor) -> Tensor:
    """Euclidean norms [C, 1] of the rows of weights [C, D]."""
    norms: Tensor = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    return norms
