"""RecursiveMix: the batch before, as it was mixed, shrunk into a box of this one; its answer is to be found there."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, Objective, Term, sent
from lt_bench.mixing.boxes import Box, draw_box, paste
from lt_bench.mixing.feature_maps import check_one_branch, untouched, watched
from lt_bench.models.network import Network
from lt_bench.registry import Info

SMALLEST_SHARE = 1e-3
"""Of a label that is still counted; what is left beyond goes to the oldest one that is."""


@dataclass(frozen=True)
class History:
    """A batch as the network was given it, what it was made of, and the probabilities that it answered, [B, C]."""

    epoch: int
    mixed: Mixed
    answered: Tensor


class RecursiveMix(Mix):
    """L = loss(mixed) + weight (1 - l) CE(what is seen in the box, softmax of the answer to what lies there).

    One box per batch, of a share ~ U(0, alpha) of the image before it is clipped; l is what it leaves. The whole batch
    before lies in it, image on image, to the nearest pixel, and its labels, which are mixed themselves, have its share.
    What is seen is the mean of the last feature maps in the box, by a classifier of its own, which begins as a copy and
    is not evaluated; the answer has no gradient. Each epoch begins without a history, as in the authors' code, which
    takes rows of the box for columns where it looks at the features (`transposed`). Paper: Yang et al., NeurIPS 2022,
    arXiv 2203.06844; read from the released code.
    """

    name = "recursive-mix"
    info = Info("the mixed batch before, shrunk into a box", "Yang et al., NeurIPS 2022", 2022)
    refuses_partners = "it pastes the batch before"
    of_two_labels = False
    one_branch = True

    class Config(Mix.Config):
        """As in the authors' command for CIFAR."""

        alpha: float = Field(default=0.5, gt=0, le=1)
        """Largest share of the box."""
        weight: FiniteFloat = Field(default=0.1, ge=0)
        """Of the term of the box; 0.5 on ImageNet."""
        transposed: bool = False
        """Look at the features as the released code does, with rows and columns of the box exchanged."""

    config: Config
    region: nn.Module
    history: History | None = None

    def attach(self, network: Network) -> None:
        check_one_branch(network, self.name)
        self.region = deepcopy(network.classifiers[0])

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        """The batch with the one before it in a box; that is the last that `loss` has seen in this epoch."""
        return self.pasted(batch, step)[0]

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        mixed, box = self.pasted(batch, step)
        network, maps = watched(objective.network)
        answer = replace(objective, network=network).answer(mixed.images)
        loss = objective.loss(answer, mixed.terms)
        if box is None or self.history is None:
            loss = loss + untouched(self.region)
        else:
            share = 1 - box.share_outside(*batch.images.shape[-2:])
            seen = self.region(pooled(maps.found, self.looked_at(box), batch.images.shape[-1]))
            # On average over the batch, as the authors' smoothed cross entropy.
            term = F.cross_entropy(answer.scores(seen).float(), self.history.answered[: len(seen)])
            loss = loss + self.config.weight * share * term
        self.history = History(step.epoch.index, mixed, answer.prediction.detach().float().softmax(1))
        return loss

    def pasted(self, batch: Batch, step: Step) -> tuple[Mixed, Box | None]:
        """The mixed batch and where the one before lies in it; None where there is none."""
        height, width = batch.images.shape[-2:]
        before, box = self.history, draw_box(height, width, 1 - step.rng.uniform(0, self.config.alpha), step.rng)
        if before is None or before.epoch != step.epoch.index or not box.area:
            return Mixed.plain(batch), None
        size = len(batch.labels)
        small = F.interpolate(before.mixed.images[:size], (box.bottom - box.top, box.right - box.left), mode="nearest")
        images = paste(batch.images, F.pad(small, (box.left, width - box.right, box.top, height - box.bottom)), box)
        share = box.share_outside(height, width)
        return Mixed(images, tuple(aged(batch.labels, share, before.mixed.terms))), box

    def looked_at(self, box: Box) -> Box:
        """Where the features are looked at."""
        return Box(box.left, box.right, box.top, box.bottom) if self.config.transposed else box


def aged(labels: Tensor, share: float, before: tuple[Term, ...]) -> list[Term]:
    """Labels int64 [B] with a share, and the terms of an earlier batch of that many images or more with the rest."""
    terms: list[Term] = [(labels, share)]
    left = 1 - share
    for old, its_share in before:
        assert old is not None
        assert isinstance(its_share, float)
        terms.append((old[: len(labels)], (1 - share) * its_share))
        left -= (1 - share) * its_share
        if left < SMALLEST_SHARE:
            break
    last, its_share = terms[-1]
    terms[-1] = (last, its_share + left)
    return terms


def pooled(maps: Tensor, box: Box, width: int) -> Tensor:
    """The mean [B, D] of feature maps [B, D, h, w] in a box of images so many pixels wide."""
    from torchvision.ops import roi_align  # noqa: PLC0415 (1 s)

    corners = sent(np.array([[box.left, box.top, box.right, box.bottom]]), maps.device).expand(len(maps), 4)
    places = torch.cat([torch.arange(len(maps), device=maps.device)[:, None], corners], 1)
    found: Tensor = roi_align(maps.float(), places, 1, maps.shape[-1] / width, aligned=True)
    return found.flatten(1)
