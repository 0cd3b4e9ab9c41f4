"""AlignMixup: the last feature maps of two images are mixed cell by cell, each with the cells that are most like it."""

from __future__ import annotations

import math
from functools import partial

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor

from lt_bench.data.types import Batch, Step
from lt_bench.errors import RunError, UserError
from lt_bench.mixing import Mix, Mixed, Objective, permutation
from lt_bench.mixing.feature_maps import check_one_branch
from lt_bench.mixing.manifold_mixup import mixed, mixed_behind, terms
from lt_bench.mixing.mixup import draw_share
from lt_bench.models.backbones.cutting import Pooled, Pooling
from lt_bench.models.network import Network
from lt_bench.registry import Info

ROUNDS_ON_A_PLAN = 8
"""Of Sinkhorn's iteration, before its plan is worked out anew."""
SMALL = 1e-8
"""Added to the mass of a cell before its logarithm is taken."""
STILL = 0.1
"""Sum over the cells of how far potentials move in a round, on average over the batch, below which rounds end."""


class AlignMixup(Mix):
    """Mixup in half of the batches, in the others of the last maps: l A_i + (1 - l) A_j R', or l A_i R + (1 - l) A_j.

    R / n is the plan that carries the n cells of A_i to those of A_j at the least cost, which is the squared distance
    of their features, smoothed by entropy (Sinkhorn): cells of one image take the places of those of the other that
    they resemble. A coin says which image moves, and another what is mixed; l ~ Beta(alpha, alpha) once for the batch,
    labels as in mixup. The plan has no gradient, what it carries has. How many rounds it takes depends on the batch, so
    they wait for the device. Paper: Venkataramanan et al., CVPR 2022, arXiv 2103.15375; read from the released code.
    """

    name = "alignmixup"
    info = Info("last feature maps mixed where they are alike", "Venkataramanan et al., CVPR 2022", 2022, cost="1.3x")
    refuses_partners = "it mixes what the network makes of one batch"
    one_branch = True

    class Config(Mix.Config):
        """As in the authors' code."""

        alpha: FiniteFloat = Field(default=2.0, ge=0)
        """Both parameters of the Beta law of mixup's share. 0 is no mixing."""
        epsilon: FiniteFloat = Field(default=0.1, gt=0)
        """Weight of the entropy of the plan: the smaller, the more a cell goes to one place only."""
        rounds: int = Field(default=100, ge=1)
        """Of Sinkhorn's iteration, at most."""

    config: Config

    def attach(self, network: Network) -> None:
        check_one_branch(network, self.name)
        if any(isinstance(part, Pooled | Pooling) for part in network.modules()):
            raise UserError("mix: alignmixup aligns the cells of the last maps, and this backbone pools them itself")

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        """Mixed images, as half of the batches are: maps are `loss`'s, which has the network."""
        share, order = draw_share(self.config.alpha, step.rng), permutation(batch, step.rng)
        return Mixed(mixed(batch.images, order, share), terms(batch.labels, order, share))

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        if step.rng.integers(2):
            return objective.of(self(batch, partner, step))
        share, order = draw_share(self.config.alpha, step.rng), permutation(batch, step.rng)
        aligning = partial(self.aligned, order=order, share=share, first_moves=bool(step.rng.integers(2)))
        last = objective.network.branches[0].get_submodule("stage")
        with mixed_behind(objective.network, last, aligning):
            answer = objective.answer(batch.images)
        return objective.loss(answer, terms(batch.labels, order, share))

    def aligned(self, maps: Tensor, order: Tensor, share: float, first_moves: bool) -> Tensor:
        """Maps [B, D, h, w], each with that at its place of the order int64 [B], one moved to where the other is."""
        if maps[0, 0].numel() == 1:
            raise RunError("mix alignmixup: it aligns the cells of maps, and those of this network have but one")
        with torch.autocast(maps.device.type, enabled=False):
            one, other = maps.flatten(2).float(), maps[order].flatten(2).float()
            plan = transport(one.mT, other.mT, self.config.epsilon, self.config.rounds) * one.shape[2]
            one, other = (one @ plan, other) if first_moves else (one, other @ plan.mT)
            return torch.lerp(other, one, share).view(maps.shape).to(maps.dtype)


@torch.no_grad()
def transport(one: Tensor, other: Tensor, epsilon: float, rounds: int) -> Tensor:
    """Plans [B, n, m] from cells [B, n, D] to cells [B, m, D] of equal mass each, with sums of about 1/n and 1/m.

    A round on logarithms costs ten times one that multiplies with the plan so far, but nothing overflows there: it is
    done every few rounds, between which no factor can grow by more than n to their number, but for rounding. That tells
    where squared distances are a million times epsilon.
    """
    cost = torch.cdist(one, other).square() / epsilon
    mass, other_mass = (1 / cells.shape[1] + SMALL for cells in (one, other))
    u, v = one.new_zeros(one.shape[:2]), other.new_zeros(other.shape[:2])  # the potentials, in epsilons
    for index in range(rounds):
        before = u
        if index % ROUNDS_ON_A_PLAN == 0:
            u = math.log(mass) - (v[:, None] - cost).logsumexp(2)
            v = math.log(other_mass) - (u[:, :, None] - cost).logsumexp(1)
            plan, b, known = (u[:, :, None] + v[:, None] - cost).exp(), torch.ones_like(v), (u, v)
        else:
            a = mass / (plan @ b[:, :, None]).squeeze(2)
            b = other_mass / (a[:, None] @ plan).squeeze(1)
            u, v = known[0] + a.log(), known[1] + b.log()
        if epsilon * (u - before).abs().sum(1).mean() < STILL:
            break
    return (u[:, :, None] + v[:, None] - cost).exp()
