"""SamplePairing: the mean of two images under the label of the first, in most epochs of the middle of a training."""

from __future__ import annotations

from pydantic import Field, model_validator

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, permuted
from lt_bench.registry import Info


class SamplePairing(Mix):
    """x = (x_i + x_j) / 2 with the label y_i alone, in `on` epochs of every `on` + `off` between `start` and `end`.

    What goes before and what comes after, the fine-tuning, is without pairs. A public implementation has the epochs 100
    to 800, eight on and two off, and does not say of how many; they are taken here as shares of 1000, so that shorter
    trainings have all three parts too. Paper: Inoue, arXiv 1801.02929, 2018.
    """

    name = "sample-pairing"
    info = Info("the mean of two images under one label, on and off", "Inoue, arXiv 2018", 2018)
    refuses_partners = "it trains on no label of a partner"
    of_two_labels = False
    acts = "pair images"
    timing = "from {start} until {end} of the epochs"

    class Config(Mix.Config):
        """When there are pairs."""

        start: float = Field(default=0.1, ge=0, lt=1)
        """Share of the epochs before the first with pairs."""
        end: float = Field(default=0.8, gt=0, le=1)
        """Share of the epochs from which on there are none."""
        on: int = Field(default=8, ge=1)
        """Epochs with pairs in a row."""
        off: int = Field(default=2, ge=0)
        """Epochs without that follow them."""

        @model_validator(mode="after")
        def _in_order(self) -> SamplePairing.Config:
            if self.start >= self.end:
                raise ValueError(f"start {self.start} does not come before end {self.end}")
            return self

    config: Config

    @classmethod
    def active_epochs(cls, config: Config, epochs: range, total: int) -> range:
        """From the first with pairs to the last, with those between them that have none."""
        paired = [epoch for epoch in epochs if cls.pairs(config, epoch, total)]
        return range(paired[0], paired[-1] + 1) if paired else range(0)

    @classmethod
    def turns(cls, config: Config, epochs: range, total: int) -> set[int]:
        paired = {epoch for epoch in epochs if cls.pairs(config, epoch, total)}
        return paired ^ {epoch + 1 for epoch in paired}

    @classmethod
    def pairs(cls, config: Config, epoch: int, total: int) -> bool:
        """Whether images are paired in an epoch."""
        start, end = round(config.start * total), round(config.end * total)
        return start <= epoch < end and (epoch - start) % (config.on + config.off) < config.on

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        if not self.pairs(self.config, step.epoch.index, step.epoch.total):
            return Mixed.plain(batch)
        other = partner or permuted(batch, step.rng)
        return Mixed((batch.images + other.images) / 2, ((batch.labels, 1.0),))
