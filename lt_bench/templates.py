"""What `lt-bench new` writes: a component that trains as it is, for each family, and recipes to try it with."""

from __future__ import annotations

MIX = '''
"""$title: say here what it does, and which paper it is from."""

from __future__ import annotations

import torch
from pydantic import Field

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, permuted
from lt_bench.registry import Info


class $class_name(Mix):
    """Images and labels in fixed shares with a random partner of the batch."""

    name = "$name"
    info = Info("images and labels in fixed shares", paper="", year=None)

    class Config(Mix.Config):
        """How much of the first image is kept."""

        share: float = Field(default=0.8, ge=0, le=1)

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        # Randomness from `step.rng` alone: a resumed run then equals an uninterrupted one.
        other = partner or permuted(batch, step.rng)
        share = self.config.share
        images = torch.lerp(other.images, batch.images, share)  # [B, 3, H, W]
        return Mixed(images, ((batch.labels, share), (other.labels, 1 - share)))
'''

LOSS = '''
"""$title: say here what it does, and which paper it is from."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lt_bench.data.types import ClassStats
from lt_bench.losses import Loss
from lt_bench.registry import Info


class $class_name(Loss):
    """Cross entropy of the logits plus tau times the log prior of their class."""

    name = "$name"
    info = Info("cross entropy on logits shifted by the log prior", paper="", year=None)

    class Config(Loss.Config):
        """How far the logits are shifted."""

        tau: float = Field(default=1.0, ge=0)

    config: Config
    shift: Tensor

    def prepare(self, stats: ClassStats) -> None:
        prior = stats.counts.double() / stats.counts.sum()
        # A buffer goes to the device with the loss.
        self.register_buffer("shift", (self.config.tau * prior.log()).float(), persistent=False)  # [C]

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits + self.shift, labels, reduction="none")  # [B]
'''

SAMPLER = '''
"""$title: say here what it does, and which paper it is from."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from lt_bench.data.samplers import Sampler
from lt_bench.data.types import Epoch, IntArray
from lt_bench.registry import Info


class $class_name(Sampler):
    """Draws a class in proportion to a power of its size, then one of its images."""

    name = "$name"
    info = Info("classes in proportion to a power of their size", paper="", year=None)

    class Config(Sampler.Config):
        """How far the classes are balanced."""

        power: float = Field(default=0.5, ge=0, le=1)
        """1 keeps the long tail, 0 draws every class equally often."""

    config: Config

    def order(self, epoch: Epoch, rng: np.random.Generator) -> IntArray:
        weights = self.counts**self.config.power  # [C]
        return self.draw_by_class(weights / weights.sum(), rng)  # [N]
'''

METHOD = '''
"""$title: say here what it does, and which paper it is from."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lt_bench.data.samplers import ClassBalanced, Instance
from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.methods import Method, Task
from lt_bench.models.network import Network
from lt_bench.registry import Info


class $class_name(Method):
    """Cross entropy on the natural stream and on a class-balanced one, which gains weight over the epochs."""

    name = "$name"
    info = Info("a natural and a class-balanced stream", paper="", year=None, cost="2x")

    class Config(Method.Config):
        """How much the class-balanced stream counts in the end."""

        balanced: float = Field(default=0.5, ge=0, le=1)

    config: Config

    def prepare(self, task: Task) -> None:
        num_classes = task.stats.num_classes
        self.natural = Instance(task.labels, num_classes)
        self.balanced = ClassBalanced(task.labels, num_classes)

    def streams(self, epoch: Epoch) -> Mapping[str, IntArray]:
        # Each stream draws from a generator of its own: a resumed run then equals an uninterrupted one.
        return {
            "natural": self.natural.order(epoch, epoch.rng("natural")),
            "balanced": self.balanced.order(epoch, epoch.rng("balanced")),
        }

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        share = self.config.balanced * step.epoch.index / step.epoch.total
        natural, balanced = (cross_entropy(network, batches[stream]) for stream in ("natural", "balanced"))
        return (1 - share) * natural + share * balanced


def cross_entropy(network: Network, batch: Batch) -> Tensor:
    """Of the logits [B, C] in float32, as losses are computed here under autocast too."""
    return F.cross_entropy(network(batch.images).float(), batch.labels)
'''

