"""Label-occurrence-balanced mixup: both images of a pair come from class-balanced streams.

Only the abstract and the beginning of the introduction could be read, and no code was found. The two
independent streams are the paper's; alpha, one share per batch and the first epoch are this project's choices.
"""

from __future__ import annotations

from pydantic import Field, FiniteFloat

from lt_bench.data.samplers import draw_with_replacement, inverse_size_weights
from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.mixing import Mix, Mixed, permuted
from lt_bench.mixing.mixup import mixup_pair
from lt_bench.registry import Info, between


class LabelOccurrenceBalancedMixup(Mix):
    """Mixup (Zhang et al., ICLR 2018) with a class-balanced second stream, drawn independently of the main one.

    The main stream belongs to the sampler: only with `sampler: class-balanced` does every class have the same
    expected share 1 / C of the mixed labels, which is the idea.
    """

    name = "label-occurrence-balanced-mixup"
    info = Info(
        "mixup of two class-balanced streams; alpha and schedule are this project's choice",
        "Zhang et al., ICASSP 2022",
        2022,
    )
    refuses_partners = "with partners other than its own it is mixup"

    class Config(Mix.Config):
        """What could not be read in the paper: its values here are this project's."""

        alpha: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law of the one share per batch. 0 is no mixing."""
        start_epoch: int = Field(default=0, ge=0)
        """Epochs before it mix the main stream with itself, as mixup does. To defer the method, let a phase
        change the sampler at the same epoch."""

    config: Config
    timing = "start_epoch {start_epoch}"

    @classmethod
    def active_epochs(cls, config: Config, epochs: range, total: int) -> range:
        return between(epochs, config.start_epoch, total)

    def partner_order(self, order: IntArray, labels: IntArray, epoch: Epoch) -> IntArray | None:
        if epoch.index not in self.active_epochs(self.config, range(epoch.total), epoch.total):
            return None
        weights = inverse_size_weights(labels, 1.0)
        return draw_with_replacement(weights, len(order), epoch.rng("label-occurrence-balanced partners"))

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        return mixup_pair(batch, partner or permuted(batch, step.rng), self.config.alpha, step.rng)
