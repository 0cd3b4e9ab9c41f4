"""What every regulariser promises, and what each does to a network."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from network_cases import SmallMixed, SmallPreActResNet, SmallResNet, SmallWideResNet, images
from torch import Tensor, nn

from lt_bench.models import Backbone, Network, build_network
from lt_bench.models.backbones.cifar_resnet import ResNet8
from lt_bench.models.norm import fuse
from lt_bench.models.residual import residual_branches
from lt_bench.native import NoCompilerError
from lt_bench.regularisers import Dropout, Regulariser, StochasticDepth, place_all

RESIDUAL = [ResNet8, SmallResNet, SmallPreActResNet, SmallWideResNet, SmallMixed]
HEADS = ["linear", "experts", "bilateral", "dual-branch", "twin-classifier", "contrastive"]


def regularised(*regularisers: Regulariser, backbone: type[Backbone] = ResNet8, head: str = "linear") -> Network:
    network = build_network(backbone, head, 7)
    for one in regularisers:
        one.initialise(network)
    place_all(regularisers, network)
    return network


def drawn(network: nn.Module, x: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    logits: Tensor = network(x)
    return logits


# --- dropout -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_dropout_comes_before_every_classifier(head: str) -> None:
    network = regularised(Dropout(rate=0.25), head=head)
    seen: list[Tensor] = []
    for classifier in network.classifiers:
        classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    network(images(count=64))
    assert len(seen) == len(network.classifiers)
    for features in seen:
        assert float((features == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert len({float(features.sum()) for features in seen}) == len(seen)


def test_dropout_scales_up_what_it_keeps() -> None:
    plain, network = build_network(ResNet8, "linear", 7), regularised(Dropout(rate=0.5))
    given: list[Tensor] = []
    for one in (plain, network):
        one.classifiers[0].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        one(images())
    features, dropped = given
    torch.testing.assert_close(dropped[dropped != 0], 2 * features[dropped != 0])


# --- stochastic depth --------------------------------------------------------------------------------


def kept(network: Network, x: Tensor) -> list[Tensor]:
    """Of every residual branch that ends in a module: for each image whether it was left in."""
    found: list[Tensor] = []
    for branch, _ in residual_branches(network):
        branch.end.register_forward_hook(lambda _, __, y: found.append(y.flatten(1).ne(0).any(1)))
    network(x)
    return found


@pytest.mark.parametrize("backbone", RESIDUAL)
def test_branches_are_dropped_the_more_often_the_deeper_they_are(backbone: type[Backbone]) -> None:
    network = build_network(backbone, "linear", 7)
    depths = [depth for _, depth in residual_branches(network)]
    assert depths == pytest.approx([(place + 1) / len(depths) for place in range(len(depths))])


@pytest.mark.parametrize("head", HEADS)
def test_every_path_of_a_head_ends_at_the_whole_rate(head: str) -> None:
    network = build_network(SmallResNet, head, 7)
    depths = sorted(depth for _, depth in residual_branches(network))
    assert depths[-1] == 1
    assert set(depths) == {0.25, 0.5, 0.75, 1}


@pytest.mark.parametrize("per", ["batch", "image"])
def test_a_block_is_dropped_for_a_batch_or_for_an_image(per: str) -> None:
    torch.manual_seed(0)
    network = regularised(StochasticDepth(rate=0.9, per=per), backbone=SmallPreActResNet)
    shares = torch.stack([left_in.float().mean() for left_in in kept(network, images(count=32))])
    assert ((shares == 0) | (shares == 1)).all() == (per == "batch")
    if per == "image":
        assert shares.tolist() == pytest.approx([1 - 0.9 * place / 4 for place in (1, 2, 3, 4)], abs=0.2)


@pytest.mark.parametrize("backbone", [ResNet8, SmallResNet])
def test_a_dropped_branch_leaves_the_shortcut(backbone: type[Backbone]) -> None:
    """With all branches dropped an image passes through the shortcuts and the ReLUs behind the sums."""
    network = build_network(backbone, "linear", 7)
    for branch, _ in residual_branches(network):
        branch.change(StochasticDepth(rate=0.5).change(1.0))
    zeroed = build_network(backbone, "linear", 7)
    for branch, _ in residual_branches(zeroed):
        (norm,) = branch.norms
        nn.init.zeros_(norm.weight)  # type: ignore[arg-type]
    assert torch.equal(network(images()), zeroed(images()))


def test_what_is_kept_is_scaled_up() -> None:
    branch = torch.ones(4000, 1, 1, 1)
    torch.manual_seed(0)
    found = StochasticDepth(per="image").change(0.2).training(branch)
    assert set(found.flatten().tolist()) == {0.0, 1.25}
    assert float(found.mean()) == pytest.approx(1, abs=0.03)


# --- promises of all ---------------------------------------------------------------------------------


def cases() -> Iterator[tuple[Regulariser, type[Backbone]]]:
    yield Dropout(), ResNet8
    for backbone in RESIDUAL:
        yield StochasticDepth(rate=0.9), backbone
        yield StochasticDepth(rate=0.9, per="image"), backbone


every_case = pytest.mark.parametrize(("regulariser", "backbone"), list(cases()), ids=lambda one: type(one).__name__)


@every_case
def test_weights_go_with_and_without(regulariser: Regulariser, backbone: type[Backbone]) -> None:
    plain, network = build_network(backbone, "linear", 7), regularised(regulariser, backbone=backbone)
    assert list(network.state_dict()) == list(plain.state_dict())
    network.load_state_dict(plain.state_dict())
    same = torch.equal(network.eval()(images()), plain.eval()(images()))
    assert same != regulariser.in_evaluation


@every_case
def test_draws_come_from_the_global_generator(regulariser: Regulariser, backbone: type[Backbone]) -> None:
    network = regularised(regulariser, backbone=backbone)
    one, again, other = (drawn(deepcopy(network), images(count=8), seed) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, build_network(backbone, "linear", 7)(images(count=8)))


@every_case
def test_gradients_are_finite_in_bf16(regulariser: Regulariser, backbone: type[Backbone]) -> None:
    network = regularised(regulariser, backbone=backbone)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images(count=8))
    logits.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@every_case
def test_the_kernels_serve_the_rest(regulariser: Regulariser, backbone: type[Backbone]) -> None:
    plain = regularised(regulariser, backbone=backbone).to(memory_format=torch.channels_last)
    fused = regularised(regulariser, backbone=backbone).to(memory_format=torch.channels_last)
    try:
        fuse(fused)
    except NoCompilerError as error:
        pytest.skip(f"the kernels cannot be compiled here: {error}")
    x = images(count=16).to(memory_format=torch.channels_last)
    torch.testing.assert_close(drawn(plain, x), drawn(fused, x), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(drawn(plain.eval(), x), drawn(fused.eval(), x), rtol=1e-3, atol=1e-3)
