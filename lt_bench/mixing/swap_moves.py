"""Labels of a grid that cost little, by alpha-beta swaps, where any two labels say what a jump between them costs."""

from __future__ import annotations

import ctypes
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from lt_bench.native import NoCompilerError, load_native

WIDEST = 8
"""Cells in a row at the most: a swap weighs the 2^width choices of a row against one another."""


def swapped_labels(costs: np.ndarray, jumps: np.ndarray) -> np.ndarray:
    """The label of each cell, int64 [h, w]: label 0 at first, then swaps of every two until no round makes it cheaper.

    A label costs `costs` [h, w, L] in a cell, w being 8 at the most, and a pair of neighbours `jumps` [L, L], symmetric
    and 0 between equal labels. In a swap all cells that have one of two labels are given the two anew, as costs least.
    What cannot be made cheaper by swaps depends on their order, which is that of Boykov's gco: label 0 with L - 1 down
    to 1, then 1 with L - 1 down to 2, and so on. Paper: Boykov, Veksler and Zabih, PAMI 2001.
    """
    height, width, labels = costs.shape
    found = np.zeros((height, width), dtype=np.int64)
    costs, jumps = (np.ascontiguousarray(array, dtype=np.float64) for array in (costs, jumps))
    if width > WIDEST or jumps.shape != (labels, labels):
        raise ValueError(f"costs {costs.shape} of {WIDEST} cells a row at the most, jumps {jumps.shape}")
    if (native := _native()) is None:
        _swapped(found, costs, jumps)
    else:
        native(height, width, labels, costs.ctypes.data, jumps.ctypes.data, found.ctypes.data)
    return found


@cache
def _native() -> ctypes._NamedFuncPointer | None:
    """The compiled form, where there is a compiler: it is asked for once."""
    try:
        function = load_native(Path(__file__).with_suffix(".cpp")).swap_labels
    except NoCompilerError:
        return None
    function.argtypes, function.restype = [*[ctypes.c_int] * 3, *[ctypes.c_void_p] * 3], None
    return function


def total_cost(found: np.ndarray, costs: np.ndarray, jumps: np.ndarray) -> float:
    """What labels [h, w] cost together."""
    own = np.take_along_axis(costs, found[..., None], -1).sum()
    return float(own + jumps[found[1:], found[:-1]].sum() + jumps[found[:, 1:], found[:, :-1]].sum())


def _swapped(found: np.ndarray, costs: np.ndarray, jumps: np.ndarray) -> None:
    """The same in numpy, two hundred times slower."""
    before, now, labels = np.inf, total_cost(found, costs, jumps), len(jumps)
    while now < before:
        for one in range(labels):
            for other in range(labels - 1, one, -1):
                if np.isin(found, (one, other)).any():
                    found[:] = _best_of_two(found, costs, jumps, one, other)
        before, now = now, total_cost(found, costs, jumps)


def _best_of_two(found: np.ndarray, costs: np.ndarray, jumps: np.ndarray, one: int, other: int) -> np.ndarray:
    """The labels after one swap: of all that a row can be the cheapest way to each is kept, row by row."""
    width = found.shape[1]
    choices = np.array([*product((False, True), repeat=width)])[:, None]  # [2^w, 1, w]
    free = np.isin(found, (one, other))
    rows = np.where(free, np.where(choices, other, one), found)  # [2^w, h, w]
    own = np.take_along_axis(costs[None], rows[..., None], -1)[..., 0].sum(-1)
    own += jumps[rows[..., 1:], rows[..., :-1]].sum(-1)
    ways, least = [], own[:, 0]
    for row in range(1, len(found)):
        further = least[:, None] + jumps[rows[:, None, row - 1], rows[None, :, row]].sum(-1)
        ways.append(further.argmin(0))
        least = further.min(0) + own[:, row]
    chosen = [least.argmin()]
    for way in reversed(ways):
        chosen.append(way[chosen[-1]])
    best: np.ndarray = rows[chosen[::-1], np.arange(len(found))]
    return best
