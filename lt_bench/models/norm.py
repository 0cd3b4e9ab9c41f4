"""Batch normalisation, residual sum and ReLU: what stands behind the convolutions of a ResNet.

On a CPU the three are one hand-written pass over the activations (norm.cpp) instead of three or four: between two
convolutions the bytes cost more than the arithmetic. Elsewhere they are torch's own operations, which a compiler fuses.
Both compute the same; only rounding differs (the fused form rounds once where three operations round three times).
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from lt_bench.errors import UserError
from lt_bench.models.changes import Change
from lt_bench.native import load_native

LANES = 64
"""Floats that the kernels work on at once."""
TYPES = {torch.float32: "float", torch.bfloat16: "bf16"}
"""What the kernels call the types that they are made for."""


class BatchNormReLU(nn.BatchNorm2d):
    """relu(batch_norm(x) + residual) for x [B, C, H, W]; without a residual, relu(batch_norm(x)).

    Parameters, buffers and defaults are those of torch.nn.BatchNorm2d (Ioffe and Szegedy, ICML 2015).
    """

    fused: bool = False
    """Whether to use the kernels on the tensors that they can take; see `fuse`."""
    changes: tuple[Change, ...] = ()
    """What is done to batch_norm(x) before the sum. Where something is, the kernels cannot serve."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        changed = any(change.of(self) for change in self.changes)
        if self.fused and not changed and _fits(self, x, residual):
            return _fused(x, residual, self)
        y = super().forward(x)
        for change in self.changes:
            y = change(self, y)
        return torch.relu(y if residual is None else y + residual)


def fuse(network: nn.Module) -> None:
    """Let all BatchNormReLU of a network use the kernels. Raises NoCompilerError where there are none to be had."""
    kernels()
    for module in network.modules():
        if isinstance(module, BatchNormReLU):
            module.fused = True


@contextmanager
def single_values(*modules: nn.Module) -> Iterator[None]:
    """Let any batch normalisation in the modules that is given one value a channel use its running statistics.

    One value has no variance, and torch refuses to train on it. The statistics stay as they are.
    """
    switched: list[nn.Module] = []

    def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if layer.training and inputs[0].numel() == inputs[0].shape[1]:
            layer.training = False
            switched.append(layer)

    def after(layer: nn.Module, *_: Any) -> None:
        if layer in switched:
            layer.training = True
            switched.remove(layer)

    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, _BatchNorm)]
    hooks = [layer.register_forward_pre_hook(before) for layer in layers]
    hooks += [layer.register_forward_hook(after, always_call=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def check_statistics(*modules: nn.Module) -> None:
    """Raise UserError for a batch normalisation without running statistics.

    What it makes of a test image would depend on the others in the batch, and of one value a channel it makes nothing.
    """
    for module in modules:
        for name, layer in module.named_modules():
            if isinstance(layer, _BatchNorm) and layer.running_mean is None:
                raise UserError(
                    f"model.backbone: {name or type(layer).__name__} normalises without running statistics"
                    " (track_running_stats=False), so a prediction would depend on the other images of its batch"
                )


def _fits(layer: BatchNormReLU, x: Tensor, residual: Tensor | None) -> bool:
    """Whether the kernels can take this: float32 statistics, tensors of one type, channels last, in whole lanes."""
    tensors = [x] if residual is None else [x, residual]
    own = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
    return (
        x.dtype in TYPES
        and all(t.device.type == "cpu" and t.dtype == x.dtype and t.shape == x.shape for t in tensors)
        and all(t.is_contiguous(memory_format=torch.channels_last) for t in tensors)
        and all(t is not None and t.device.type == "cpu" and t.dtype == torch.float32 for t in own)
        and layer.momentum is not None  # a cumulative average
        and x.numel() % math.lcm(x.shape[1], LANES) == 0
        and x.numel() > x.shape[1]  # torch refuses one value a channel, which has no variance, in words
    )


def _fused(x: Tensor, residual: Tensor | None, layer: BatchNormReLU) -> Tensor:
    if layer.training:
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked.add_(1)
    inputs = x, residual, layer.weight, layer.bias
    wanted = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    # Where nobody wants a gradient nothing is kept for one, and the statistics are not copied.
    y: Tensor = _Fused.apply(*inputs, layer) if wanted else _forward(x, residual, layer)[0]
    return y


def _forward(x: Tensor, residual: Tensor | None, layer: BatchNormReLU) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The output, and in training mean and 1 / standard deviation [C] of the batch."""
    y, weights, running = torch.empty_like(x), (layer.weight, layer.bias), (layer.running_mean, layer.running_var)
    if not layer.training:
        _call("inference", x, residual, *weights, *running, layer.eps, y)
        return y, None, None
    mean, inv_std = torch.empty_like(layer.weight), torch.empty_like(layer.weight)
    _call("forward", x, residual, *weights, *running, layer.momentum, layer.eps, mean, inv_std, y)
    return y, mean, inv_std


class _Fused(torch.autograd.Function):
    """The kernels as an operation with a gradient. In evaluation mode the statistics are constants."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, layer: BatchNormReLU
    ) -> Tensor:
        y, mean, inv_std = _forward(x, residual, layer)
        if mean is None:
            assert layer.running_mean is not None and layer.running_var is not None
            # Copies: another batch may move them before the backward pass comes.
            mean, inv_std = layer.running_mean.clone(), (layer.running_var + layer.eps).rsqrt()
        ctx.training = layer.training
        ctx.save_for_backward(x, y, weight, mean, inv_std)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight, mean, inv_std = ctx.saved_tensors
        dy = gradients[0].contiguous(memory_format=torch.channels_last)
        dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        dresidual = torch.empty_like(x) if ctx.needs_input_grad[1] else None
        _call("backward", x, dy, y, weight, mean, inv_std, ctx.training, dx, dresidual, dweight, dbias)
        return dx, dresidual, dweight, dbias, None


def _call(name: str, x: Tensor, *arguments: Tensor | float | None) -> None:
    """Call the kernel `name` for the type of `x`; tensors go as pointers."""
    pixels, channels = x.numel() // x.shape[1], x.shape[1]
    kernel = getattr(kernels(), f"{name}_{TYPES[x.dtype]}")
    kernel(pixels, channels, x.data_ptr(), *(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))


@cache
def kernels() -> ctypes.CDLL:
    """The kernels of norm.cpp with the types of their arguments. Raises NoCompilerError where they cannot be had."""
    library = load_native(Path(__file__).with_suffix(".cpp"))
    size, pointer, number = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float
    arguments: dict[str, list[Any]] = {
        "forward": [*[pointer] * 6, number, number, *[pointer] * 3],
        "inference": [*[pointer] * 6, number, pointer],
        "backward": [*[pointer] * 6, ctypes.c_bool, *[pointer] * 4],
    }
    for name, types in arguments.items():
        for suffix in TYPES.values():
            kernel = getattr(library, f"{name}_{suffix}")
            kernel.argtypes, kernel.restype = [size, size, *types], None
    return library
