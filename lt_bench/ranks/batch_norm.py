"""Batch normalisation over the rows of all processes.

torch's own needs a GPU, and layers of its class; this serves any layer, on any device, wherever a network calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from lt_bench import ranks


class SynchronisedBatchNorm(TorchFunctionMode):
    """Within, batch normalisation in training takes mean and variance of all processes' rows, however many each has.

    So do the gradients through them (Ioffe and Szegedy, ICML 2015, over the whole batch). All processes have to
    call the same layers in the same order.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return (_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As `torch.nn.functional.batch_norm`, for x [B, C, ...]."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    running = running_mean, running_var
    if input.is_cuda:
        from torch.nn.modules._functions import SyncBatchNorm  # noqa: PLC0415 (its kernels are for GPUs)

        group = dist.group.WORLD
        fused: Tensor = SyncBatchNorm.apply(input, weight, bias, *running, eps, momentum, group, ranks.count())
        return fused
    y: Tensor = _Synchronised.apply(input, weight, bias, *running, momentum, eps)
    return y


class _Synchronised(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        mean, variance, total = _statistics(x)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((variance * (total / (total - 1))).to(running_var), momentum)
        scale = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, weight, mean, scale, total)
        y = (x - _as(mean, x)) * _as(scale, x)
        y = y if weight is None else y * _as(weight, x)
        return (y if bias is None else y + _as(bias, x)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, total = ctx.saved_tensors
        dy, normalised = gradients[0].to(mean.dtype), (x - _as(mean, x)) * _as(scale, x)
        over = [0, *range(2, x.ndim)]
        dweight, dbias = (dy * normalised).sum(over), dy.sum(over)
        whole = torch.cat([dweight, dbias])
        with ranks.together():
            dist.all_reduce(whole)
        along, constant = whole.div(total).chunk(2)
        factor = scale if weight is None else scale * weight
        dx = (dy - _as(constant, x) - normalised * _as(along, x)) * _as(factor, x)
        learned = (None, None) if weight is None else (dweight.to(weight), dbias.to(weight))
        return dx.to(x.dtype), *learned, None, None, None, None


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance [C] of x [B, C, ...] over all processes, and the values of a channel [1].

    They are float32 at least, which makes all that is computed with them so.
    """
    values = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(values, [0, *range(2, x.ndim)], correction=0)
    own = torch.cat([mean, variance, mean.new_tensor([x.numel() // x.shape[1]])])
    found = [torch.empty_like(own) for _ in range(ranks.count())]
    with ranks.together():
        dist.all_gather(found, own)
    means, variances, counts = torch.split(torch.stack(found), [len(mean), len(mean), 1], 1)
    total = counts.sum(0)
    mean = (means * counts).sum(0) / total
    # Each process's variance is about its own mean.
    return mean, ((variances + (means - mean).square()) * counts).sum(0) / total, total


def _as(values: Tensor, x: Tensor) -> Tensor:
    """Values [C] as they act on x [B, C, ...]."""
    return values.view(-1, *[1] * (x.ndim - 2))
