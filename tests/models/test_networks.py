"""Networks against the field's parameter counts, and the promises every backbone and head makes."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any

import pytest
import torch
from tiny_backbone import Tiny
from torch import Tensor, nn

from lt_bench.errors import UserError
from lt_bench.models import Backbone, Head, Network, build_network
from lt_bench.models.backbones.cifar_resnet import CifarBlock, CifarResNet
from lt_bench.models.backbones.vision_transformer import VisionTransformer
from lt_bench.models.heads import CosineClassifier
from lt_bench.models.heads.bilateral import BilateralNetwork
from lt_bench.models.heads.contrastive import ContrastiveNetwork, PrototypeNetwork
from lt_bench.models.heads.experts import Ensemble, Experts
from lt_bench.models.heads.twin_classifier import TwinClassifierNetwork
from lt_bench.models.norm import single_values
from lt_bench.registry import Info, lookup, members

HEADS = sorted(members("head"))
BACKBONES = sorted(members("backbone"))
NEEDED = {"timm": {"model": "resnet10t"}, "clip": {"model": "ViT-B-16-quickgelu"}}
"""Settings without a default."""
SMALL_BACKBONES = ["resnet8", "resnet10"]


def network(backbone: str = "resnet8", head: str = "linear", num_classes: int = 10, seed: int = 0) -> Network:
    component = lookup("head", head)
    made: Head = component()
    return build_network(lookup("backbone", backbone), made, num_classes, seed)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def logit_parameters(net: Network) -> list[nn.Parameter]:
    """Those on the way to the logits: all but those of a head for training alone."""
    return [p for part in (net.trunk, *net.branches, *net.classifiers) for p in part.parameters()]


def images(size: int = 32, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


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


# --- heads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocast", [False, True])
def test_cosines_are_cosines(autocast: bool) -> None:
    torch.manual_seed(0)
    classifier = CosineClassifier(64, 10)
    features = torch.randn(200, 64) * torch.logspace(-3, 3, 200)[:, None]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        cosines = classifier(features)
    assert cosines.dtype == torch.float32
    assert cosines.abs().max() <= 1 + 1e-6
    by_hand = torch.cosine_similarity(features[:, None], classifier.weight[None], dim=2)
    torch.testing.assert_close(cosines, by_hand)
    torch.testing.assert_close(classifier(classifier.weight.detach()).diagonal(), torch.ones(10))


def test_the_cosine_head_gives_cosines() -> None:
    logits = network(head="cosine").eval()(10 * images(count=16))
    assert logits.abs().max() <= 1 + 1e-6


def test_branches_share_the_trunk_and_nothing_else() -> None:
    net = network("resnet32", "dual-branch")
    assert len(net.branches) == 2
    first, second = ({p.data_ptr() for p in branch.parameters()} for branch in net.branches)
    trunk = {p.data_ptr() for p in net.trunk.parameters()}
    assert not first & second
    assert not trunk & (first | second)
    weights = [dict(branch.named_parameters())["stage.0.conv1.weight"] for branch in net.branches]
    assert weights[0].shape == (64, 32, 3, 3)  # the whole last stage is doubled, from its first block on
    assert not torch.equal(*weights)


def test_the_dual_branch_network_averages_raw_logits() -> None:
    net = network(head="dual-branch").eval()
    x = images()
    branches = [net.branch_logits(x, 0), net.branch_logits(x, 1)]
    torch.testing.assert_close(net(x), (branches[0] + branches[1]) / 2)
    assert not torch.allclose(*branches)


def test_bilateral_branches_are_one_block_each() -> None:
    net = network("resnet32", "bilateral")
    shared = [block for block in net.trunk.modules() if isinstance(block, CifarBlock)]
    private = [[block for block in branch.modules() if isinstance(block, CifarBlock)] for branch in net.branches]
    assert len(shared) == 14  # of 15 blocks
    assert [len(blocks) for blocks in private] == [1, 1]
    assert not torch.equal(private[0][0].conv1.weight, private[1][0].conv1.weight)


def test_a_bilateral_network_fuses_with_equal_weights_what_it_is_trained_to_fuse_by_alpha() -> None:
    net = network("resnet32", "bilateral").eval()
    assert isinstance(net, BilateralNetwork)
    x = images(count=4)
    features = [net.branch_features(x, index) for index in (0, 1)]
    assert torch.equal(net(x), net.fused_logits(*features, alpha=0.5))
    assert torch.equal(net(x), net.classifier(torch.cat(features, 1)))
    assert not torch.allclose(*features)


def test_the_logits_of_a_bilateral_network_are_the_mean_of_its_branches_logits() -> None:
    net = network(head="bilateral").eval()
    assert isinstance(net, BilateralNetwork)
    x = images()
    first, second = net.branch_logits(x, 0), net.branch_logits(x, 1)
    torch.testing.assert_close(net(x), (first + second) / 2)
    # A branch alone: twice its half of the one weight matrix, and the one bias.
    assert isinstance(net.classifier, nn.Linear)
    weight, bias = net.classifier.weight, net.classifier.bias
    torch.testing.assert_close(first, 2 * net.branch_features(x, 0) @ weight[:, :64].T + bias)
    torch.testing.assert_close(second, 2 * net.branch_features(x, 1) @ weight[:, 64:].T + bias)


def test_twin_classifiers_see_one_feature() -> None:
    net = network("resnet32", "twin-classifier").eval()
    assert isinstance(net, TwinClassifierNetwork)
    view, x = net.view(images(count=4)), images(count=4)
    features = net.trunk(x).mean((2, 3))
    first, second = net.classifiers
    torch.testing.assert_close(view.conventional, first(features))
    torch.testing.assert_close(view.rebalanced, second(features))
    torch.testing.assert_close(view.rebalanced, net.branch_logits(x, 1))
    torch.testing.assert_close(net(x), (view.conventional + view.rebalanced) / 2)
    torch.testing.assert_close(view.projected, net.projector(features))
    torch.testing.assert_close(view.predicted, net.predictor(view.projected))
    assert view.projected.shape == view.predicted.shape == (4, 128)
    assert not torch.allclose(view.conventional, view.rebalanced)


@pytest.mark.parametrize("head", ["contrastive", "prototypes"])
def test_a_projection_takes_a_single_image_by_the_statistics_of_others(head: str) -> None:
    net, features = network(head=head).train(), torch.randn(500, 64)
    assert isinstance(net, ContrastiveNetwork)
    for _ in range(100):
        projected = net.project(features)
    before = deepcopy(net.state_dict())
    with single_values(net):
        torch.testing.assert_close(net.project(features[:1]), projected[:1], rtol=0, atol=0.01)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("head", ["contrastive", "prototypes"])
def test_a_projection_has_no_part_in_the_logits(head: str) -> None:
    net = network(head=head).eval()
    assert isinstance(net, ContrastiveNetwork)
    x = images(count=4)
    features = net.features(x)
    assert torch.equal(net(x), net.classifier(features))
    assert torch.equal(net.all_logits(x), net.branch_logits(x, 0)[None])
    assert torch.equal(net.all_logits(x)[0], net(x))
    torch.testing.assert_close(net.project(features).norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("autocast", [False, True])
def test_a_prototype_is_a_unit_vector_made_of_the_class_weights(autocast: bool) -> None:
    net = network(head="prototypes", num_classes=7)
    assert isinstance(net, PrototypeNetwork)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        prototypes, projected = net.prototypes(), net.project(torch.ones(5, 64))
    assert (prototypes.shape, projected.shape) == ((7, 128), (5, 128))
    assert prototypes.dtype == projected.dtype == torch.float32
    torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(7))
    prototypes[3].sum().backward()
    assert net.classifier.weight.grad.any()  # type: ignore[union-attr]


class Unsplit(Backbone):
    """Its last stage is one convolution, which cannot be split in blocks."""

    name = "unsplit"
    info = Info("for this test")
    feature_dim = 8

    def trunk(self) -> nn.Module:
        return nn.Conv2d(3, 4, 3)

    def last_stage(self) -> nn.Module:
        return nn.Conv2d(4, 8, 3)


class EndsInReLU(Unsplit):
    name = "ends-in-relu"

    def last_stage(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU())


class Empty(Unsplit):
    name = "empty"

    def last_stage(self) -> nn.Module:
        return nn.Sequential()


@pytest.mark.parametrize("backbone", [Unsplit, EndsInReLU, Empty])
def test_the_bilateral_head_refuses_a_last_stage_that_has_no_last_block(backbone: type[Backbone]) -> None:
    head = lookup("head", "bilateral")
    with pytest.raises(UserError, match=f"the head bilateral needs a last stage .* that of {backbone.name} is not"):
        build_network(backbone, head(), 10, seed=0)


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        ("linear", {"trunk", "branches.0.stage", "branches.0.classifier"}),
        ("dual-branch", {"trunk", *(f"branches.{i}.{part}" for i in (0, 1) for part in ("stage", "classifier"))}),
        ("bilateral", {"trunk", "branches.0.stage", "branches.1.stage", "classifier"}),
        ("twin-classifier", {"trunk", "branches.0.classifier", "branches.1.classifier", "projector", "predictor"}),
        ("ensemble", {f"branches.{i}.{part}" for i in range(3) for part in ("stage", "classifier")}),
        ("residual-fusion", {"trunk", *(f"branches.{i}.stage" for i in range(3)), "classifier"}),
        ("contrastive", {"trunk", "branches.0.stage", "classifier", "projection"}),
        ("prototypes", {"trunk", "branches.0.stage", "classifier", "projection", "prototype_projection"}),
    ],
)
def test_the_names_under_which_weights_are_saved(head: str, parts: set[str]) -> None:
    names = list(network(head=head).state_dict())
    assert all(any(name.startswith(f"{part}.") for name in names) for part in parts)
    assert all(any(name.startswith(f"{part}.") for part in parts) for name in names)


def experts(backbone: str = "resnet32", num_classes: int = 10, **settings: Any) -> Network:
    head = Experts(Experts.Config.read(settings))
    return build_network(lookup("backbone", backbone), head, num_classes, seed=0)


def convolutions_by_width(net: nn.Module) -> Counter[int]:
    return Counter(m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d))


def test_experts_share_the_stem_and_the_first_stage() -> None:
    net = experts()
    assert convolutions_by_width(net.trunk) == {16: 11}
    assert [convolutions_by_width(branch) for branch in net.branches] == [{32: 10, 64: 10}] * 3
    first, second, third = ({p.data_ptr() for p in branch.parameters()} for branch in net.branches)
    assert not first & second | second & third | first & third
    weights = [dict(branch.named_parameters())["classifier.weight"] for branch in net.branches]
    assert not torch.equal(weights[0], weights[1])


def test_experts_of_reduced_dimension() -> None:
    net = experts(reduce_dimension=True, num_experts=2)
    assert [convolutions_by_width(branch) for branch in net.branches] == [{24: 10, 48: 10}] * 2
    assert net.eval().all_logits(images()).shape == (2, 2, 10)


def test_experts_of_an_imagenet_resnet_begin_at_the_third_stage() -> None:
    net = experts("resnet10")
    assert [parameters(branch) for branch in net.branches] == [919_040 + 3_673_088 + 10 * 512] * 3
    with pytest.raises(UserError, match="reduce_dimension: resnet10 has no narrower late stages"):
        experts("resnet10", reduce_dimension=True)


def test_a_backbone_that_cuts_no_earlier_shares_its_trunk() -> None:
    net = build_network(Tiny, Experts(), 10, seed=0)
    assert parameters(net.trunk) == parameters(Tiny().trunk())
    with pytest.raises(UserError, match="reduce_dimension: tiny has no narrower late stages"):
        build_network(Tiny, Experts(reduce_dimension=True), 10, seed=0)


def test_the_logits_of_experts_are_scaled_cosines_and_their_mean_predicts() -> None:
    net, plain = experts(scale=30).eval(), experts(scale=1).eval()
    each = net.all_logits(images())
    torch.testing.assert_close(each, 30 * plain.all_logits(images()))
    assert plain.all_logits(images()).abs().max() <= 1 + 1e-6
    torch.testing.assert_close(net(images()), (each[0] + each[1] + each[2]) / 3)
    torch.testing.assert_close(each[1], net.branch_logits(images(), 1))


def macs(net: Network) -> int:
    """Multiplications of the convolutions for one image of 32x32."""
    found: list[int] = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, _, y: found.append(y.shape[2] * y.shape[3] * m.weight.numel()))
    net(images(count=1))
    return sum(found)


def test_what_three_experts_cost() -> None:
    plain, full, reduced = network("resnet32"), experts(), experts(reduce_dimension=True)
    factors = [round(macs(net.eval()) / macs(plain.eval()), 1) for net in (full, reduced)]
    assert factors == [2.3, 1.5]


@pytest.mark.parametrize(("head", "factor"), [("ensemble", 3), ("residual-fusion", 1)])
def test_what_whole_networks_and_normalisations_cost(head: str, factor: int) -> None:
    assert macs(network("resnet32", head).eval()) == factor * macs(network("resnet32").eval())


def test_whole_networks_share_nothing_and_their_mean_predicts() -> None:
    net = network("resnet32", "ensemble").eval()
    assert not list(net.trunk.parameters())
    stems = [dict(branch.named_parameters())["stage.0.0.0.weight"] for branch in net.branches]
    assert [stem.shape for stem in stems] == [(16, 3, 3, 3)] * 3
    assert not any(torch.equal(stems[i], stems[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    each = [net.branch_logits(images(), index) for index in range(3)]
    torch.testing.assert_close(net.all_logits(images()), torch.stack(each))
    torch.testing.assert_close(net(images()), (each[0] + each[1] + each[2]) / 3)


def test_as_many_whole_networks_as_asked_for() -> None:
    net = build_network(Tiny, Ensemble(num_networks=2), 10, seed=0)
    assert net.all_logits(images()).shape == (2, 2, 10)


def test_a_residual_fusion_network_adds_the_logits_of_its_normalisations() -> None:
    net = network("resnet32", "residual-fusion").eval()
    for branch in net.branches:
        nn.init.normal_(branch.get_submodule("stage").running_mean)  # type: ignore[arg-type]
    (classifier,) = net.classifiers
    each = [net.branch_logits(images(), index) for index in range(3)]
    for branch, logits in zip(net.branches, each, strict=True):
        pooled = branch.get_submodule("stage")(net.trunk(images())).mean((2, 3))
        torch.testing.assert_close(logits, classifier(pooled))
    torch.testing.assert_close(net.all_logits(images()), torch.stack(each))
    torch.testing.assert_close(net(images()), each[0] + each[1] + each[2])
    assert not torch.allclose(each[0], each[1])


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
