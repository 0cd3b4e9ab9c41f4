"""What learns of a pretrained network: counts, identity at the start; all else stands still and is not saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from foundation_cases import CLASSES, DEPTH, VIT, WIDTH, clip, network, vit

from lt_bench.errors import UserError
from lt_bench.models import Network, build_network, place_tuner
from lt_bench.models.backbones.clip import Clip
from lt_bench.models.backbones.timm import Timm
from lt_bench.models.tuners import bottleneck_width, power_of_two
from lt_bench.models.tuners.adaptformer import Bottleneck
from lt_bench.models.tuners.lora import LowRank
from lt_bench.models.tuners.vpt import prompt_bound
from lt_bench.nodes import IDLE_TUNERS
from lt_bench.registry import lookup, members

BACKBONES = {"clip": clip, "vit": vit}
FULL = {"clip": lambda: Clip(model="ViT-B-16-quickgelu"), "vit": lambda: Timm(model="vit_base_patch16_224")}
SHALLOW, PLUS = {"deep": False}, {"prompts": None, "place": "after-class-token", "drawn": "normal"}
OF_CONVOLUTIONS = {"extra-block"}  # which has tests of its own
TUNERS: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in sorted(members("tuner").keys() - OF_CONVOLUTIONS)]
TUNERS += [("vpt", SHALLOW), ("vpt", PLUS), ("lora", {"rule": "lift-plus"}), ("arbitrary", {"share": 0.3})]
NAMED = [f"{name}{'-' if given else ''}{'-'.join(map(str, given.values()))}" for name, given in TUNERS]
every_tuner = pytest.mark.parametrize(("name", "given"), TUNERS, ids=NAMED)
both = pytest.mark.parametrize("kind", BACKBONES)


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tuned(kind: str, name: str, given: dict[str, Any] | None = None) -> Network:
    net = network(BACKBONES[kind]())
    place_tuner(lookup("tuner", name)(**(given or {})), net, CLASSES)
    return net


def test_tables_know_with_which_nothing_learns() -> None:
    assert {name for name, tuner in members("tuner").items() if not tuner.learns} == IDLE_TUNERS


def learned(net: Network) -> int:
    """Parameters that learn beside the classifier's."""
    return sum(one.numel() for one in net.rates()) - sum(one.numel() for one in net.classifiers[0].parameters())


# --- how many learn ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FULL)
@pytest.mark.parametrize(
    ("name", "given", "classes", "count"),
    [
        ("adaptformer", {}, 100, 101_436),
        ("adaptformer", {}, 365, 175_212),
        ("adaptformer", {}, 1000, 617_868),
        ("adaptformer", {}, 8142, 4_749_324),
        ("adapter", {}, 1000, 617_868 - 12),
        ("bitfit", {}, 1000, 101_376),
        ("full", {}, 1000, 85_054_464),
        ("classifier", {}, 1000, 0),
        ("vpt", {}, 1000, 92_160),
        ("vpt", SHALLOW, 1000, 7_680),
        ("vpt", PLUS, 1000, 589_824),
        ("lora", {}, 1000, 1_179_648),
        ("lora", {"rule": "lift-plus"}, 1000, 589_824),
    ],
)
def test_as_many_learn_of_a_vit_b_as_in_lift(
    kind: str, name: str, given: dict[str, Any], classes: int, count: int
) -> None:
    with torch.device("meta"):
        net = build_network(FULL[kind](), "scaled-cosine", classes)
        assert net.classifiers[0].weight.numel() == classes * 768
        place_tuner(lookup("tuner", name)(**given), net, classes)
        assert learned(net) == count


def test_a_vit_b_without_classifier_is_as_large_as_that_of_lift() -> None:
    with torch.device("meta"):
        net = build_network(FULL["vit"](), "scaled-cosine", 1)
    assert sum(one.numel() for one in net.parameters()) - 768 == 85_798_656


