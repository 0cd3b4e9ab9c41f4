"""The gradient of a loss in the pixels, which some mixes take for saliency, and the loss once it has been gone back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lt_bench.data.types import Batch
from lt_bench.mixing import Objective


def gradient_length(objective: Objective, batch: Batch) -> Tensor:
    """The root mean square over the channels of the loss's gradient in every pixel, [B, H, W]."""
    images = batch.images.detach().requires_grad_()
    loss = objective.loss(objective.answer(images), ((batch.labels, 1.0),))
    (gradient,) = torch.autograd.grad(loss, images)
    return length(gradient)


def length(gradient: Tensor) -> Tensor:
    """The root mean square over the channels of a gradient [B, 3, H, W] in every pixel, [B, H, W]."""
    return gradient.float().square().mean(1).sqrt()


def gone_back(loss: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """A loss whose gradients are known, and the one in the images [B, 3, H, W], by one way back.

    What autograd has kept for it is free, and whoever goes back from the result gives the parameters their gradients.
    """
    parameters = [leaf for leaf in leaves(loss) if leaf is not images]
    gradient, *others = torch.autograd.grad(loss, [images, *parameters])
    known: Tensor = _Known.apply(loss.detach(), others, *parameters)
    return known, gradient


def leaves(result: Tensor) -> list[Tensor]:
    """The tensors that a result has a gradient in: parameters, and what else was made to require one."""
    nodes, seen, found = [result.grad_fn], set(), []
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            found.append(leaf)
        nodes += [before for before, _ in node.next_functions]
    return found


class _Known(torch.autograd.Function):
    """A number with gradients in parameters that are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outgoing: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(outgoing[0] * gradient for gradient in ctx.gradients)
