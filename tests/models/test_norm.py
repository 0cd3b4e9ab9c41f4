"""The fused batch normalisation, residual sum and ReLU against torch's own, in float64 where that tells more."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lt_bench.errors import UserError
from lt_bench.models import norm
from lt_bench.models.backbones.cifar_resnet import ResNet8
from lt_bench.models.heads.linear import Linear
from lt_bench.models.norm import BatchNormReLU, fuse
from lt_bench.native import NoCompilerError

try:
    norm.kernels()
    MISSING = ""
except NoCompilerError as error:
    MISSING = str(error)

needs_kernels = pytest.mark.skipif(bool(MISSING), reason=f"the kernels cannot be compiled here: {MISSING}")
SHAPES = [
    *((8, 16, 32, 32), (6, 32, 16, 16), (5, 64, 8, 8), (3, 128, 3, 3)),
    *((4, 24, 4, 4), (2, 48, 8, 6), (2, 8, 4, 4), (2, 64, 3, 1)),
    *((5, 160, 8, 8), (9, 320, 4, 4), (3, 640, 4, 4), (2, 2048, 2, 1)),
]
BOUND = {torch.float32: 1e-6, torch.bfloat16: 4e-3}
"""Relative error allowed in the Euclidean norm: bfloat16 has 8 bits, and what it stores is rounded once."""


def random(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.to(dtype).to(memory_format=torch.channels_last)


def layer_of(channels: int) -> BatchNormReLU:
    layer, draw = BatchNormReLU(channels), torch.Generator().manual_seed(1)
    with torch.no_grad():
        layer.weight.uniform_(-1.5, 1.5, generator=draw)
        layer.bias.uniform_(-1, 1, generator=draw)
    return layer


def results(layer: BatchNormReLU, x: Tensor, residual: Tensor | None, dy: Tensor) -> dict[str, Tensor]:
    """Output, all gradients, running statistics, and the output in evaluation mode afterwards."""
    x = x.clone().requires_grad_()
    residual = None if residual is None else residual.clone().requires_grad_()
    y = layer(x, residual)
    y.backward(dy)
    found: dict[str, Any] = {"y": y, "dx": x.grad, "dweight": layer.weight.grad, "dbias": layer.bias.grad}
    found |= {"mean": layer.running_mean, "var": layer.running_var}
    found |= {} if residual is None else {"dresidual": residual.grad}
    layer.eval()
    with torch.no_grad():
        found["inference"] = layer(x, residual)
    return {name: tensor.detach() for name, tensor in found.items()}


@needs_kernels
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", BOUND, ids=str)
def test_agrees_with_torch_in_float64(dtype: torch.dtype, shape: tuple[int, ...], with_residual: bool) -> None:
    x, dy = random(shape, dtype, 2) + 0.5, random(shape, dtype, 3)
    residual = random(shape, dtype, 4) if with_residual else None
    plain, fused = layer_of(shape[1]), layer_of(shape[1])
    fuse(fused)
    wide = None if residual is None else residual.double()
    expected = results(plain.double(), x.double(), wide, dy.double())
    found = results(fused, x, residual, dy)
    assert int(fused.num_batches_tracked) == 1
    for name, tensor in found.items():
        error = (tensor.double() - expected[name]).norm() / expected[name].norm()
        assert error < BOUND[dtype], name


SWITCHES = {"gradients": nullcontext, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


@needs_kernels
@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("asking", ["input", "residual", "parameters", "input and parameters", "all", "none"])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", BOUND, ids=str)
def test_gradients_reach_what_asks_for_them_in_every_mode(
    dtype: torch.dtype, training: bool, with_residual: bool, asking: str, switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called, call = [], norm._call
    monkeypatch.setattr(norm, "_call", lambda name, *rest: (called.append(name), call(name, *rest)))
    plain, fused = layer_of(32).double().train(training), layer_of(32).train(training)
    fuse(fused)
    sides = []
    for layer, kind in ((fused, dtype), (plain, torch.float64)):
        x, residual, dy = ((random((4, 32, 6, 4), dtype, seed) + 0.25).to(kind) for seed in (2, 3, 4))
        x.requires_grad_("input" in asking or asking == "all")
        residual.requires_grad_(asking in ("residual", "all"))
        layer.requires_grad_("parameters" in asking or asking == "all")
        with SWITCHES[switch]():
            y = layer(x, residual if with_residual else None)
        if y.requires_grad:
            y.backward(dy)
        gradients = x.grad, residual.grad, layer.weight.grad, layer.bias.grad
        sides.append([y, layer.running_mean, layer.running_var, *gradients])
    assert sides[0][0].requires_grad == sides[1][0].requires_grad
    forward = "forward" if training else "inference"
    assert called == ([forward, "backward"] if sides[1][0].requires_grad else [forward])
    for found, expected in zip(*sides, strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            assert (found.double() - expected).norm() <= BOUND[dtype] * expected.norm()


@needs_kernels
def test_a_gradient_in_evaluation_mode_is_that_of_its_own_statistics() -> None:
    gradients = []
    for moved in (False, True):
        x, layer = random((4, 16, 4, 4), torch.float32, 0).requires_grad_(), layer_of(16).eval()
        fuse(layer)
        y = layer(x)
        if moved:
            layer.train()(3 * x.detach() + 1)
        y.sum().backward()
        gradients.append([x.grad, layer.weight.grad])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@needs_kernels
@pytest.mark.parametrize("training", [False, True])
def test_a_second_derivative_is_refused(training: bool) -> None:
    x, layer = random((4, 16, 4, 4), torch.float32, 0).requires_grad_(), layer_of(16).train(training)
    fuse(layer)
    (dx,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


@needs_kernels
def test_an_attack_differentiates_through_a_network_in_evaluation_mode() -> None:
    from lt_bench.models import build_network
    from lt_bench.training.runtime import choose_runtime

    images, labels = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    gradients = []
    for compile in ("off", "on"):
        net = choose_runtime("cpu", "float32", compile).prepare(build_network(ResNet8, Linear(), 10, 0))
        with torch.no_grad():
            net(images)
        x = images.clone().requires_grad_()
        nn.functional.cross_entropy(net.eval()(x), labels).backward()
        found = [x.grad, *(p.grad for p in net.parameters())]
        assert all(gradient is not None for gradient in found)
        gradients.append(torch.cat([gradient.flatten() for gradient in found if gradient is not None]))
    plain, with_kernels = gradients
    assert (with_kernels - plain).norm() < 1e-4 * plain.norm()


@needs_kernels
def test_a_large_mean_does_not_cancel_the_variance() -> None:
    x = random((16, 16, 8, 8), torch.float32, 0) + 1000
    layer = layer_of(16)
    fuse(layer)
    layer(x)
    expected = 0.9 + 0.1 * x.double().transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(layer.running_var.double(), expected, rtol=1e-5, atol=0)


@needs_kernels
def test_the_number_of_threads_changes_no_bit() -> None:
    x, residual, dy = (random((32, 16, 16, 16), torch.bfloat16, seed) for seed in range(3))
    layer = layer_of(16)
    fuse(layer)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(results(copy.deepcopy(layer), x, residual, dy))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(other[name], tensor) for name, tensor in found[0].items())


@needs_kernels
@pytest.mark.parametrize("dtype", BOUND, ids=str)
def test_a_diverged_network_stays_visible(dtype: torch.dtype) -> None:
    x = random((4, 16, 4, 4), dtype, 0)
    x[0, 3] = torch.nan
    layer = layer_of(16)
    fuse(layer)
    y = layer(x)
    assert y[:, 3].isnan().all()
    assert not y[:, :3].isnan().any()


@needs_kernels
def test_what_the_kernels_cannot_take_goes_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: object) -> None:
        raise AssertionError("a kernel was called")

    odd, wide, double, half = layer_of(12), layer_of(64), layer_of(64).double(), layer_of(64).bfloat16()
    bare, cumulative = BatchNormReLU(64, affine=False, track_running_stats=False), BatchNormReLU(64, momentum=None)
    for layer in (odd, wide, double, half, bare, cumulative):
        fuse(layer)
    monkeypatch.setattr(norm, "_call", forbidden)
    last, first = random((2, 64, 4, 4), torch.float32, 0), torch.randn(2, 64, 4, 4)
    for layer, x, residual in [
        (odd, random((2, 12, 3, 3), torch.float32, 0), None),  # 216 numbers do not fill whole lanes
        (layer_of(64), last, None),  # never fused
        (wide, first, None),  # not channels last
        (wide, last, first),
        (double, last.double(), None),  # no kernel for float64
        (half, last.bfloat16(), None),  # weights in bfloat16
        (bare, last, None),  # no weights and no statistics
        (cumulative, last, None),
    ]:
        assert layer(x, residual).shape == x.shape


@pytest.mark.parametrize("channels", [16, 64, 128, 160, 256, 320, 512, 640, 1024, 2048])
@pytest.mark.parametrize("batch", [1, 77, 128])
def test_what_networks_for_small_images_normalise_fits(batch: int, channels: int) -> None:
    for side in (2, 4, 8, 16, 32):
        x = torch.empty(batch, channels, side, side, memory_format=torch.channels_last)
        assert norm._fits(BatchNormReLU(channels), x, x)


@needs_kernels
@pytest.mark.parametrize("bf16", [False, True])
def test_a_network_has_the_gradients_it_has_without(bf16: bool) -> None:
    """The equivalence that makes the kernels a technique of class B: same weights, same batch, same gradients.

    Where a ReLU is almost at zero, rounding can switch it; the bound on the whole gradient leaves room for that.
    """
    from lt_bench.models import build_network

    images, labels = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    gradients = []
    for fused in (False, True):
        net = build_network(ResNet8, Linear(), 10, 0).to(memory_format=torch.channels_last)
        if fused:
            fuse(net)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = net(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).double())
    plain, with_kernels = gradients
    assert (with_kernels - plain).norm() / plain.norm() < (0.05 if bf16 else 2e-3)
    # Not the same bits, or the kernels would not have run.
    assert not torch.equal(plain, with_kernels)


def test_the_weights_fit_networks_made_of_torch_layers() -> None:
    assert list(BatchNormReLU(4).state_dict()) == list(nn.BatchNorm2d(4).state_dict())


# --- one value a channel -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormReLU])
def test_a_single_value_is_normalised_by_the_running_statistics(kind: type[nn.BatchNorm2d]) -> None:
    layer = kind(2)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(torch.tensor([1.0, -1.0]))
    layer.running_var.fill_(4.0)
    before = copy.deepcopy(layer.state_dict())
    x = torch.tensor([5.0, 1.0]).view(1, 2, 1, 1).requires_grad_()
    with norm.single_values(nn.Sequential(layer)):
        y = layer(x)
    torch.testing.assert_close(y.flatten(), torch.tensor([2.0, 1.0]))
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad.flatten(), torch.tensor([0.5, 0.5]))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    with pytest.raises(ValueError, match="more than 1 value"):
        layer(x)  # as torch has it outside


def test_more_values_are_normalised_as_ever() -> None:
    layers = [nn.BatchNorm2d(3) for _ in range(2)]
    x = random((1, 3, 2, 1), torch.float32, seed=0)
    with norm.single_values(layers[0]):
        inside = layers[0](x)
    assert torch.equal(inside, layers[1](x))
    assert all(torch.equal(*pair) for pair in zip(*(layer.state_dict().values() for layer in layers), strict=True))
    assert layers[0].training


def test_a_layer_that_fails_is_left_as_it_was() -> None:
    layer = nn.BatchNorm2d(3)
    with norm.single_values(layer), pytest.raises(RuntimeError):
        layer(torch.zeros(1, 4, 1, 1))  # four channels
    assert layer.training
    assert not layer._forward_hooks
    assert not layer._forward_pre_hooks


def test_a_layer_without_running_statistics_is_refused() -> None:
    norm.check_statistics(nn.Sequential(nn.BatchNorm2d(3), nn.GroupNorm(1, 3)))
    with pytest.raises(UserError, match=r"model.backbone: 1 normalises without running statistics"):
        norm.check_statistics(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3, track_running_stats=False)))
