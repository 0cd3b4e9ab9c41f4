"""Partners from a stream that favours rare classes, in front of any mix: the idea of CMO without its CutMix."""

from __future__ import annotations

from pydantic import Field, FiniteFloat

from lt_bench.data.samplers import draw_with_replacement, inverse_size_weights
from lt_bench.data.types import Epoch, IntArray
from lt_bench.mixing import Mix
from lt_bench.mixing.generators import GeneratorMix, InFront
from lt_bench.registry import Info


class MinorityPartners(InFront):
    """Another mix, whose partners are drawn with probability ~ n^-r an image, n the size of its class.

    CMO (Park et al., CVPR 2022) has this for CutMix, with a coin and epochs of its own. Those of another mix are kept.
    """

    name = "minority-partners"
    info = Info("partners of another mix from a minority-weighted stream", "after Park et al., CVPR 2022", 2022)
    refuses_partners = "it only chooses partners"

    class Config(Mix.Config):
        """The mix, and which classes its partners come from."""

        generator: GeneratorMix = Field(default={"name": "mixup"}, validate_default=True)
        """The mix, by its name or as a mapping with its settings."""
        exponent: FiniteFloat = Field(default=1.0, ge=0)
        """r: 0 draws images uniformly, 1 classes uniformly."""

    config: Config

    def partner_order(self, order: IntArray, labels: IntArray, epoch: Epoch) -> IntArray | None:
        self.generator.partner_order(order, labels, epoch)  # this is also how a mix learns that an epoch begins
        weights = inverse_size_weights(labels, self.config.exponent)
        return draw_with_replacement(weights, len(order), epoch.rng("minority partners"))
