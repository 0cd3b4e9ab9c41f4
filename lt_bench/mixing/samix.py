"""SAMix: AutoMix with a mask generator that follows the share more closely, and a reward for contrast."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor, nn

from lt_bench.data.types import Step
from lt_bench.mixing.automix import AutoMix
from lt_bench.mixing.mix_block import Mixer, Pairing, adjusted, excess_less_variance
from lt_bench.registry import Info


class SAMix(AutoMix):
    """AutoMix's step with another Mix Block, whose masks also earn twice their variance.

    The weight of the classes that an image has nothing of, `neg_weight` in the released code, changes no value of its
    cross entropy and is left out; the paper's balanced loss could not be read. Paper: Li et al., arXiv 2111.15454;
    read from the released code, whose settings for CIFAR are these. Supervised, without pre-trained generator.
    """

    name = "samix"
    info = Info(
        "AutoMix, with masks of contrast and bound to the share", "Li et al., arXiv 2111.15454", 2021, cost="3x"
    )

    class Config(AutoMix.Config):
        """Those of AutoMix, and of the mask generator."""

        lambda_concat: Literal[False] = False
        """The generator sees the shares by `k` alone."""
        k: FiniteFloat | None = Field(default=0.25, ge=0)
        """Of the embedding of shares, the larger the straighter; None, the -1 of the released code, where it is not
        bent: on ImageNet and iNaturalist."""
        adjust: float = Field(default=0.0, ge=0, le=1)
        """Probability that a step stretches the masks that the network sees to their exact shares: 0.25 over 800 epochs
        of CIFAR."""
        adjust_with: Literal["own", "other"] = "own"
        """`other`: to the share of the generator's own masks, as the released code has it."""
        value_dropout: float = Field(default=0.0, ge=0, lt=1)
        """Of the values, 0.1 on ImageNet and iNaturalist."""

    config: Config

    def fresh_block(self, channels: int) -> nn.Module:
        return Mixer(channels, k=self.config.k, dropout=self.config.value_dropout)

    @torch.no_grad()
    def given_masks(
        self, features: Tensor, drawn: tuple[Pairing, Pairing], size: torch.Size, step: Step
    ) -> Tensor | float:
        masks = super().given_masks(features, drawn, size, step)
        if isinstance(masks, float) or step.rng.random() >= self.config.adjust:
            return masks
        return adjusted(masks, drawn[self.config.adjust_with == "own"].share)

    def mask_loss(self, masks: Tensor, share: float) -> Tensor:
        return excess_less_variance(masks, share, self.config.mask_margin)
