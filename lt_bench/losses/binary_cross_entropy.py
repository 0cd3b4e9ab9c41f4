"""Binary cross entropy of one sigmoid a class, the mean over the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from lt_bench.losses import Loss, Mean
from lt_bench.mixing import Term
from lt_bench.registry import Info


class BinaryCrossEntropy(Loss):
    """Mean over the images and over the C classes of the binary cross entropy of each sigmoid with its target.

    The target of a class is the sum of the shares of its labels. For the mean over the classes its gradients are some C
    times smaller than those of cross entropy: LAMB and AdamW do not mind, gradient descent needs another rate.
    """

    name = "binary-cross-entropy"
    info = Info("one sigmoid a class, mean over the classes; targets of mixed images may become 0 or 1")

    class Config(Loss.Config):
        """What becomes of the targets of mixed images."""

        target_threshold: float | None = Field(default=None, ge=0, lt=1)
        """A target above it becomes 1, any other 0; NEXcepTion has 0.2 (Shavit et al., 2023). None: targets stay."""

        @model_validator(mode="after")
        def _of_whole_images(self) -> Self:
            if self.target_threshold is not None and self.weights is not None:
                raise ValueError("a target_threshold makes one target of several labels, which class weights set apart")
            return self

    config: Config

    def usual_mean(self) -> Mean:
        return "plain"

    @classmethod
    def gives_probabilities(cls, config: Any) -> bool:
        return False

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        target = F.one_hot(labels, logits.shape[1]).float()
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)

    def of_terms(self, logits: Tensor, terms: Sequence[Term], *features: Tensor) -> Tensor:
        threshold = self.config.target_threshold
        if threshold is None:
            return super().of_terms(logits, terms, *features)
        target = (soft_target(terms, logits) > threshold).float()
        return F.binary_cross_entropy_with_logits(logits.float(), target)


def soft_target(terms: Sequence[Term], logits: Tensor) -> Tensor:
    """Targets float32 [B, C] of images with logits [B, C]: for each class the sum of its shares."""
    target = torch.zeros_like(logits, dtype=torch.float32)
    for labels, share in terms:
        shares = share * target.new_ones(len(target))  # [B], whichever form a share has
        classes = 1 / logits.shape[1] if labels is None else F.one_hot(labels, logits.shape[1])
        target = target + shares[:, None] * classes
    return target