@pytest.mark.parametrize(("classes", "narrow"), [(100, 4), (365, 8), (1000, 32), (8142, 256), (10, 1)])
def test_the_width_follows_the_classes(classes: int, narrow: int) -> None:
    assert bottleneck_width(classes, 12) == narrow
    assert power_of_two(classes / 48) == max(1, narrow // 2)


def test_arbitrary_chooses_a_share_of_every_layer_with_its_bias() -> None:
    of_a_block = (WIDTH * 3 * (WIDTH + 1), WIDTH * (WIDTH + 1), 4 * WIDTH * (WIDTH + 1), WIDTH * (4 * WIDTH + 1))
    for share in (0.01, 0.3, 1.0):
        net = tuned("clip", "arbitrary", {"share": share})
        assert learned(net) == DEPTH * sum(int(entries * share) for entries in of_a_block)


# --- what it begins as -------------------------------------------------------------------------------


@both
@every_tuner
def test_all_but_prompts_leave_the_network_as_it_was(kind: str, name: str, given: dict[str, Any]) -> None:
    plain, net = network(BACKBONES[kind]()).eval(), tuned(kind, name, given).eval()
    with torch.no_grad():  # with gradients torch takes another way through attention
        assert torch.equal(net(images()), plain(images())) == (name != "vpt")


def test_a_bottleneck_is_the_formula() -> None:
    torch.manual_seed(0)
    module, x = Bottleneck(6, 2, "normal", scale=True), torch.randn(3, 4, 6)
    assert not module(x).any()
    for tensor in module.parameters():
        torch.nn.init.normal_(tensor)
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    normed = (x - mean) / (variance + 1e-5).sqrt() * module.norm.weight + module.norm.bias
    narrow = (normed @ module.down.weight.T + module.down.bias).clamp(min=0)
    expected = module.scale * (narrow @ module.up.weight.T + module.up.bias)
    torch.testing.assert_close(module(x), expected)


def test_bottlenecks_are_drawn_by_kaimings_rule() -> None:
    torch.manual_seed(0)
    normal, uniform = (Bottleneck(768, 256, drawn, scale=False).down.weight.detach() for drawn in ("normal", "uniform"))
    assert normal.std() == pytest.approx(0.02083, rel=0.01)
    assert normal.abs().max() > 0.06
    assert uniform.abs().max() == pytest.approx(0.03608, rel=1e-3)


@both
def test_adaptformer_adds_beside_the_mlp_and_adapter_behind_it(kind: str) -> None:
    for name in ("adaptformer", "adapter"):
        net = tuned(kind, name).eval()
        block = net.paths[0][1][0]
        norm = network(BACKBONES[kind]()).eval().paths[0][1][0]
        x = torch.randn(2, 5, WIDTH)
        torch.nn.init.normal_(block.mlp.added.up.weight)
        inner, plain = (getattr(one, "norm2" if kind == "vit" else "ln_2") for one in (block, norm))
        own = norm.mlp(plain(x))
        expected = own + block.mlp.added(x if name == "adaptformer" else own)
        torch.testing.assert_close(block.mlp(inner(x)), expected)


def test_prompts_are_drawn_as_in_lift() -> None:
    assert prompt_bound(16, 768) == pytest.approx(0.0625)
    uniform, normal = (tuned("clip", "vpt", given) for given in ({"prompts": 400}, {**PLUS, "prompts": 400}))
    bound = prompt_bound(16, WIDTH)
    assert 0.99 * bound < uniform.paths[0][0][1].prompts.detach().abs().max() <= bound
    assert normal.paths[0][0][1].prompts.detach().std() == pytest.approx(0.02, rel=0.05)


@both
@pytest.mark.parametrize(("given", "blocks"), [({}, DEPTH), (PLUS | {"prompts": 3}, DEPTH), (SHALLOW, 1)])
def test_prompts_come_in_where_they_should(kind: str, given: dict[str, Any], blocks: int) -> None:
    """Every block sees them among its tokens, and those of no other block."""
    net = tuned(kind, "vpt", given).eval()
    prompts = [one for name, one in net.named_parameters() if name.endswith("prompts")]
    assert len(prompts) == blocks
    seen: list[int] = []
    for part in net.modules():
        if type(part).__name__ in ("Block", "ResidualAttentionBlock"):
            part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    net(images())
    assert seen == [5 + len(prompts[0])] * DEPTH  # four patches, a class token, and prompts, never those of before


def test_low_rank_additions_change_queries_and_values_alone() -> None:
    torch.manual_seed(0)
    module, weight = LowRank(6, 2), torch.randn(18, 6)
    assert torch.equal(module(weight), weight)
    assert module.down.abs().max() <= 2**-0.5
    assert LowRank(600, 32).down.detach().abs().max() == pytest.approx(0.1768, rel=1e-3)
    torch.nn.init.normal_(module.up)
    change = module(weight) - weight
    for part, row in ((0, 0), (1, 12)):
        torch.testing.assert_close(change[row : row + 6], module.up[part] @ module.down[part] / 2)
    assert not change[6:12].any()


# --- what it does in a step --------------------------------------------------------------------------


@both
@every_tuner
def test_only_what_learns_changes_and_is_saved(kind: str, name: str, given: dict[str, Any], tmp_path: Path) -> None:
    wide = {"width": 8} if name.startswith("adapt") else {}  # of one unit alone its ReLU may see nothing
    net = tuned(kind, name, given | wide)
    before = {key: one.detach().clone() for key, one in net.named_parameters()}
    rates = net.rates()
    if name == "none":
        assert not rates
    else:
        for _ in range(2):  # what begins at 0 hides what stands before it from the first step
            optimizer = torch.optim.SGD(list(rates), lr=0.05)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(images()), torch.arange(3)).backward()
            optimizer.step()
    changed = {key for key, one in net.named_parameters() if not torch.equal(one, before[key])}
    should = {key for key, one in net.named_parameters() if one in rates}
    assert changed <= should
    # A few get no gradient, as keys' biases, which no softmax sees, and what ReLUs cut off.
    assert len(should - changed) <= len(should) / 10
    saved = net.state_dict()
    assert saved.keys() == should or name in ("none", "classifier")
    fresh = tuned(kind, name, given | wide)
    fresh.load_state_dict(saved)
    assert torch.equal(fresh.eval()(images()), net.eval()(images()))


