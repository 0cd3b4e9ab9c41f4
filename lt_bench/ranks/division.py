"""What each process has of a batch, and what takes all of it although each has only its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lt_bench import ranks
from lt_bench.data.types import Batch, IntArray, Views, cut
from lt_bench.ranks.batch_norm import SynchronisedBatchNorm


@dataclass(frozen=True)
class Division:
    """How `total` rows of a batch are shared out: one process after the other, the first ones having one row more.

    Fewer rows than processes are not divided: all processes have all of them.
    """

    total: int
    rank: int = 0
    count: int = 1

    @property
    def divided(self) -> bool:
        """Whether this process has a part only."""
        return 1 < self.count <= self.total

    @property
    def sizes(self) -> list[int]:
        """Rows of each process."""
        if not self.divided:
            return [self.total] * self.count
        return [self.total // self.count + (rank < self.total % self.count) for rank in range(self.count)]

    @property
    def rows(self) -> slice:
        """Those of this process."""
        start = sum(self.sizes[: self.rank]) if self.divided else 0
        return slice(start, start + self.sizes[self.rank])

    @property
    def share(self) -> float:
        """What the mean over this process's rows counts for in the mean over the batch."""
        return self.sizes[self.rank] / sum(self.sizes)


_current: Division | None = None
"""Of the batch that is trained on, where this process has a part of it only."""


def divisions(images: int, batch_size: int) -> list[Division]:
    """Of all batches of an epoch."""
    return [Division(part.stop - part.start, ranks.rank(), ranks.count()) for part in cut(images, batch_size)]


def places(divided: Sequence[Division]) -> list[slice] | None:
    """Of an epoch's order, the places that are this process's in each batch; None: all."""
    if ranks.count() == 1:
        return None
    starts = np.cumsum([0, *(division.total for division in divided)]).tolist()
    rows = [division.rows for division in divided]
    return [slice(start + part.start, start + part.stop) for start, part in zip(starts, rows, strict=False)]


def weighted(shares: Tensor, divided: Sequence[Division]) -> Tensor:
    """Numbers [steps] times what this process's rows count for in each batch."""
    if ranks.count() == 1:
        return shares
    return shares * shares.new_tensor([division.share for division in divided])


@contextmanager
def shared(division: Division) -> Iterator[None]:
    """A step on a batch of which this process may have a part only: batch normalisation then takes all of it."""
    global _current  # noqa: PLW0603 (as torch's group of processes, which there is one of)
    if not division.divided:
        yield
        return
    _current = division
    try:
        with SynchronisedBatchNorm():
            yield
    finally:
        _current = None


# --- draws ----------------------------------------------------------------------------------------------


