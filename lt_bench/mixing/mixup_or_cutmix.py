"""Mixup or CutMix, by the toss of a coin: what recipes for ImageNet have done since."""

from __future__ import annotations

from pydantic import Field, FiniteFloat

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, permuted
from lt_bench.mixing.cutmix import cutmix_pair
from lt_bench.mixing.mixup import mixup_pair
from lt_bench.registry import Info


class MixupOrCutMix(Mix):
    """One coin and one share per batch, and every batch is mixed, in the one way or the other.

    The mixing of timm's training script with a probability of 1, with the settings of NEXcepTion (Shavit et al. 2023);
    there partners stand in the batch in opposite order, here in a random one.
    """

    name = "mixup-or-cutmix"
    info = Info("for each batch, mixup or CutMix by a coin", "Shavit et al. 2023", 2023)

    class Config(Mix.Config):
        """How often which, and how far."""

        mixup_alpha: FiniteFloat = Field(default=0.1, ge=0)
        """Both parameters of the Beta law of mixup's share. 0 is no mixing."""
        cutmix_alpha: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law of CutMix's share before clipping. 0 is no mixing."""
        probability: float = Field(default=0.5, ge=0, le=1)
        """Of CutMix."""

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        cut = step.rng.random() < self.config.probability
        pair, alpha = (cutmix_pair, self.config.cutmix_alpha) if cut else (mixup_pair, self.config.mixup_alpha)
        return pair(batch, partner or permuted(batch, step.rng), alpha, step.rng)
