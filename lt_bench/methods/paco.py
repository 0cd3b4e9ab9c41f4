"""PaCo: supervised contrastive learning in which the classes' centres stand among the samples.

Paper: Cui et al., Parametric Contrastive Learning, ICCV 2021, arXiv 2107.12028. The settings are those of its
CIFAR-100-LT script, which trains 400 epochs with AutoAugment and Cutout at a learning rate of 0.05.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lt_bench.data.samplers import Instance
from lt_bench.data.types import Batch, Epoch, IntArray, Step, generator
from lt_bench.losses.logit_adjustment import log_prior
from lt_bench.methods import Method, Task
from lt_bench.models.heads.contrastive import ContrastiveNetwork
from lt_bench.models.network import Network
from lt_bench.registry import Info


class PaCo(Method):
    """Draws each query to its class centre, its key, and the keys and queries of its class; the centres predict.

    Keys are projections of a second view by a network whose weights follow the trained one slowly; a queue holds those
    of the last steps. Both views get the protocol's augmentation unless the recipe's `views` say otherwise; the authors
    have AutoAugment with Cutout for the query and SimCLR's for the key. Their shuffling of batch statistics concerns
    several devices and is left out.
    """

    name = "paco"
    info = Info("contrast of samples and class centres, momentum keys", "Cui et al., ICCV 2021", 2021, cost="1.3x")
    heads = frozenset({"contrastive"})
    view_streams = frozenset({"query", "key"})

    class Config(Method.Config):
        """Hyper-parameters under the names of the paper's code where it has one."""

        alpha: FiniteFloat = Field(default=0.01, ge=0)
        """Weight of a positive that is a sample; 0.05 on ImageNet-LT."""
        beta: FiniteFloat = Field(default=1.0, gt=0)
        """Weight of a positive that is a class centre."""
        gamma: FiniteFloat = Field(default=1.0, gt=0)
        """Weight of the samples beside the centres in the denominator."""
        supt: FiniteFloat = Field(default=1.0, gt=0)
        """Temperature of the centres' logits."""
        temperature: FiniteFloat = Field(default=0.05, gt=0)
        """Divisor of the cosines between samples; 0.2 on ImageNet-LT."""
        queue_size: int = Field(default=1024, ge=1)
        """Keys of earlier steps."""
        momentum: float = Field(default=0.999, ge=0, lt=1)
        """Share that the network of the keys retains of its weights in a step: MoCo's."""

    config: Config
    key_network: ContrastiveNetwork
    log_prior: Tensor
    queue: Tensor
    queue_labels: Tensor
    queue_start: Tensor

    def prepare(self, task: Task) -> None:
        self.sampler = Instance(task.labels, task.stats.num_classes)
        self.follow = get_ema_multi_avg_fn(self.config.momentum)  # type: ignore[no-untyped-call]
        self.register_buffer("log_prior", log_prior(task.stats), persistent=False)

    def attach(self, network: Network) -> None:
        assert isinstance(network, ContrastiveNetwork)
        self.key_network = deepcopy(network).requires_grad_(False)
        size = self.config.queue_size
        self.register_buffer("queue", random_unit_vectors(size, network.projection_dim))
        # Of no class, so that until they are replaced they are nobody's positives.
        self.register_buffer("queue_labels", torch.full((size,), -1))
        self.register_buffer("queue_start", torch.tensor(0))

    def streams(self, epoch: Epoch) -> Mapping[str, IntArray]:
        order = self.sampler.order(epoch, epoch.rng("sampler"))
        # The same images twice: the augmentation of a stream depends on its name.
        return {"query": order, "key": order}

    def after_step(self, network: Network, step: Step) -> None:
        # Its authors' comes before the next step's keys are made: the same, but where a step is of several batches.
        self.follow(list(self.key_network.parameters()), list(network.parameters()), 0)

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        assert isinstance(network, ContrastiveNetwork)
        query, key = batches["query"], batches["key"]
        keys = self.keys(network, key.images)
        features = network.features(query.images)
        centres = network.classifier(features).float() + self.log_prior
        points = torch.cat([network.project(features), keys, self.queue])
        classes = torch.cat([query.labels, key.labels, self.queue_labels])
        losses = parametric_contrastive(centres, points, classes, self.config)
        self.enqueue(keys, key.labels)
        return losses.mean()

    @torch.no_grad()
    def keys(self, network: Network, images: Tensor) -> Tensor:
        """Unit vectors [B, P] of the network that follows the trained one."""
        return self.key_network.project(self.key_network.features(images))

    @torch.no_grad()
    def enqueue(self, keys: Tensor, labels: Tensor) -> None:
        """Put keys [B, P] in the place of the oldest, whether B divides the size of the queue or not."""
        size = len(self.queue)
        keys, labels = keys[-size:], labels[-size:]
        places = (self.queue_start + torch.arange(len(keys), device=keys.device)) % size
        self.queue[places], self.queue_labels[places] = keys, labels
        self.queue_start.add_(len(keys)).remainder_(size)


def parametric_contrastive(centres: Tensor, points: Tensor, classes: Tensor, config: PaCo.Config) -> Tensor:
    """Losses [B] of B queries with logits [B, C] for the class centres, log prior included.

    The queries are the first of the points, unit vectors [M, P] with classes [M]. With u_j the logit of centre j over
    supt, or the cosine to point j over T, a query costs log(sum_j g_j exp(u_j)) - sum_p w_p u_p / sum_p w_p. Here j
    runs over all centres, g_j = 1, and all points but itself, g_j = gamma; p runs over its positives, the centre of
    its class, w_p = beta, and the other points of its class, w_p = alpha.
    """
    size, num_classes = centres.shape
    # In bfloat16 a cosine near 1 would be off by up to 0.04 after the division by T.
    with torch.autocast(points.device.type, enabled=False):
        similarity = points[:size] @ points.T / config.temperature  # [B, M]
    centres = centres / config.supt
    itself = torch.eye(*similarity.shape, dtype=torch.bool, device=points.device)
    others = (similarity + math.log(config.gamma)).masked_fill(itself, -torch.inf)
    log_denominator = torch.cat([centres, others], 1).logsumexp(1)
    own_centre = F.one_hot(classes[:size], num_classes)
    same = (classes[:size, None] == classes) & ~itself
    weights = torch.cat([config.beta * own_centre, config.alpha * same], 1)  # [B, C + M]
    return log_denominator - (weights * torch.cat([centres, similarity], 1)).sum(1) / weights.sum(1)


def random_unit_vectors(count: int, dimensions: int) -> Tensor:
    """Vectors float32 [count, dimensions] of length 1 each, always the same.

    The released code normalises its queue along the wrong axis, so that the vectors it begins with are no unit vectors.
    """
    drawn = generator(0, "queue").normal(size=(count, dimensions))
    return F.normalize(torch.from_numpy(drawn).float(), dim=1)
