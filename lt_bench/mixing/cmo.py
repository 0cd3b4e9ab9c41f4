"""Context-rich minority oversampling: rare foregrounds pasted into the backgrounds of the natural stream."""

from __future__ import annotations

from pydantic import Field, FiniteFloat

from lt_bench.data.samplers import draw_with_replacement, inverse_size_weights
from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.mixing import Mix, Mixed
from lt_bench.mixing.cutmix import cutmix_pair
from lt_bench.registry import Info, between


class CMO(Mix):
    """CutMix whose patches come from a second stream that favours rare classes; goes with any loss.

    The exponent acts on images, as in the authors' code: a class is drawn with probability ~ n^(1 - r).
    """

    name = "cmo"
    info = Info("CutMix with patches from a minority-weighted stream", "Park et al., CVPR 2022", 2022)

    class Config(Mix.Config):
        """How often and when patches are pasted, and from which classes they come."""

        probability: float = Field(default=0.5, ge=0, le=1)
        """Of mixing a batch in an active epoch."""
        beta: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law of the background's share before clipping."""
        exponent: FiniteFloat = Field(default=1.0, ge=0)
        """r of the foreground weights n^-r: 0 draws images uniformly, 1 classes uniformly."""
        start_epoch: int = Field(default=3, ge=-1)
        """Epochs 0..start_epoch do not mix; -1 starts at once."""
        stop_before_end: int = Field(default=3, ge=0)
        """The last epochs, this many, do not mix."""

    config: Config
    timing = "start_epoch {start_epoch}, stop_before_end {stop_before_end}"

    @classmethod
    def active_epochs(cls, config: Config, epochs: range, total: int) -> range:
        return between(epochs, config.start_epoch + 1, total - config.stop_before_end)

    def active(self, epoch: Epoch) -> bool:
        """Whether this epoch mixes."""
        return epoch.index in self.active_epochs(self.config, range(epoch.total), epoch.total)

    def partner_order(self, order: IntArray, labels: IntArray, epoch: Epoch) -> IntArray | None:
        if not self.active(epoch):
            return None
        weights = inverse_size_weights(labels, self.config.exponent)
        return draw_with_replacement(weights, len(order), epoch.rng("cmo foreground"))

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        if not self.active(step.epoch) or step.rng.random() >= self.config.probability:
            return Mixed.plain(batch)
        assert partner is not None, "an active epoch of CMO has a foreground stream"
        return cutmix_pair(batch, partner, self.config.beta, step.rng)