BACKBONE = '''
"""$title: say here what it does, and which paper it is from."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field
from torch import nn

from lt_bench.models.backbones import Staged
from lt_bench.models.norm import BatchNormReLU
from lt_bench.registry import Info


class $class_name(Staged):
    """Four stages of one convolution each, which halve the sides of the maps and double their channels."""

    name = "$name"
    info = Info("four convolutions", paper="", year=None)

    class Config(Staged.Config):
        """How wide it is."""

        width: int = Field(default=16, ge=1)
        """Channels of the first stage."""

    config: Config

    @property
    def feature_dim(self) -> int:  # type: ignore[override]
        return 8 * self.config.width

    def stages(self) -> list[nn.Sequential]:
        # The last stage is what each branch of a head may have of its own; the last two are an expert's.
        widths = [3, *(self.config.width * factor for factor in (1, 2, 4, 8))]
        return [nn.Sequential(block(a, b)) for a, b in pairwise(widths)]


def block(width_in: int, width: int) -> nn.Module:
    """Maps [B, width_in, H, W] to [B, width, H / 2, W / 2]."""
    # A compiled kernel serves BatchNormReLU on CPUs, torch's own operations elsewhere.
    return nn.Sequential(nn.Conv2d(width_in, width, 3, 2, padding=1, bias=False), BatchNormReLU(width))
'''

HEAD = '''
"""$title: say here what it does, and which paper it is from."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from lt_bench.models.backbones import Backbone
from lt_bench.models.heads import Head, linear_classifier
from lt_bench.models.network import Branch, Network
from lt_bench.registry import Info


class $class_name(Head):
    """A linear classifier of features of which some are dropped while it learns."""

    name = "$name"
    info = Info("linear classifier behind a dropout", paper="", year=None)
    gives_features = True

    class Config(Head.Config):
        """How much is dropped."""

        dropout: float = Field(default=0.1, ge=0, lt=1)

    config: Config

    def build(self, backbone: Backbone, num_classes: int) -> Network:
        # Several branches would share `backbone.trunk()`, and have a `backbone.last_stage()` each.
        trunk, last_stage = backbone.whole()
        linear = linear_classifier(backbone.feature_dim, num_classes)
        return Network(trunk, [Branch(last_stage, nn.Sequential(nn.Dropout(self.config.dropout), linear))])
'''

STAGE = '''
"""$title: say here what it does, and which paper it is from."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from lt_bench.registry import Info
from lt_bench.stages import Stage, frozen


class $class_name(Stage):
    """A learned shift [C] of the logits of the trained classifier, from class-aware batches."""

    name = "$name"
    info = Info("a learned shift per class of the trained logits", paper="", year=None)
    defaults = Stage.defaults | {"sampler": "class-aware"}

    class Config(Stage.Config):
        """Settings of the training, and the size of the shift."""

        epochs: int = Field(default=5, ge=1)
        scale: float = Field(default=1.0, gt=0)
        """Factor on the learned shift."""

    config: Config

    def prepare(self, trained: nn.Linear) -> None:
        self.linear = frozen(trained)
        # A parameter or buffer goes to the device with the stage, and survives an interruption.
        self.shift = nn.Parameter(torch.zeros(trained.out_features))

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)  # [B, C]
        return logits + self.config.scale * self.shift
'''

REGULARISER = '''
"""$title: say here what it does, and which paper it is from."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from lt_bench.models.changes import Change, before
from lt_bench.models.network import Network
from lt_bench.registry import Info
from lt_bench.regularisers import Regulariser


class $class_name(Regulariser):
    """Noise on the features that a classifier is given."""

    name = "$name"
    info = Info("noise on the features", paper="", year=None)

    class Config(Regulariser.Config):
        """How much."""

        deviation: float = Field(default=0.1, gt=0)
        """Of the noise, which has mean 0."""

    config: Config

    def place(self, network: Network) -> None:
        # `before` and `behind` a part; `models.residual` knows the residual branches. A second argument of `Change`
        # is what it does in evaluation.
        for classifier in network.classifiers:
            before(classifier, Change(self.noisy))

    def noisy(self, features: Tensor) -> Tensor:
        # From torch's global generator, which is seeded before every epoch.
        return features + self.config.deviation * torch.randn_like(features)  # [B, D]
'''

COMPONENTS = {
    "mix": MIX,
    "loss": LOSS,
    "sampler": SAMPLER,
    "method": METHOD,
    "backbone": BACKBONE,
    "head": HEAD,
    "stage": STAGE,
    "regularise": REGULARISER,
}
"""The component's file by its family."""

ABOUT = """
# What `lt-bench cite digits-lt/$name` prints: a key such as cao-2019-ldam, or the facts of a paper of your own.
# papers: [{title: My Paper, authors: ["Doe, Jane"], venue: CVPR, year: 2026, url: https://example.org}]
"""

RECIPE = """
# $title, on any setting: a method, which takes its data set, network and protocol from there.
# Run: lt-bench run digits-lt/$name --plugin $module --seeds 0,1,2
"""
