"""Networks against the field's parameter counts, and the promises every backbone and head makes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from network_cases import images, network, parameters
from torch import nn

from lt_bench.errors import UserError
from lt_bench.models import Network
from lt_bench.models.backbones.cifar_resnet import CifarBlock, CifarResNet
from lt_bench.models.backbones.vision_transformer import VisionTransformer
from lt_bench.registry import lookup, members

HEADS = sorted(members("head"))
BACKBONES = sorted(members("backbone"))
NEEDED = {"timm": {"model": "resnet10t"}, "clip": {"model": "ViT-B-16-quickgelu"}}
"""Settings without a default."""
SMALL_BACKBONES = ["resnet8", "resnet10"]


def logit_parameters(net: Network) -> list[nn.Parameter]:
    """Those on the way to the logits: all but those of a head for training alone."""
    return [p for part in (net.trunk, *net.branches, *net.classifiers) for p in part.parameters()]


# --- the field's figures -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "head", "num_classes", "count"),
    [
        ("resnet32", "linear", 10, 464_154),
        ("resnet32", "linear", 100, 470_004),
        ("resnet32", "dual-branch", 10, 816_292),
        ("resnet32", "dual-branch", 100, 827_992),
        ("resnet32", "bilateral", 10, 538_778),
        ("resnet32", "bilateral", 100, 550_388),
        ("resnet32", "cosine", 10, 464_144),  # no bias
        ("resnet32", "twin-classifier", 10, 489_636),  # 463,504, twice 650, and 8,320 and 16,512 to compare views
        ("resnet32", "twin-classifier", 100, 501_336),
        ("resnet32-w4", "linear", 10, 7_386_186),
        ("resnet32-w4", "linear", 100, 7_409_316),
        ("resnet32", "contrastive", 10, 470_522),  # linear, and a projection of 4,160 + 128 + 2,080
        ("resnet32", "prototypes", 10, 489_360),  # cosine, and two projections of 4,160 + 128 + 8,320
        ("resnet32", "experts", 10, 1_344_784),  # 23,824 shared, three times 439,680 and a classifier of 640
        ("resnet32", "ensemble", 10, 3 * 464_154),
        ("resnet32", "residual-fusion", 10, 464_154 + 3 * 128),
        ("resnet18", "linear", 1000, 11_689_512),
        ("resnet50", "linear", 1000, 25_557_032),
        ("resnext50", "linear", 1000, 25_028_904),
    ],
)
def test_parameter_counts(backbone: str, head: str, num_classes: int, count: int) -> None:
    assert parameters(network(backbone, head, num_classes)) == count


@pytest.mark.parametrize(
    ("backbone", "millions"), [("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66), ("resnet56", 0.85)]
)
def test_the_cifar_family(backbone: str, millions: float) -> None:
    net = network(backbone)
    assert round(parameters(net) / 1e6, 2) == millions
    depth = int(backbone.removeprefix("resnet"))
    per_stage = (depth - 2) // 3
    widths = Counter(m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d))
    assert widths == {16: 1 + per_stage, 32: per_stage, 64: per_stage}  # the stem comes before the first stage


def test_the_wide_resnet32_has_four_times_the_channels() -> None:
    widths = [
        sorted(m.out_channels for m in network(backbone).modules() if isinstance(m, nn.Conv2d))
        for backbone in ("resnet32", "resnet32-w4")
    ]
    assert widths[1] == [4 * width for width in widths[0]]


# --- shortcuts of option A ---------------------------------------------------------------------------


def silent_block(width_in: int, width: int, stride: int) -> CifarBlock:
    """A block whose convolutions contribute nothing, so that only the shortcut is seen."""
    block = CifarBlock(width_in, width, stride).eval()
    nn.init.zeros_(block.bn2.weight)
    return block


def test_a_shortcut_subsamples_and_pads_with_zero_channels() -> None:
    x = images(8).abs()[:, :2]
    y = silent_block(2, 6, 2)(x)
    assert y.shape == (2, 6, 4, 4)
    assert torch.equal(y[:, 2:4], x[:, :, ::2, ::2])
    assert not y[:, :2].any()
    assert not y[:, 4:].any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_shortcut_and_its_gradient_keep_the_layout(layout: torch.memory_format) -> None:
    x = torch.randn(2, 4, 6, 6).to(memory_format=layout).requires_grad_()
    y = CifarBlock(4, 8, 2).shortcut(x)
    assert y.is_contiguous(memory_format=layout)
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert dx.is_contiguous(memory_format=layout)
    assert dx[:, :, ::2, ::2].all()
    assert dx.sum() == 2 * 4 * 3 * 3


def test_a_shortcut_of_one_width_is_the_identity() -> None:
    x = images(8).abs()
    assert torch.equal(silent_block(3, 3, 1)(x), x)


def test_shortcuts_have_no_parameters() -> None:
    assert parameters(CifarBlock(16, 32, 2)) == 16 * 32 * 9 + 32 * 32 * 9 + 4 * 32


# --- promises of all ---------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", SMALL_BACKBONES)
def test_logits_of_every_head(backbone: str, head: str) -> None:
    net = network(backbone, head, num_classes=7)
    x = images(64 if backbone == "resnet10" else 32)
    before = x.clone()
    logits = net(x)
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    assert torch.equal(x, before)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in logit_parameters(net))


@pytest.mark.parametrize("head", HEADS)
def test_gives_cosines_is_what_the_logits_are(head: str) -> None:
    net = network(head=head).eval()
    with torch.no_grad():
        for classifier in net.classifiers:
            for parameter in classifier.parameters():
                parameter.mul_(100)
    assert (net(images()).abs().max() <= 1 + 1e-6) == lookup("head", head).gives_cosines


@pytest.mark.parametrize("head", HEADS)
def test_has_training_layers_is_whether_the_logits_depend_on_all(head: str) -> None:
    net = network(head=head)
    found = {id(p) for p in logit_parameters(net)} != {id(p) for p in net.parameters()}
    assert found == lookup("head", head).has_training_layers


@pytest.mark.parametrize("head", HEADS)
def test_a_single_branch_gives_the_features_of_its_logits(head: str) -> None:
    net, x = network(head=head).eval(), images()
    assert (len(net.branches) == 1) == lookup("head", head).gives_features
    if len(net.branches) == 1:
        features, logits = net.features_and_logits(x)
        assert features.shape == (2, 64)
        assert torch.equal(net.classifiers[0](features), logits)
        assert torch.equal(net(x), logits)
    else:
        with pytest.raises(UserError, match="needs a head of one branch"):
            net.features_and_logits(x)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_width_of_every_backbone_is_what_it_says(name: str) -> None:
    component = lookup("backbone", name)
    with torch.device("meta"):
        backbone = component(**NEEDED.get(name, {}))
        size = 224 if name == "clip" else 32 if issubclass(component, CifarResNet | VisionTransformer) else 64
        maps = backbone.last_stage()(backbone.trunk()(torch.empty(2, 3, size, size)))
    assert maps.shape[1] == backbone.feature_dim
    assert component.info.summary


@pytest.mark.parametrize("head", HEADS)
def test_the_seed_alone_decides_the_initialisation(head: str) -> None:
    torch.manual_seed(1)
    first = network(head=head, seed=5).state_dict()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again, other = network(head=head, seed=5).state_dict(), network(head=head, seed=6).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    stem = next(iter(first))
    assert stem.startswith("branches.0.stage" if head == "ensemble" else "trunk")
    assert not torch.equal(first[stem], other[stem])


def test_convolutions_start_with_kaiming_normal_weights() -> None:
    weight = network("resnet56").branches[0].stage[8].conv2.weight.detach()  # type: ignore[index, union-attr]
    assert float(weight.std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert float(weight.mean()) == pytest.approx(0, abs=0.002)
