"""Heads: what their branches share, what their logits are, and what they cost."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from network_cases import images, network, parameters
from safetensors.torch import save_file
from tiny_backbone import Tiny
from torch import nn

from lt_bench.errors import UserError
from lt_bench.models import Backbone, Network, build_network
from lt_bench.models.backbones.cifar_resnet import CifarBlock
from lt_bench.models.heads import CosineClassifier, ScaledCosineClassifier
from lt_bench.models.heads.bilateral import BilateralNetwork
from lt_bench.models.heads.contrastive import ContrastiveNetwork, PrototypeNetwork
from lt_bench.models.heads.experts import Ensemble, Experts
from lt_bench.models.heads.twin_classifier import TwinClassifierNetwork
from lt_bench.models.norm import single_values
from lt_bench.registry import Info, lookup


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


@pytest.mark.parametrize(
    ("backbone", "third_and_fourth"),
    [("resnet10", {192: 3, 384: 3}), ("resnext50", {384: 12, 768: 13, 1536: 4})],
)
def test_late_stages_of_an_imagenet_resnet_narrow_as_in_the_code_of_ride(
    backbone: str, third_and_fourth: dict[int, int]
) -> None:
    (branch,) = experts(backbone, reduce_dimension=True, num_experts=1).branches
    assert convolutions_by_width(branch) == third_and_fourth
    (classifier,) = (m for m in branch.modules() if isinstance(m, ScaledCosineClassifier))
    assert classifier.weight.shape == (10, max(third_and_fourth))
    for layer in (m for m in branch.modules() if isinstance(m, nn.Conv2d)):  # as torchvision draws the rest
        fan_out = layer.out_channels * layer.weight[0, 0].numel()
        assert float(layer.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_trained_weights_have_no_narrower_late_stages(tmp_path: Path) -> None:
    backbone = lookup("backbone", "resnet10")
    save_file(backbone().whole()[0].state_dict(), tmp_path / "trained.safetensors")
    settings = backbone.Config.read({"weights": str(tmp_path / "trained.safetensors")})
    with pytest.raises(UserError, match="reduce_dimension: trained weights are of the full width"):
        backbone(backbone.fitted(settings, 64)).late_stages(0.75)


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
        torch.testing.assert_close(logits, classifier(pooled), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net.all_logits(images()), torch.stack(each), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net(images()), each[0] + each[1] + each[2], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(each[0], each[1])
