"""The labelling of a grid that costs least, where jumps between neighbours cost the square of their height."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

LARGEST = 2**30
"""Capacity of what must not be cut. All others together have as much: scipy's flows are int32."""
AT_ONCE = 8
"""Pictures in one graph: of fewer the overhead is more, and a larger one takes longer than its parts."""


class Edges(NamedTuple):
    """Directed edges of a flow network, each [E]."""

    source: np.ndarray
    target: np.ndarray
    capacity: np.ndarray


def smoothest_levels(costs: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The levels 0, 1 or 2 of cells, int64 [B, h, w], whose total cost is least; the lowest of equals.

    A level costs `costs` [3, B, h, w] in a cell; a jump from l to l' costs (l - l')^2 / 4 times `down` [B, h - 1, w]
    or `right` [B, h, w - 1], none of them negative.
    """
    parts = (slice(start, start + AT_ONCE) for start in range(0, costs.shape[1], AT_ONCE))
    return np.concatenate([_levels(costs[:, part], down[part], right[part]) for part in parts])


def _levels(costs: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The same of a few pictures, as one graph.

    As costs of jumps are convex in l - l', the minimum is a cut of a graph with two nodes a cell, "at least 1" and "2"
    (Ishikawa, PAMI 2003), and global. Costs are rounded to a billionth of what all cells and jumps cost together.
    """
    from scipy.sparse import coo_array  # noqa: PLC0415 (slow to import)
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow  # noqa: PLC0415

    size = costs[0].size
    steps = np.stack([costs[1] - costs[0], costs[2] - costs[1]])  # of either node: what it costs to be on
    cells = np.arange(size).reshape(costs.shape[1:])
    pairs = [(cells[:, :-1], cells[:, 1:], down / 4), (cells[:, :, :-1], cells[:, :, 1:], right / 4)]
    for upper, lower, weight in pairs:
        for part in (upper, lower):
            # (l - l')^2 is the number of pairs of nodes that differ, and l^2 - 2 l of either cell: -1 at level 1.
            np.add.at(steps[0].reshape(-1), part.ravel(), -weight.ravel())
            np.add.at(steps[1].reshape(-1), part.ravel(), weight.ravel())
    edges = _edges(steps.reshape(2, -1), pairs)
    scale = LARGEST / max(edges.capacity.sum(), 1e-300)
    below = Edges(np.arange(size) + size, np.arange(size), np.full(size, LARGEST))  # 2 is at least 1
    whole = np.concatenate([(edges.capacity * scale).round(), below.capacity]).astype(np.int32)
    ends = np.concatenate([edges.source, below.source]), np.concatenate([edges.target, below.target])
    graph = coo_array((whole, ends), shape=(2 * size + 2,) * 2).tocsr()
    left = graph - maximum_flow(graph, 2 * size, 2 * size + 1).flow
    left.eliminate_zeros()
    reached = np.zeros(2 * size + 2, dtype=np.int64)
    reached[breadth_first_order(left, 2 * size, return_predecessors=False)] = 1
    levels: np.ndarray = reached[: 2 * size].reshape(2, *cells.shape).sum(0)
    return levels


def _edges(steps: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Edges:
    """From the source (2 N) to what is worth being on, from what is not to the sink, and between neighbours."""
    size = steps.shape[1]
    nodes, worth = np.arange(2 * size), steps.ravel() < 0
    source, sink = np.full(2 * size, 2 * size), np.full(2 * size, 2 * size + 1)
    found = [Edges(np.where(worth, source, nodes), np.where(worth, nodes, sink), abs(steps.ravel()))]
    for one, other, weight in pairs:
        for first, second in product((0, size), repeat=2):
            ends = one.ravel() + first, other.ravel() + second
            found += [Edges(*ends, weight.ravel()), Edges(*ends[::-1], weight.ravel())]
    return Edges(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
