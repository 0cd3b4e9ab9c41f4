"""What a table of pretrained networks says beside accuracy: how much of a network learned, and what that cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lt_bench.leaderboard.aggregate import Row
    from lt_bench.leaderboard.evidence import Evidence

ABOUT = (
    "Learned: parameters that learned, the classifier's among them, in millions, and their share of all. Memory is the "
    "most that a run took, and images/s what it trained on, both on the machine that its record names, of the newest "
    "run of a row; nothing is said where nothing is trained."
)
"""What a page with such a table says of its columns."""


def columns() -> dict[str, Callable[[Row], str]]:
    """Title and cell of each column that only these tables have."""
    return {"Learned": _of(_learned), "Memory": _of(_memory), "Images/s": _of(_speed)}


def _of(cell: Callable[[Evidence], str]) -> Callable[[Row], str]:
    return lambda row: cell(row.newest.evidence)


def _learned(told: Evidence) -> str:
    if told.parameters is None:
        return ""
    learned, every = told.parameters
    return f"{learned / 1e6:.2f} M ({100 * learned / every:.2f} %)"


def _memory(told: Evidence) -> str:
    return "" if told.peak_memory_mb is None else f"{told.peak_memory_mb / 1024:.1f} GiB"


def _speed(told: Evidence) -> str:
    return f"{told.images_per_s:.0f}" if told.images_per_s else ""
