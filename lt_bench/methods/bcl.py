"""BCL: logit-adjusted classification beside a supervised contrastive loss in which every class weighs the same.

Paper: Zhu et al., Balanced Contrastive Learning for Long-Tailed Visual Recognition, CVPR 2022, arXiv 2207.09052.
The authors' CIFAR code was never released: this follows their ImageNet code.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.samplers import Instance
from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.losses.logit_adjustment import log_prior
from lt_bench.methods import Method, Task
from lt_bench.models.heads.contrastive import PrototypeNetwork
from lt_bench.models.network import Network
from lt_bench.registry import Info


class BCL(Method):
    """CE(z + log prior, y) of one view of the images, plus a balanced contrastive loss of two more views.

    All three views get the protocol's augmentation unless the recipe's `views` say otherwise. The authors' are of two
    kinds, RandAugment for the classifier and RandAugment or SimCLR's for the contrast, so that a figure of theirs has
    stronger views behind it. Their projection normalises over all three views; here the classifier's is not projected.
    """

    name = "bcl"
    info = Info("logit adjustment and balanced contrast with prototypes", "Zhu et al., CVPR 2022", 2022, cost="3x")
    heads = frozenset({"prototypes"})
    view_streams = frozenset({"main", "view2", "view3"})

    class Config(Method.Config):
        """Weight and temperature of the contrast."""

        contrastive_weight: FiniteFloat = Field(default=0.35, ge=0)
        """Weight of the contrastive loss; that of the cross entropy is 1."""
        temperature: FiniteFloat = Field(default=0.07, gt=0)
        """Divisor of the cosines, as the authors' command line sets it; their loss alone defaults to 0.1."""

    config: Config
    log_prior: Tensor

    def prepare(self, task: Task) -> None:
        self.sampler = Instance(task.labels, task.stats.num_classes)
        self.register_buffer("log_prior", log_prior(task.stats), persistent=False)

    def streams(self, epoch: Epoch) -> Mapping[str, IntArray]:
        order = self.sampler.order(epoch, epoch.rng("sampler"))
        # The same images thrice: the augmentation of a stream depends on its name.
        return {"main": order, "view2": order, "view3": order}

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        assert isinstance(network, PrototypeNetwork)
        views = [batches[name] for name in ("main", "view2", "view3")]
        labels = torch.cat([view.labels for view in views])
        size = len(views[0].labels)
        # In one pass, the cheapest way: so the views share their batch statistics.
        features = network.features(torch.cat([view.images for view in views]))
        logits = network.classifier(features[:size]).float()
        anchors = network.project(features[size:])
        contrast = balanced_contrastive(anchors, labels[size:], network.prototypes(), self.config.temperature).mean()
        return F.cross_entropy(logits + self.log_prior, labels[:size]) + self.config.contrastive_weight * contrast


def balanced_contrastive(features: Tensor, labels: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """BalSCL: losses [A] of A anchors, unit vectors [A, D], among themselves and one prototype for each class [C, D].

    With s_j the cosine to point j over T, an anchor costs log(sum_j exp(s_j) / m_j) - mean_p s_p. Here j runs over all
    anchors and prototypes but itself, m_j of which are of j's class, and p over those of its own class.
    """
    # In bfloat16 a cosine near 1 would be off by up to 0.03 after the division by T.
    with torch.autocast(features.device.type, enabled=False):
        features, prototypes = features.float(), prototypes.float()
        similarity = features @ torch.cat([features, prototypes]).T / temperature  # [A, A + C]
    classes = torch.cat([labels, torch.arange(len(prototypes), device=labels.device)])
    itself = torch.eye(*similarity.shape, dtype=torch.bool, device=labels.device)
    same = labels[:, None] == classes  # [A, A + C]
    others = class_sizes(labels, len(prototypes))[classes] - same.long()  # m_j, at least 1: a class has its prototype
    log_denominator = (similarity - others.log()).masked_fill(itself, -torch.inf).logsumexp(1)
    positive = same & ~itself
    return log_denominator - (similarity * positive).sum(1) / positive.sum(1)


def class_sizes(labels: Tensor, num_classes: int) -> Tensor:
    """Points of each class, int64 [C]: its anchors and its prototype."""
    # Not bincount, which waits for the device.
    return 1 + F.one_hot(labels, num_classes).sum(0)
