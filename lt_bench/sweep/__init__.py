"""Many runs: recipes x seeds, within a budget of time, on this machine or on others.

`plan` makes the list of runs and says what becomes of them. What makes them is an engine: `local` in this process or in
a few of this machine, `on_slurm` and `on_ray` as jobs of a cluster. `packed` is a run on its way to another process, in
`elsewhere` to one that may not see this machine's files. The names below are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lt_bench.lazy import lazily

if TYPE_CHECKING:
    from lt_bench.sweep.engines import Engine, engine_named, spread
    from lt_bench.sweep.local import Local
    from lt_bench.sweep.packed import Packed, reason
    from lt_bench.sweep.plan import Sweep, parse_budget

__all__ = ["Engine", "Local", "Packed", "Sweep", "engine_named", "parse_budget", "reason", "spread"]

__getattr__ = lazily(
    __name__,
    {
        "Engine": "engines",
        "engine_named": "engines",
        "spread": "engines",
        "Local": "local",
        "Packed": "packed",
        "reason": "packed",
        "Sweep": "plan",
        "parse_budget": "plan",
    },
)
