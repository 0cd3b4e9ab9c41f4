"""NEXcepTion against its card: parameters, multiply-adds, shapes and the order of its layers."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from network_cases import SmallNEXcepTion, SmallPyramid, images, multiply_adds, parameters, without_memory
from timm.layers import BlurPool2d, DropPath, SqueezeExcite
from torch import nn

from lt_bench.errors import UserError
from lt_bench.models import build_network
from lt_bench.models.backbones.nexception import NEXcepTionS, NEXcepTionT, NEXcepTionTP, bottleneck, halving
from lt_bench.recipe import load_recipe

NAMES = {"nexception-t": NEXcepTionT, "nexception-s": NEXcepTionS, "nexception-tp": NEXcepTionTP}


@pytest.mark.parametrize(
    ("name", "num_classes", "count", "billions"),
    [
        ("nexception-t", 1000, 24_544_976, 4.593),
        ("nexception-t", 10, 22_516_466, 4.591),
        ("nexception-s", 1000, 43_386_944, 8.395),
        ("nexception-tp", 1000, 26_559_112, 4.320),
    ],
)
def test_parameters_and_multiply_adds_at_224_pixels(name: str, num_classes: int, count: int, billions: float) -> None:
    with without_memory():
        net = build_network(name, "linear", num_classes)
        assert parameters(net) == count
        assert multiply_adds(net, torch.empty(1, 3, 224, 224)) / 1e9 == pytest.approx(billions, abs=5e-4)


def test_the_parts_of_the_tiny_one() -> None:
    with without_memory():
        entry, middle, last = (list(stage) for stage in NEXcepTionT().stages())  # type: ignore[call-overload]
        wide = bottleneck(752, 0.0)
    assert [parameters(part) for part in entry] == [1_440, 49_528, 150_704, 579_936]
    assert [parameters(part) for part in middle] == [1_936_480] * 8
    assert sum(parameters(part) for part in last) == 6_222_528
    assert parameters(wide) == 4_131_632


def test_the_shapes_of_the_tiny_one() -> None:
    with without_memory():
        stages, x = NEXcepTionT().stages(), torch.empty(2, 3, 224, 224)
        shapes = []
        for part in (*stages[0], *stages[1:]):  # type: ignore[misc]
            x = part(x)
            shapes.append(tuple(x.shape[1:]))
    entry = [(96, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14)]
    assert shapes == [*entry, (512, 14, 14), (2048, 7, 7)]


@pytest.mark.parametrize(("width", "hidden"), [(128, 8), (256, 16), (512, 32), (752, 48), (1024, 64)])
def test_the_width_of_the_squeeze(width: int, hidden: int) -> None:
    with without_memory():
        (squeeze,) = (layer for layer in halving(8, width, width, 0.0).modules() if isinstance(layer, SqueezeExcite))
    assert squeeze.fc1.out_channels == squeeze.bn.num_features == hidden
    assert (type(squeeze.bn), type(squeeze.act), type(squeeze.gate).__name__) == (nn.BatchNorm2d, nn.GELU, "Sigmoid")
    assert squeeze.fc1.bias is not None


def test_a_bottleneck_without_its_last_convolution_is_the_identity() -> None:
    block, x = bottleneck(16, 0.5).eval(), torch.randn(2, 16, 6, 6)
    assert not torch.equal(block(x), x)
    third = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)][2]
    nn.init.zeros_(third.weight)
    assert torch.equal(block(x), x)


def kinds(block: nn.Module) -> list[type[nn.Module]]:
    return [type(layer) for layer in block.main]  # type: ignore[union-attr]


def test_the_order_of_the_layers() -> None:
    separable = nn.Sequential
    down, inner = halving(8, 16, 16, 0.1), bottleneck(8, 0.1)
    twice = [separable, nn.BatchNorm2d, nn.GELU, separable, nn.BatchNorm2d]
    assert kinds(down) == [*twice, nn.MaxPool2d, BlurPool2d, SqueezeExcite, DropPath]
    assert kinds(inner) == [*twice, separable, SqueezeExcite, DropPath]
    assert (down.main[5].stride, down.main[6].stride) == (1, 2)  # type: ignore[index, union-attr]
    assert [type(layer) for layer in NEXcepTionT().stem()] == [nn.Conv2d, nn.GELU, nn.BatchNorm2d]  # type: ignore[attr-defined]
    stem, first, *_ = SmallPyramid().stages()[0]  # type: ignore[misc]
    assert [type(layer) for layer in stem] == [nn.Conv2d, nn.BatchNorm2d]
    assert kinds(first) == kinds(inner)


def drop_paths(net: nn.Module) -> list[float]:
    return [layer.drop_prob for layer in net.modules() if isinstance(layer, DropPath)]


def test_the_rates_of_leaving_blocks_out() -> None:
    with without_memory():
        tiny, pyramid = (nn.Sequential(*kind().stages()) for kind in (NEXcepTionT, NEXcepTionTP))
    assert drop_paths(tiny) == [0.05] * 12
    rates = drop_paths(pyramid)
    assert (len(rates), rates[0], rates[-1]) == (19, 0, pytest.approx(0.05))
    assert [b - a for a, b in pairwise(rates)] == pytest.approx([0.05 / 18] * 18, abs=1e-6)
    assert set(drop_paths(nn.Sequential(*SmallPyramid(drop_path=0).stages()))) == {0}


def test_the_pyramid_normalises_behind_the_pooling() -> None:
    last = SmallPyramid().stages()[-1]
    maps = last.eval()(torch.randn(2, 48, 8, 8))
    assert maps.shape == (2, 96, 1, 1)
    block, pool, norm = last[-1]  # type: ignore[index, misc]
    kept = torch.randn(2, 96, 4, 4)
    torch.testing.assert_close(last[-1](kept), norm(block(kept).mean((2, 3), keepdim=True)))  # type: ignore[index]
    assert isinstance(pool, nn.AdaptiveAvgPool2d)


@pytest.mark.parametrize(
    ("data", "stride"), [("cifar100-lt", 1), ("digits-lt", 1), ("imagenet-mini", 2), ("imagenet-lt", 2)]
)
@pytest.mark.parametrize("name", ["nexception-t", "nexception-s"])
def test_the_stem_halves_large_images_alone(name: str, data: str, stride: int) -> None:
    recipe = load_recipe(f"{data}/ce", [f"model.backbone={name}"])
    assert recipe.model.backbone == {"name": name, "drop_path": 0.05, "stem_stride": stride}
    asked = load_recipe(f"{data}/ce", [f"model.backbone={{name: {name}, stem_stride: 2}}"])
    assert asked.backbone_choice().config.stem_stride == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(("stride", "side", "left"), [(1, 32, 2), (1, 16, 1), (2, 64, 2), (2, 32, 1)])
def test_what_the_stem_leaves_of_small_images(stride: int, side: int, left: int) -> None:
    backbone = SmallNEXcepTion(stem_stride=stride)
    backbone.check_images(side)
    assert nn.Sequential(*backbone.stages()).eval()(images(side)).shape == (2, 2048, left, left)
    smallest = 16 * stride
    with pytest.raises(UserError, match=f"model.backbone: .* less than {smallest} pixels .*, found {smallest - 1}"):
        backbone.check_images(smallest - 1)
