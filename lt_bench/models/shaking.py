"""Random factors of another value in the backward pass than in the forward pass: ShakeDrop and Shake-Shake."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
        ctx.save_for_backward(backward)
        return x * forward

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (backward,) = ctx.saved_tensors
        return gradients[0] * backward, None, None


class _Mixed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
        ctx.save_for_backward(backward)
        return torch.lerp(second, first, forward)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (backward,) = ctx.saved_tensors
        of_first = gradients[0] * backward
        return of_first, gradients[0] - of_first, None, None


def scaled(x: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
    """Give forward * x for x [B, ...], with the gradient of backward * x; factors of any shape that fits."""
    y: Tensor = _Scaled.apply(x, forward.to(x.dtype), backward.to(x.dtype))
    return y


def mixed(first: Tensor, second: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
    """Give a * first + (1 - a) * second for a = forward, with the gradients of a = backward."""
    y: Tensor = _Mixed.apply(first, second, forward.to(first.dtype), backward.to(first.dtype))
    return y


def uniform(x: Tensor, per: str) -> Tensor:
    """A number from U(0, 1), float32, for all of x [B, ...] or, per `image`, for each image."""
    size = len(x) if per == "image" else 1
    return torch.rand(size, *[1] * (x.ndim - 1), device=x.device)