def test_all_learns_at_its_own_rate() -> None:
    rates = tuned("clip", "full", {"lr_factor": 0.05}).rates()
    assert set(rates.values()) == {0.05}
    assert (
        learned(tuned("clip", "full"))
        == sum(
            one.numel()
            for name, one in network(clip()).named_parameters()
            if ".ln_" in name or "attn" in name or "mlp" in name
        )
        - 4 * WIDTH
    )  # the norms before and behind the blocks


@pytest.mark.parametrize("name", ["classifier", "adaptformer"])
def test_what_is_pretrained_computes_in_training_as_in_evaluation(name: str) -> None:
    net = build_network("resnet8", "scaled-cosine", CLASSES) if name == "classifier" else network(vit(), seed=0)
    place_tuner(lookup("tuner", name)(), net, CLASSES)
    buffers = {key: one.clone() for key, one in net.named_buffers()}
    net.train()(images(8))
    assert all(torch.equal(one, buffers[key]) for key, one in net.named_buffers())
    assert not any(part.training for tuned in net.tuned for part in tuned.modules())


def test_several_branches_are_tuned_each_in_its_own_blocks() -> None:
    net = build_network(clip(), "dual-branch", CLASSES)
    place_tuner(lookup("tuner", "adaptformer")(width=2), net, CLASSES)
    scales = [name for name, _ in net.named_parameters() if name.endswith("added.scale")]
    assert len(scales) == 3 + 2  # three blocks of the trunk, the last of each branch
    assert len(set(scales)) == len(scales)


@pytest.mark.parametrize("model", ["xcit_nano_12_p8_224", "eva02_tiny_patch14_224", "beit_base_patch16_224"])
def test_blocks_that_add_up_otherwise_are_not_taken_for_those_of_a_vit(model: str) -> None:
    with torch.device("meta"):
        net = build_network(Timm(model=model), "linear", CLASSES)
        with pytest.raises(UserError, match="adaptformer needs the blocks of a vision transformer"):
            place_tuner(lookup("tuner", "adaptformer")(), net, CLASSES)


def test_a_network_without_blocks_is_refused() -> None:
    net = build_network("resnet8", "scaled-cosine", CLASSES)
    with pytest.raises(UserError, match="lora needs the blocks of a vision transformer"):
        place_tuner(lookup("tuner", "lora")(), net, CLASSES)


def test_a_network_that_scales_its_branches_is_refused() -> None:
    net = network(Timm(model="vit_tiny_patch16_224", image_size=32, arguments=VIT | {"init_values": 0.1}))
    with pytest.raises(UserError, match="adapter adds to what an MLP gives, and this network scales or drops that"):
        place_tuner(lookup("tuner", "adapter")(), net, CLASSES)
