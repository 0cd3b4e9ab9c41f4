"""The gradients of a step, summed over the processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby

import torch
import torch.distributed as dist
from torch import Tensor

from lt_bench import ranks

BUCKET = 2**23
"""Numbers that travel at once: 32 MiB of them."""


def sum_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Give all that the optimizer moves the sum of the processes' gradients, once those of a step are there.

    What has none on a process counts as zero there; what has none on any has none after, and the optimizer leaves it
    as it is, weight decay and all.
    """
    if ranks.count() == 1:
        return
    learned = [one for group in optimizer.param_groups for one in group["params"]]
    without = [index for index, one in enumerate(learned) if one.grad is None]
    having = torch.tensor([float(one.grad is not None) for one in learned], device=learned[0].device)
    for index in without:
        learned[index].grad = torch.zeros_like(learned[index])
    with ranks.together():
        dist.all_reduce(having)
        for bucket in _buckets([one.grad for one in learned]):
            _sum(bucket)
    found = having.tolist() if without else []
    for index in without:
        if not found[index]:
            learned[index].grad = None


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one type behind one another until there are enough to travel."""
    for dtype in dict.fromkeys(one.dtype for one in gradients):
        alike = [one for one in gradients if one.dtype == dtype]
        ends = accumulate(one.numel() for one in alike)
        for _, bucket in groupby(zip(ends, alike, strict=True), key=lambda pair: pair[0] // BUCKET):
            yield [one for _, one in bucket]


def _sum(bucket: Sequence[Tensor]) -> None:
    whole = torch.cat([one.flatten() for one in bucket])
    dist.all_reduce(whole)
    for one, part in zip(bucket, torch.split(whole, [one.numel() for one in bucket]), strict=True):
        one.copy_(part.view_as(one))


@torch.no_grad()
def as_first(*modules: torch.nn.Module) -> None:
    """Bring buffers and parameters to what they are in the first process.

    What every process finds by itself from all images may differ in its last digits, on which a choice can depend.
    """
    if ranks.count() == 1:
        return
    tensors = [one for module in modules for one in module.state_dict().values() if isinstance(one, Tensor)]
    with ranks.together():
        for tensor in tensors:
            bytes_ = tensor.flatten().contiguous().view(torch.uint8)  # not every type travels
            dist.broadcast(bytes_, src=0)
            tensor.copy_(bytes_.view(tensor.dtype).view_as(tensor))
