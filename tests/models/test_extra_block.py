"""The block that MiSLAS trains behind a ResNet-152 which stands still."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from foundation_cases import clip, network, vit
from torch import nn

from lt_bench.errors import UserError
from lt_bench.models import Network, build_network, place_tuner
from lt_bench.models.backbones.pyramidnet import PyramidNet20
from lt_bench.models.tuners.extra_block import ExtraBlock
from lt_bench.stages import DecoupledNetwork
from lt_bench.stages.mislas import MiSLAS

CLASSES = 10
BLOCK = "branches.0.stage.1."


def tuned(backbone: str = "resnet18") -> Network:
    net = build_network(backbone, "linear", CLASSES)
    place_tuner(ExtraBlock(), net, CLASSES)
    return net


def images() -> torch.Tensor:
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def statistics(net: Network) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in net.named_buffers() if "running" in name}


def moved(net: Network) -> set[str]:
    """The running statistics that a pass in training mode moves."""
    before = statistics(net)
    with torch.no_grad():
        net.train()(images())
    return {name for name, buffer in statistics(net).items() if not torch.equal(buffer, before[name])}


def test_of_resnet152_on_places_so_much_learns() -> None:
    with torch.device("meta"):
        net = build_network("resnet152", "linear", 365)
        place_tuner(ExtraBlock(), net, 365)
    norms, convolutions = 2 * (512 + 512 + 2048), 2048 * 512 + 9 * 512 * 512 + 512 * 2048
    learned = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    assert learned == norms + convolutions + 365 * (2048 + 1)


def test_the_block_stands_between_the_last_maps_and_their_mean() -> None:
    plain, net = build_network("resnet18", "linear", CLASSES).eval(), tuned().eval()
    (branch,), (before,) = net.branches, plain.branches
    maps = before.get_submodule("stage")(plain.trunk(images()))
    block: Any = branch.get_submodule("stage.1")
    inner = block.bn2(block.conv2(block.bn1(block.conv1(maps)).relu())).relu()
    features = (maps + block.bn3(block.conv3(inner))).relu().mean((-2, -1))
    torch.testing.assert_close(net(images()), before.get_submodule("classifier")(features))


def test_all_but_the_block_computes_as_in_evaluation() -> None:
    net = tuned()
    names = moved(net)
    assert names == {name for name in statistics(net) if name.startswith(BLOCK)}
    assert len(names) == 6


def test_in_the_second_stage_only_its_statistics_move() -> None:
    net = DecoupledNetwork(tuned(), MiSLAS, MiSLAS.Config(shifted_batch_norm=True), seed=0)
    assert {name.removeprefix(BLOCK) for name in moved(net)} == {
        f"bn{layer}.running_{kind}" for layer in (1, 2, 3) for kind in ("mean", "var")
    }
    assert not any(parameter.requires_grad for name, parameter in net.named_parameters() if "classifier" not in name)
    still = DecoupledNetwork(tuned(), MiSLAS, MiSLAS.Config(shifted_batch_norm=False), seed=0)
    assert not moved(still)


def test_what_stands_still_is_not_saved() -> None:
    net = tuned()
    learned = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    buffers = {name for name, _ in net.named_buffers()}
    assert set(net.state_dict()) == learned | buffers
    other = tuned()
    for parameter in other.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    net.load_state_dict(other.state_dict())
    assert torch.equal(net.eval()(images()), other.eval()(images()))


@pytest.mark.parametrize("kind", ["clip", "vit"])
def test_a_transformer_has_no_place_for_it(kind: str) -> None:
    net = network({"clip": clip, "vit": vit}[kind]())
    with pytest.raises(UserError, match="extra-block needs a convolutional network"):
        place_tuner(ExtraBlock(), net, CLASSES)


def test_other_residual_networks_take_it() -> None:
    net = build_network(PyramidNet20, "linear", CLASSES)
    place_tuner(ExtraBlock(), net, CLASSES)
    assert net(images()[..., :32, :32]).shape == (4, CLASSES)
