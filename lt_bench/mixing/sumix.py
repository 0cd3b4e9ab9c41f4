"""SUMix: shares of another mix by how like the answer to the mixture is to those of its two images."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, FiniteFloat
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.data.types import Batch, ClassStats, Step
from lt_bench.mixing import Answer, Mix, Mixed, Objective, Share, permutation
from lt_bench.mixing.feature_maps import check_one_branch, untouched, watched
from lt_bench.mixing.generators import InFront, pair_mix
from lt_bench.models.network import Network
from lt_bench.registry import Info


class SUMix(InFront):
    """l' = l exp(-a_a[y_a]) / (l exp(-a_a[y_a]) + (1 - l) exp(-a_b[y_b])) are the shares; a second term regularises.

    a = scale s / |s| with s the softmax over classes of p_mixed - p of the image, where p has no probability of the
    other image's class; nothing of l' has a gradient. The term is weight (l CE(g_a, y_a) + (1 - l) CE(g_b, y_b)),
    g = exp(-(u + u_mixed + a)) taken for logits, u the softmax of a classifier of its own, of length 1.

    The released loss is ill-scaled. Its scale is the number of images of a batch, so that shares depend on it and, from
    a hundred images on, are close to 0 or 1 and the second term is nearly a constant: `scale` is another number. As a
    is the larger the more of an image is still recognised, they are then the wrong way round, and an image that is
    nearly the whole mixture has next to no share. It takes the batch's mean of l' for all: `shares: batch`. Paper: Qin
    et al., ECCV 2024, arXiv 2407.07805; read from the released code, which cannot be trained as it is.
    """

    name = "sumix"
    info = Info("shares of another mix by what is recognised", "Qin et al., ECCV 2024", 2024, cost="2x")
    refuses_partners = "it only changes the shares of a mix"
    one_branch = True

    class Config(Mix.Config):
        """The mix, and how its shares change."""

        generator: Annotated[dict[str, Any], BeforeValidator(pair_mix)] = Field(
            default={"name": "cutmix"}, validate_default=True
        )
        """The mix, by its name or as a mapping with its settings; the authors have mixes that cut."""
        weight: FiniteFloat = Field(default=0.5, ge=0)
        """Of the second term: 1 on Tiny-ImageNet."""
        shares: Literal["image", "batch"] = "image"
        """Whether each image has the share that it is found to have, or all the mean of these."""
        scale: Annotated[FiniteFloat, Field(gt=0)] | Literal["images", "classes"] = "images"
        """Of the distances: a number, that of the images of a batch, as in the released code, or the root of that of
        the classes, at which the distances of answers that are alike are 1."""
        uncertainty: Literal["classifier", "logits"] = "classifier"
        """Whether u is of a classifier of its own, or the logits as they are, as on ImageNet."""

    config: Config
    uncertain: nn.Module | None

    def prepare(self, stats: ClassStats) -> None:
        super().prepare(stats)
        self.uncertain = None

    def attach(self, network: Network) -> None:
        super().attach(network)
        check_one_branch(network, self.name)
        if self.config.uncertainty == "classifier":
            self.uncertain = deepcopy(network.classifiers[0])

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        size = len(batch.labels)
        order = permutation(batch, step.rng)
        mixed: Mixed = self.generator(batch, partner or batch[order], step)
        if len(mixed.terms) == 1:
            return objective.of(mixed) + (untouched(self.uncertain) if self.uncertain is not None else 0.0)
        (own, share), (other, _) = mixed.terms
        assert own is not None
        assert other is not None
        images = batch.images if partner is None else torch.cat([batch.images, partner.images])
        clean, doubt = self.seen(objective, images)
        answer, doubt_mixed = self.seen(objective, mixed.images)
        p, p_mixed = (found.prediction.detach().float().softmax(1) for found in (clean, answer))
        partners = order if partner is None else torch.arange(size, 2 * size, device=order.device)
        scale = self.scale(p[:size])
        a = distance(p_mixed, p[:size], other, scale)
        b = distance(p_mixed, p[partners], own, scale)
        found = shares(share, a.gather(1, own[:, None])[:, 0], b.gather(1, other[:, None])[:, 0])
        found = found.mean() if self.config.shares == "batch" else found
        losses = (
            F.cross_entropy((-(doubt[:size] + doubt_mixed + a)).exp(), own, reduction="none"),
            F.cross_entropy((-(doubt[partners] + doubt_mixed + b)).exp(), other, reduction="none"),
        )
        term = (share * losses[0] + (1 - share) * losses[1]).mean()
        return objective.loss(answer, ((own, found), (other, 1 - found))) + self.config.weight * term

    def scale(self, p: Tensor) -> float:
        """Of the distances, for probabilities [B, C] of the images of a batch."""
        match self.config.scale:
            case "images":
                return len(p)
            case "classes":
                return math.sqrt(p.shape[1])
            case number:
                return number

    def seen(self, objective: Objective, images: Tensor) -> tuple[Answer, Tensor]:
        """The network's answer to images, and its uncertainty [B, C]."""
        network, maps = watched(objective.network)
        answer = replace(objective, network=network).answer(images)
        if self.uncertain is None:
            return answer, answer.prediction.float()
        logits = answer.scores(self.uncertain(maps.pooled))
        uncertainty: Tensor = F.normalize(logits.float().softmax(1), dim=1)
        return answer, uncertainty


def distance(mixed: Tensor, image: Tensor, left_out: Tensor, scale: float) -> Tensor:
    """How far probabilities [B, C] of mixtures lie above those of one image in each, by class.

    Of the image's probabilities those of the other image's classes, int64 [B], are left out. The distances of a mixture
    have the length `scale`.
    """
    apart: Tensor = F.normalize((mixed - image.scatter(1, left_out[:, None], 0.0)).softmax(1), dim=1)
    return apart * scale


def shares(share: Share, own: Tensor, other: Tensor) -> Tensor:
    """The first image's share [B], from that of the pixels and the distances [B] to both at their own classes."""
    found: Tensor = torch.logit(torch.as_tensor(share, device=own.device)) - own + other
    return found.sigmoid()
