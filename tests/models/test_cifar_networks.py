"""The hand-written networks for small images against torchvision's, the cards' figures and their formulas."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from network_cases import (
    SMALL,
    WITH_KERNELS,
    SmallMixed,
    SmallPreActBottleneck,
    SmallPreActResNet,
    SmallShakeShake,
    SmallWideResNet,
    images,
    multiply_adds,
    parameters,
    without_memory,
)
from torch import Tensor, nn
from torchvision.models import resnet

from lt_bench.errors import UserError
from lt_bench.models import Backbone, build_backbone, build_network
from lt_bench.models.backbones.pyramidnet import PyramidBlock, PyramidBottleneck
from lt_bench.models.backbones.resnet50_mixed import Bottleneck
from lt_bench.models.backbones.small_image_resnet import CifarResNet18, CifarResNet34, CifarResNeXt50
from lt_bench.models.backbones.wide_resnet import WRN28x8, WRN34x10
from lt_bench.models.heads.bilateral import last_blocks
from lt_bench.models.norm import BatchNormReLU, fuse
from lt_bench.native import NoCompilerError
from lt_bench.registry import members

HEADS = sorted(members("head"))


# --- the field's figures -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "num_classes", "count"),
    [
        ("cifar-resnet18", 10, 11_173_962),
        ("cifar-resnet34", 10, 21_282_122),
        ("cifar-resnext50", 10, 25_028_904 - 9_408 + 1_728 - 990 * 2_049),  # torchvision's, another stem and classifier
        ("preact-resnet18", 10, 11_173_962 - 2 * 896),  # so many channels fewer are normalised
        ("preact-resnet34", 10, 21_282_122 - 2 * 896),
        ("preact-resnet50", 10, 23_520_842 - 2 * 3_840),
        ("wrn-28-10", 10, 36_479_194),
        ("wrn-28-10", 100, 36_536_884),
        ("wrn-28-8", 10, 23_354_842),
        ("wrn-34-10", 10, 46_160_474),
        ("wrn-40-2", 10, 2_243_546),
        ("resnet50-preact-gelu", 10, 23_512_906),
        ("shake-shake-26-2x32d", 10, 2_923_162),
        ("shake-shake-26-2x64d", 10, 11_653_978),
        ("shake-shake-26-2x96d", 10, 26_192_922),
        ("shake-shake-29-2x4x64d", 100, 34_529_572),
        ("pyramidnet-110-a270", 10, 28_485_477),
        ("pyramidnet-200-a240", 100, 26_844_952),
        ("pyramidnet-20-a36", 100, 223_308),
        ("resnet34", 1000, 21_797_672),
        ("resnet101", 1000, 44_549_160),
        ("resnet152", 1000, 60_192_808),
    ],
)
def test_parameter_counts(backbone: str, num_classes: int, count: int) -> None:
    with without_memory():
        assert parameters(build_network(backbone, "linear", num_classes)) == count


def test_a_wider_one_of_34_layers_has_the_published_count() -> None:
    class WRN34x20(WRN34x10):
        feature_dim = 1280
        widths = (320, 640, 1280)

    with without_memory():
        assert parameters(build_network(WRN34x20, "linear", 10)) == 184_531_674


@pytest.mark.parametrize(
    ("backbone", "billions"),
    [
        ("cifar-resnet18", 0.56),
        ("cifar-resnet34", 1.16),
        ("cifar-resnext50", 1.34),
        ("preact-resnet18", 0.56),
        ("preact-resnet50", 1.30),
        ("wrn-28-8", 3.36),
        ("wrn-28-10", 5.24),
        ("resnet50-preact-gelu", 1.30),
        ("shake-shake-26-2x32d", 0.43),
        ("shake-shake-29-2x4x64d", 5.39),
        ("pyramidnet-110-a270", 4.72),
        ("pyramidnet-20-a36", 0.055),
    ],
)
def test_multiply_adds_of_an_image_of_32_pixels(backbone: str, billions: float) -> None:
    with without_memory():
        net, x = build_network(backbone, "linear", 10), torch.empty(1, 3, 32, 32)
        assert multiply_adds(net, x) / 1e9 == pytest.approx(billions, abs=0.005)


@pytest.mark.parametrize(
    ("backbone", "block", "groups"),
    [
        (CifarResNet18, resnet.BasicBlock, (1, 64)),
        (CifarResNet34, resnet.BasicBlock, (1, 64)),
        (CifarResNeXt50, resnet.Bottleneck, (32, 4)),
    ],
)
def test_they_are_torchvisions_with_another_stem(
    backbone: type[Backbone], block: type[nn.Module], groups: tuple[int, int]
) -> None:
    theirs = resnet.ResNet(block, list(backbone.blocks), groups=groups[0], width_per_group=groups[1]).eval()  # type: ignore[attr-defined]
    theirs.conv1, theirs.maxpool, theirs.fc = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity(), nn.Identity()
    for norm in (m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)
    with without_memory():
        ours = build_backbone(backbone())
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)), assign=True)
    torch.testing.assert_close(ours.eval()(images(8)), theirs(images(8)), rtol=1e-4, atol=1e-5)


# --- blocks ------------------------------------------------------------------------------------------


def shaken(block: nn.Module) -> nn.Module:
    """The block in evaluation mode, its normalisations with a statistic and a scale of their own."""
    for norm in (m for m in block.modules() if isinstance(m, nn.BatchNorm2d)):
        for tensor in (norm.running_mean, norm.bias):
            nn.init.normal_(tensor)  # type: ignore[arg-type]
        for tensor in (norm.running_var, norm.weight):
            nn.init.uniform_(tensor, 0.5, 2)  # type: ignore[arg-type]
    return block.eval()


def normalised(x: Tensor, norm: nn.Module) -> Tensor:
    mean, var, weight, bias = (v[:, None, None] for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias))  # type: ignore[union-attr, operator]
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 16, 2), (8, 16, 1)])
def test_a_pre_activated_block_by_hand(shape: tuple[int, int, int]) -> None:
    block = shaken(SmallPreActResNet().block(*shape))
    norms = [m for m in block.modules() if isinstance(m, BatchNormReLU)]
    first, second, *shortcut = (m.weight for m in block.modules() if isinstance(m, nn.Conv2d))
    x = torch.randn(2, 8, 6, 6)
    active = normalised(x, norms[0]).relu()
    inner = normalised(F.conv2d(active, first, stride=shape[2], padding=1), norms[1]).relu()
    passed = F.conv2d(active, shortcut[0], stride=shape[2]) if shortcut else x
    assert bool(shortcut) == (shape != (8, 8, 1))
    torch.testing.assert_close(block(x), F.conv2d(inner, second, padding=1) + passed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16, 1), (16, 32, 2)])
def test_a_block_of_mixrnet_by_hand(shape: tuple[int, int, int]) -> None:
    block = shaken(Bottleneck(*shape))
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    first, second, third, *shortcut = (m.weight for m in block.modules() if isinstance(m, nn.Conv2d))
    x = torch.randn(2, 16, 6, 6)
    u = F.gelu(F.conv2d(normalised(x, norms[0]), first))
    u = F.gelu(F.conv2d(normalised(u, norms[1]), second, stride=shape[2], padding=1))
    u = F.conv2d(normalised(u, norms[2]), third)
    passed = F.conv2d(normalised(x, norms[3]), shortcut[0], stride=shape[2]) if shortcut else x
    torch.testing.assert_close(block(x), F.gelu(u + passed), rtol=1e-4, atol=1e-5)


def test_a_silent_block_of_mixrnet_is_gelu() -> None:
    block = Bottleneck(16, 16, 1).eval()
    nn.init.zeros_(block.main[-1].weight)  # type: ignore[arg-type]
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(block(x), F.gelu(x))
    assert not torch.allclose(block(x), x)


@pytest.mark.parametrize("small", [SmallPreActResNet, SmallPreActBottleneck, SmallWideResNet])
def test_the_last_normalisation_belongs_to_the_last_block(small: type[Backbone]) -> None:
    *_, block = last_blocks(small())
    first, second = block.children()
    assert isinstance(second, BatchNormReLU)
    assert second.num_features == small.feature_dim
    assert "main" in dict(first.named_children())
    assert not build_backbone(small)(images()).lt(0).any()


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 16, 2), (8, 16, 1)])
def test_a_block_of_two_branches_by_hand(shape: tuple[int, int, int]) -> None:
    block = shaken(SmallShakeShake().block(*shape))
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    convolutions = [m.weight for m in block.modules() if isinstance(m, nn.Conv2d)]
    x, stride = torch.randn(2, 8, 6, 6), shape[2]
    branches = []
    for first, second, inner, last in ((*convolutions[:2], *norms[:2]), (*convolutions[2:4], *norms[2:4])):
        active = normalised(F.conv2d(x.relu(), first, stride=stride, padding=1), inner).relu()
        branches.append(normalised(F.conv2d(active, second, padding=1), last))
    shortcut = x
    if shape != (8, 8, 1):
        one, other = convolutions[4:]
        moved = torch.zeros_like(x)
        moved[..., 1:, 1:] = x.relu()[..., :-1, :-1]
        halves = F.conv2d(x.relu()[..., ::stride, ::stride], one), F.conv2d(moved[..., ::stride, ::stride], other)
        shortcut = normalised(torch.cat(halves, 1), norms[4])
    torch.testing.assert_close(block(x), sum(branches) / 2 + shortcut, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 12, 1), (8, 12, 2)])
def test_a_block_of_a_pyramid_by_hand(shape: tuple[int, int, int]) -> None:
    block = shaken(PyramidBlock(*shape))
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    first, second = (m.weight for m in block.modules() if isinstance(m, nn.Conv2d))
    x, stride = torch.randn(2, 8, 6, 6), shape[2]
    inner = normalised(F.conv2d(normalised(x, norms[0]), first, stride=stride, padding=1), norms[1]).relu()
    expected = normalised(F.conv2d(inner, second, padding=1), norms[2])
    expected[:, :8] += x.unfold(2, stride, stride).unfold(3, stride, stride).mean((-2, -1))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 2, 1), (8, 3, 1), (8, 3, 2)])
def test_a_bottleneck_of_a_pyramid_by_hand(shape: tuple[int, int, int]) -> None:
    block = shaken(PyramidBottleneck(*shape))
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    first, second, third = (m.weight for m in block.modules() if isinstance(m, nn.Conv2d))
    x, stride = torch.randn(2, 8, 6, 6), shape[2]
    inner = normalised(F.conv2d(normalised(x, norms[0]), first), norms[1]).relu()
    inner = normalised(F.conv2d(inner, second, stride=stride, padding=1), norms[2]).relu()
    expected = normalised(F.conv2d(inner, third), norms[3])
    expected[:, :8] += x.unfold(2, stride, stride).unfold(3, stride, stride).mean((-2, -1))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_the_channels_of_a_pyramid_grow_from_block_to_block() -> None:
    with without_memory():
        blocks = [
            m for m in build_network("pyramidnet-110-a270", "linear", 10).modules() if isinstance(m, PyramidBlock)
        ]
    assert [block.main[1].out_channels for block in blocks] == [16 + 5 * place for place in range(1, 55)]  # type: ignore[union-attr]
    assert [place for place, block in enumerate(blocks) if block.stride == 2] == [18, 36]


def test_the_convolutions_of_a_wide_network_begin_by_their_fan_out() -> None:
    block = WRN28x8().stages()[1][0]  # type: ignore[index]
    weight = block.main[0].weight.detach()  # 128 channels to 256
    assert float(weight.std()) == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)


def test_a_dropout_stands_between_the_convolutions_of_a_block() -> None:
    with pytest.raises(UserError, match="dropout"):
        WRN28x8(dropout=1.0)
    kinds = [type(layer) for layer in SmallWideResNet(dropout=0.3).block(8, 8, 1).main]  # type: ignore[union-attr, arg-type]
    assert kinds == [nn.Conv2d, BatchNormReLU, nn.Dropout, nn.Conv2d]
    assert not any(isinstance(layer, nn.Dropout) for layer in build_backbone(SmallWideResNet).modules())
    with without_memory():
        wide = build_network(WRN28x8(dropout=0.3), "linear", 10)
    assert [layer.p for layer in wide.modules() if isinstance(layer, nn.Dropout)] == [0.3] * 12


# --- promises of all ---------------------------------------------------------------------------------


@pytest.mark.parametrize("small", SMALL)
def test_every_cut_is_the_same_network(small: type[Backbone]) -> None:
    with without_memory():
        backbone = small()
        x = torch.empty(2, 3, 32, 32)
        whole = nn.Sequential(*backbone.whole())
        late = nn.Sequential(backbone.early_stages(), backbone.late_stages())
        cut = nn.Sequential(backbone.trunk(), *last_blocks(backbone))
        assert whole(x).shape == late(x).shape == cut(x).shape
        assert whole(x).shape[1] == backbone.feature_dim
        assert parameters(whole) == parameters(late) == parameters(cut)
        with pytest.raises(UserError, match=f"{small.name} has no narrower late stages"):
            backbone.late_stages(0.75)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("small", SMALL)
def test_logits_of_every_head(small: type[Backbone], head: str) -> None:
    net, x = build_network(small, head, 7), images()
    before = x.clone()
    logits = net(x)
    assert logits.shape == (2, 7)
    assert torch.equal(x, before)
    logits.square().sum().backward()
    used = [*net.trunk.parameters(), *net.branches.parameters(), *(p for c in net.classifiers for p in c.parameters())]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in used)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x).isfinite().all()


@pytest.mark.parametrize("small", SMALL)
def test_weights_make_the_network_again(small: type[Backbone]) -> None:
    net, other = (build_network(small, "linear", 7, seed).eval() for seed in (0, 1))
    assert not torch.equal(net(images()), other(images()))
    other.load_state_dict(deepcopy(net.state_dict()))
    assert torch.equal(net(images()), other(images()))
    features, logits = net.features_and_logits(images())
    assert features.shape == (2, small.feature_dim)
    assert torch.equal(logits, net(images()))


def gradients(net: nn.Module, dtype: torch.dtype) -> Tensor:
    """All gradients of one batch, float64, computed in float64, in float32 or under autocast to bfloat16."""
    x = images(32, 16).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits = net(x.double()) if dtype == torch.float64 else net(x).float()
    F.cross_entropy(logits, torch.arange(16) % 10).backward()
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("small", WITH_KERNELS)
def test_kernels_are_no_further_from_the_exact_gradient(small: type[Backbone], dtype: torch.dtype) -> None:
    """Where a ReLU is almost at zero, rounding can switch it, with and without the kernels."""
    plain = build_network(small, "linear", 10).to(memory_format=torch.channels_last)
    exact, fused = deepcopy(plain).double(), deepcopy(plain)
    try:
        fuse(fused)
    except NoCompilerError as error:
        pytest.skip(f"the kernels cannot be compiled here: {error}")
    expected = gradients(exact, torch.float64)
    without, found = (gradients(net, dtype) for net in (plain, fused))
    errors = [float((given - expected).norm() / expected.norm()) for given in (without, found)]
    assert errors[1] < (2e-3 if dtype == torch.float32 else 1.1 * errors[0])
    assert not torch.equal(found, without)  # or the kernels would not have run


def test_mixrnets_network_takes_larger_images() -> None:
    assert build_network(SmallMixed, "linear", 7)(images(64)).shape == (2, 7)
    with pytest.raises(UserError, match="up to 64 pixels, found 224"):
        SmallMixed().check_images(224)
