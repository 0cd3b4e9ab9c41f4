"""Labels of mixed images that the network has a say in, by this project's reading of LUMix."""

from __future__ import annotations

from typing import Annotated, Any, Self

import torch
from pydantic import BeforeValidator, Field, FiniteFloat, model_validator
from torch import Tensor

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Objective, Term, sent
from lt_bench.mixing.generators import InFront, pair_mix
from lt_bench.ranks.division import for_images
from lt_bench.registry import Info


class LUMix(InFront):
    """Another mix, whose shares l become l (1 - r1 - r2) + r1 s + r2 b: s as the network sees it, b ~ Beta(a, a).

    s = sigmoid(z_i - z_j) for the logits of the two labels, without gradient. Only the abstract could be read (Sun et
    al., arXiv 2211.15846): the formula is recalled, r1, r2 and a are this project's, b is drawn for each image.
    """

    name = "lumix-ours"
    info = Info(
        "shares of another mix, moved by what the network sees and at random",
        "in the spirit of Sun et al., arXiv 2211.15846",
        2022,
    )
    refuses_partners = "it only moves the shares of a mix"

    class Config(Mix.Config):
        """The mix, and how far its shares are moved."""

        generator: Annotated[dict[str, Any], BeforeValidator(pair_mix)] = Field(
            default={"name": "mixup-or-cutmix"}, validate_default=True
        )
        """The mix, by its name or as a mapping with its settings."""
        predicted: float = Field(default=0.2, ge=0, le=1)
        """r1, the weight of the share that the network sees."""
        random: float = Field(default=0.1, ge=0, le=1)
        """r2, the weight of the random share."""
        alpha: FiniteFloat = Field(default=0.4, gt=0)
        """a, both parameters of the Beta law of the random share."""

        @model_validator(mode="after")
        def _within_one(self) -> Self:
            if self.predicted + self.random > 1:
                raise ValueError(f"predicted {self.predicted:g} and random {self.random:g} are more than 1 together")
            return self

    config: Config

    def loss(self, objective: Objective, batch: Batch, partner: Batch | None, step: Step) -> Tensor:
        mixed = self(batch, partner, step)
        answer = objective.answer(mixed.images)
        alpha, rng = self.config.alpha, step.rng
        drawn = sent(for_images(len(batch.labels), lambda n: rng.beta(alpha, alpha, n)), batch.labels.device)
        return objective.loss(answer, self.moved(mixed.terms, answer.prediction, drawn))

    def moved(self, terms: tuple[Term, ...], logits: Tensor, drawn: Tensor) -> tuple[Term, ...]:
        """The terms of images of two labels with moved shares; logits are [B, C], random shares [B]."""
        if len(terms) != 2:
            return terms
        (own, share), (other, _) = terms
        assert own is not None
        assert other is not None
        r1, r2 = self.config.predicted, self.config.random
        moved = share * (1 - r1 - r2) + r1 * predicted_share(logits, own, other) + r2 * drawn
        return (own, moved), (other, 1 - moved)


@torch.no_grad()
def predicted_share(logits: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """p_own / (p_own + p_other), float32 [B], of the softmax p of logits [B, C]."""
    first, second = (logits.float().gather(1, labels[:, None]).squeeze(1) for labels in (own, other))
    return torch.sigmoid(first - second)
