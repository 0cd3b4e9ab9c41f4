"""What every regulariser promises, and what each does to a network."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from network_cases import (
    SmallMixed,
    SmallPreActResNet,
    SmallPyramidNet,
    SmallResNet,
    SmallShakeShake,
    SmallWideResNet,
    images,
)
from torch import Tensor, nn

from lt_bench.data.types import Epoch
from lt_bench.errors import UserError
from lt_bench.models import Backbone, Network, build_network, norm
from lt_bench.models.backbones.cifar_resnet import ResNet8
from lt_bench.models.backbones.imagenet_resnet import ResNet10
from lt_bench.models.backbones.preact_resnet import PreActBlock
from lt_bench.models.backbones.vision_transformer import ViTTiny
from lt_bench.models.norm import BatchNormReLU, fuse
from lt_bench.models.residual import residual_branches
from lt_bench.native import NoCompilerError
from lt_bench.regularisers import (
    DropBlock,
    Dropout,
    MaxDropout,
    Regulariser,
    ShakeDrop,
    ShakeShake,
    StochasticDepth,
    ZeroInit,
    place_all,
)
from lt_bench.regularisers.max_dropout import without_largest
from lt_bench.trained import plain_state_dict

RESIDUAL = [ResNet8, SmallResNet, SmallPreActResNet, SmallWideResNet, SmallMixed, SmallPyramidNet, SmallShakeShake]
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


# --- DropBlock ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "gamma"), [(14, 0.00625), (32, 0.00309141)])
def test_the_law_of_drop_block_counts_that_squares_stay_inside(
    monkeypatch: pytest.MonkeyPatch, side: int, gamma: float
) -> None:
    laws: list[float] = []
    monkeypatch.setattr(Tensor, "bernoulli_", lambda noise, law: laws.append(law) or noise.zero_())
    drop = DropBlock(rate=0.1, side=7, ramp=False)
    drop.begin(Epoch(0, 10, 0))
    drop.dropped(torch.ones(2, 3, side, side))
    assert laws == pytest.approx([gamma], abs=5e-9)


def test_squares_are_dropped_in_each_channel_by_itself_and_the_rest_scaled_up() -> None:
    drop = DropBlock(rate=0.1, side=3, ramp=False)
    drop.begin(Epoch(0, 10, 0))
    torch.manual_seed(0)
    found = drop.dropped(torch.ones(64, 2, 16, 16))
    zero = found == 0
    assert float(zero.float().mean()) == pytest.approx(0.1, abs=0.02)
    assert float(found.mean()) == pytest.approx(1, abs=1e-4)
    assert not torch.equal(zero[:, 0], zero[:, 1])
    covered = -F.max_pool2d(-F.pad(zero.float(), [0] * 4), 3, 1)  # squares that are zero as a whole
    assert torch.equal(F.max_pool2d(F.pad(covered, [2] * 4), 3, 1).bool(), zero)


def test_the_rate_rises_to_the_last_epoch() -> None:
    drop, at_once = DropBlock(rate=0.1), DropBlock(rate=0.1, ramp=False)
    rates = []
    for epoch in range(4):
        drop.begin(Epoch(epoch, 4, 0))
        at_once.begin(Epoch(epoch, 4, 0))
        rates.append((drop.rate, at_once.rate))
    assert rates == [(pytest.approx(0.025 * epoch), 0.1) for epoch in (1, 2, 3, 4)]


def test_the_loop_tells_the_epoch() -> None:
    drop = DropBlock()
    network = regularised(drop)
    for one in network.regularisers:
        one.begin(Epoch(1, 4, 0))
    assert drop.rate == 0.05


@pytest.mark.parametrize("side", [1, 2, 4, 5])
def test_a_square_is_no_larger_than_the_map(side: int) -> None:
    drop = DropBlock(rate=0.9, ramp=False)
    drop.begin(Epoch(0, 1, 0))
    assert drop.dropped(torch.ones(8, 4, side, side)).isfinite().all()


def test_a_square_has_an_odd_side() -> None:
    with pytest.raises(UserError, match=r"DropBlock\.side: should be odd, found 4"):
        DropBlock(side=4)


@pytest.mark.parametrize(("head", "count"), [("linear", 2), ("experts", 6), ("dual-branch", 3), ("bilateral", 3)])
def test_it_acts_behind_the_last_stages_of_every_branch(head: str, count: int) -> None:
    network = build_network(ResNet8, head, 7)
    stages = DropBlock().stages(network, last=2)
    assert len(stages) == count
    for branch in network.branches:
        assert any(part in stages for part in branch.modules())


def test_tokens_are_no_maps() -> None:
    with pytest.raises(UserError, match=r"^regularise\.drop-block: needs stages that give maps"):
        regularised(DropBlock(), backbone=ViTTiny)


# --- MaxDropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_largest_activations_are_dropped_and_the_rest_is_not_scaled(dtype: torch.dtype) -> None:
    x = torch.tensor([0, 1, 2, 3, 10], dtype=dtype, requires_grad=True)
    found = without_largest(x, 0.3)
    assert found.tolist() == [0, 1, 2, 3, 0]
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 1, 1, 1, 0]
    batch = torch.stack((torch.tensor([0.0, 1, 2]), torch.tensor([0.0, 5, 10])))
    assert without_largest(batch, 0.3).tolist() == [[0, 1, 2], [0, 5, 0]]  # the range of the whole batch


def test_what_is_constant_is_kept() -> None:
    x = torch.full((4, 3), 2.0)
    assert torch.equal(without_largest(x, 0.3), x)


def test_by_default_it_is_off_in_evaluation() -> None:
    plain = build_network(ResNet8, "linear", 7).eval()
    off, on = (regularised(MaxDropout(legacy_eval_on=legacy)).eval() for legacy in (False, True))
    assert torch.equal(off(images()), plain(images()))
    assert not torch.equal(on(images()), plain(images()))


def test_it_acts_behind_stages_or_inside_of_blocks() -> None:
    network, wide = (build_network(backbone, "linear", 7) for backbone in (ResNet8, SmallWideResNet))
    assert len(MaxDropout().stages(network)) == 3
    inside = MaxDropout(where="blocks").inside(wide)
    blocks = [part for part in wide.modules() if isinstance(part, PreActBlock)]
    assert inside == [block.main[1] for block in blocks]  # type: ignore[index]
    with pytest.raises(UserError, match=r"^regularise\.max-dropout: where=blocks needs pre-activation blocks"):
        regularised(MaxDropout(where="blocks"))


# --- how a network begins ----------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", [ResNet8, SmallResNet, SmallPyramidNet, SmallShakeShake, ResNet10])
def test_branches_begin_at_zero(backbone: type[Backbone]) -> None:
    network = regularised(ZeroInit(), backbone=backbone)
    branches = [branch for branch, _ in residual_branches(network)]
    weights = [norm.get_parameter("weight") for branch in branches for norm in branch.norms]
    assert len(weights) == len(branches) * (2 if backbone is SmallShakeShake else 1)
    new = {ResNet8: [0, 16, 32], SmallPyramidNet: [4] * 3}  # channels that no shortcut brings
    found = [int(weight.count_nonzero()) for weight in weights]
    assert found == new.get(backbone, [0] * len(weights))
    assert sum(not p.any() for name, p in network.named_parameters() if "weight" in name) == found.count(0)
    network(images()).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in weights)


@pytest.mark.parametrize("backbone", [ResNet8, SmallPyramidNet])
def test_no_channel_is_cut_off_from_its_gradient(backbone: type[Backbone]) -> None:
    network = regularised(ZeroInit(), backbone=backbone)
    network(images(count=32)).square().sum().backward()
    for branch, _ in residual_branches(network):
        for last in branch.norms:
            gradient = last.get_parameter("weight").grad
            assert gradient is not None
            assert gradient.count_nonzero() == gradient.numel()


@pytest.mark.parametrize("backbone", [SmallPreActResNet, SmallWideResNet, SmallMixed])
def test_a_branch_that_ends_in_a_convolution_has_no_last_norm(backbone: type[Backbone]) -> None:
    with pytest.raises(UserError, match=r"^regularise\.zero-init: needs residual branches that end in a batch norm"):
        regularised(ZeroInit(), backbone=backbone)


# --- promises of all ---------------------------------------------------------------------------------


def cases() -> Iterator[tuple[Regulariser, type[Backbone]]]:
    yield Dropout(), ResNet8
    for backbone in RESIDUAL:
        yield StochasticDepth(rate=0.9), backbone
        yield StochasticDepth(rate=0.9, per="image"), backbone
        yield ShakeDrop(rate=0.9), backbone
    yield DropBlock(), ResNet8
    yield ShakeShake(), SmallShakeShake


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


@pytest.mark.parametrize(
    ("regulariser", "training", "evaluation"),
    [(Dropout(), 7, 7), (DropBlock(), 7, 7), (StochasticDepth(), 4, 7), (ShakeDrop(), 4, 4)],
    ids=lambda one: getattr(one, "name", str(one)),
)
def test_only_a_changed_branch_does_without_the_kernels(
    regulariser: Regulariser, training: int, evaluation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a stem and three blocks of two normalisations each."""
    served: list[Tensor] = []
    monkeypatch.setattr(norm, "_fused", lambda x, residual, layer: served.append(x) or torch.relu(x))
    network = regularised(regulariser).to(memory_format=torch.channels_last)
    for part in network.modules():
        if isinstance(part, BatchNormReLU):
            part.fused = True
    x = images(count=16).to(memory_format=torch.channels_last)
    for mode, count in ((True, training), (False, evaluation)):
        served.clear()
        network.train(mode)(x)
        assert len(served) == count


ALL = (Dropout(), DropBlock(), MaxDropout(rate=0.1), StochasticDepth(), ShakeDrop(), ShakeShake(), ZeroInit())


def test_all_of_them_act_at_once() -> None:
    network = regularised(*ALL, backbone=SmallShakeShake)
    assert network.regularisers == ALL
    drawn(network, images(count=8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert torch.equal(drawn(network, images(count=8)), drawn(network, images(count=8)))
    assert network.eval()(images()).isfinite().all()


def test_weights_that_need_a_regulariser_are_no_plain_resnet() -> None:
    assert plain_state_dict(regularised(Dropout(), StochasticDepth())).keys() == plain_state_dict(regularised()).keys()
    for one in (ShakeDrop(), MaxDropout(legacy_eval_on=True)):
        with pytest.raises(UserError, match=f"has no place for {one.name}, which acts in evaluation as well"):
            plain_state_dict(regularised(one))