def for_images(size: int, draw: Callable[[int], np.ndarray]) -> np.ndarray:
    """What `draw(n)` gives for n images, of which this process has `size`, a batch or a multiple or part of it.

    All processes draw for the whole batch, one without an image too, and so stay at the same place of their source of
    randomness.
    """
    if _current is None:
        return draw(size)
    own = _current.sizes[_current.rank]
    times = max(1, -(-size // own))
    drawn = draw(times * _current.total)
    parts = drawn.reshape(times, _current.total, *drawn.shape[1:])[:, _current.rows]
    return parts.reshape(times * own, *drawn.shape[1:])[:size]


def order_of(size: int, rng: np.random.Generator) -> IntArray:
    """A random order of `size` images of this process among themselves."""
    drawn: IntArray = for_images(size, rng.permutation)
    return drawn if _current is None else drawn.argsort().argsort()


def permuted(batch: Batch, rng: np.random.Generator) -> Batch:
    """A batch in a random order, fixed points allowed; of a batch that is shared, the whole."""
    if (division := _division_of(batch)) is not None:
        return _fetched(batch, rng.permutation(division.total), division)
    order = torch.from_numpy(order_of(len(batch.labels), rng))
    return batch[order.to(batch.labels.device, non_blocking=True)]


def backwards(batch: Batch) -> Batch:
    """A batch from its last image to its first; of a batch that is shared, the whole."""
    if (division := _division_of(batch)) is not None:
        return _fetched(batch, np.arange(division.total)[::-1], division)
    return batch[torch.arange(len(batch.labels) - 1, -1, -1, device=batch.labels.device)]


def _division_of(batch: Batch) -> Division | None:
    """The division of the batch that is trained on, where this is all that this process has of it."""
    return _current if _current is not None and len(batch.labels) == _current.sizes[_current.rank] else None


def _fetched(batch: Batch, order: IntArray, division: Division) -> Batch:
    """What this process has of the whole batch in another order, from the processes that have them."""
    views = batch.views
    columns = [batch.images, batch.labels, *([] if views is None else [views.positions, views.boxes, views.mirrored])]
    images, labels, *rest = _unpacked(_exchanged(_packed(columns), order, division), columns)
    return Batch(images, labels, Views(*rest) if rest else None)


def _packed(columns: Sequence[Tensor]) -> Tensor:
    """Tensors [B, ...] as the bytes of their rows, uint8 [B, bytes]."""
    return torch.cat([one.flatten().view(torch.uint8).view(len(one), -1) for one in columns], 1)


def _unpacked(packed: Tensor, columns: Sequence[Tensor]) -> list[Tensor]:
    """The reverse, for tensors that are like `columns`."""
    widths = [one[:1].nbytes for one in columns]
    parts = zip(torch.split(packed, widths, 1), columns, strict=True)
    # Copies, for a part of the bytes need not begin where a number of its type may.
    return [part.flatten().clone().view(one.dtype).view(-1, *one.shape[1:]) for part, one in parts]


def _exchanged(rows: Tensor, order: IntArray, division: Division) -> Tensor:
    """The rows [B, ...] of the whole batch at this process's places of `order`."""
    bounds = np.cumsum(division.sizes)
    owners = np.searchsorted(bounds, order, side="right")
    asked = np.split(np.arange(division.total), bounds[:-1])
    mine = [order[at][owners[at] == division.rank] - division.rows.start for at in asked]
    own = owners[division.rows]
    found = rows.new_empty(len(own), *rows.shape[1:])
    sent = rows[torch.from_numpy(np.concatenate(mine)).to(rows.device)]
    received = np.bincount(own, minlength=division.count).tolist()
    with ranks.together():
        dist.all_to_all_single(found, sent, received, [len(one) for one in mine])
    # They come process by process, and from each in the order of their places.
    places = torch.from_numpy(own.argsort(kind="stable").argsort()).to(rows.device)
    return found[places]


# --- sums -----------------------------------------------------------------------------------------------


def over_batch(total: Tensor) -> Tensor:
    """What a mean over the batch divides by, of its sum over this process's rows: no gradient passes through it.

    The sum over all rows, in the part that this process's mean counts for: so the processes' means add up to the whole.
    """
    if _current is None:
        return total
    return summed(total.detach()) * _current.share


def summed(part: Tensor) -> Tensor:
    """The sum of a tensor over the processes."""
    if ranks.count() == 1:
        return part
    whole = part.clone()
    with ranks.together():
        dist.all_reduce(whole)
    return whole


def largest(number: int, device: torch.device) -> int:
    """The largest of what the processes find in their rows of the batch."""
    if _current is None:
        return number
    found = torch.tensor(number, device=device)
    with ranks.together():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


# --- evaluation -----------------------------------------------------------------------------------------


def own_batches(images: int, batch_size: int) -> list[slice] | None:
    """Which batches of images that are only looked at are this process's, whole ones in a row; None: all."""
    if ranks.count() == 1:
        return None
    batches = cut(images, batch_size)
    first, last = (len(batches) * rank // ranks.count() for rank in (ranks.rank(), ranks.rank() + 1))
    return batches[first:last]


def gathered(columns: Sequence[Tensor]) -> list[np.ndarray]:
    """Tensors [own, ...] of all processes behind one another, on the host; each may have none of them."""
    own = [column.cpu().numpy() for column in columns]
    if ranks.count() == 1:
        return own
    found: list[list[np.ndarray]] = [[] for _ in range(ranks.count())]
    with ranks.together():
        dist.all_gather_object(found, own)
    return [np.concatenate(parts) for parts in zip(*filter(None, found), strict=True)]
