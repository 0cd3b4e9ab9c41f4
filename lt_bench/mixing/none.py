"""No mixing: the batch as it comes."""

from __future__ import annotations

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed
from lt_bench.registry import Info


class NoMix(Mix):
    """Leaves the batch as it is."""

    name = "none"
    info = Info("no mixing")
    refuses_partners = "it mixes nothing"

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        return Mixed.plain(batch)
