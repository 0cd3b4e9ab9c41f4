"""DecoupleMix: each of the two classes of a mixed image also competes without the other, whatever the mix."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, FiniteFloat
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Objective, Share, Term
from lt_bench.mixing.generators import InFront, pair_mix
from lt_bench.registry import Info


class DecoupleMix(InFront):
    """Adds -e_a log q_a - e_b log q_b to another mix's loss: q is the softmax over all classes but the partner's.

    It is that of the logits which the recipe's loss trains: balanced softmax has the prior in them, else what is added
    would take part of it out again. Class weights and margins are the loss's alone. Of pairs of one class nothing is
    added; all means are over the whole batch. e = eta share^power; in the forms `less` and `more` only the smaller or
    the larger share has its term, and at a share of one half none or both. The released code exchanges the two terms in
    about every second batch and knows one share a batch only; here it is as its formula says. Paper: Liu et al.,
    NeurIPS 2023, arXiv 2203.10761.
    """

    name = "decouple-mix"
    info = Info("another mix, whose classes also compete without each other", "Liu et al., NeurIPS 2023", 2023)
    refuses_partners = "it only adds to the loss of a mix"

    class Config(Mix.Config):
        """The mix, and what is added. The authors tune eta, form and power for each mix and network."""

        generator: Annotated[dict[str, Any], BeforeValidator(pair_mix)] = Field(
            default={"name": "mixup"}, validate_default=True
        )
        """The mix, by its name or as a mapping with its settings."""
        eta: FiniteFloat = Field(default=0.1, ge=0)
        """Weight of what is added. 0 adds nothing."""
        form: Literal["both", "less", "more"] = "both"
        """Which shares have a term: both, the smaller or the larger one."""
        power: FiniteFloat = Field(default=1.0, ge=0)
        """Of the share in the weight of its term; 0 is the same weight for all."""

    config: Config

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        mixed = self(batch, partner, step)
        answer = objective.answer(mixed.images)
        loss = objective.loss(answer, mixed.terms)
        return loss if len(mixed.terms) == 1 else loss + self.decoupled(answer.trained(answer.mean), mixed.terms)

    def decoupled(self, logits: Tensor, terms: tuple[Term, ...]) -> Tensor:
        """The mean of what is added, a scalar, of logits [B, C] of images with two labels."""
        (own, share), (other, rest) = terms
        assert own is not None
        assert other is not None
        own_part = self.eta(share, rest) * without(logits.float(), own, other)
        other_part = self.eta(rest, share) * without(logits.float(), other, own)
        return ((own_part + other_part) * (own != other)).mean()

    def eta(self, share: Share, rest: Share) -> Tensor:
        """The weight of the term of a label with this share, where the other label has the rest."""
        found, other = torch.as_tensor(share), torch.as_tensor(rest)
        weight: Tensor = self.config.eta * found**self.config.power
        match self.config.form:
            case "less":
                return weight * (found < other)
            case "more":
                return weight * (found >= other)
            case "both":
                return weight


def without(logits: Tensor, labels: Tensor, left_out: Tensor) -> Tensor:
    """Cross entropy [B] of labels, in a softmax over all classes but those left out; 0 where these are the labels."""
    same = (labels == left_out)[:, None]
    masked = logits.scatter(1, left_out[:, None], -torch.inf)
    losses = F.cross_entropy(torch.where(same, logits, masked), labels, reduction="none")
    return losses * (labels != left_out)
