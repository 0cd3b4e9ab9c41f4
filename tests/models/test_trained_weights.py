"""Networks of torchvision that start from trained weights, and trunks that learn slowly or stand still."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_cases import STRANGER, only, options, record, train
from safetensors.torch import save_file
from torchvision.models import resnet

from lt_bench.errors import UserError
from lt_bench.files import sha256_of
from lt_bench.models import build_network
from lt_bench.models.backbones.imagenet_resnet import ResNet10, ResNet152
from lt_bench.models.backbones.trained_weights import published_as
from lt_bench.recipe import load_recipe
from lt_bench.trained import load_network
from lt_bench.training.evaluate import evaluate_weights
from lt_bench.training.network import build_recipe_network, check_network


@pytest.fixture
def file(working_folder: Path) -> Path:
    """The state of a ResNet-10 of 1000 classes, as torch saves it."""
    path = working_folder / "resnet10.pth"
    torch.save(resnet10().state_dict(), path)
    return path


def resnet10() -> resnet.ResNet:
    torch.manual_seed(1)
    return resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1])


def choice(*overrides: str) -> ResNet10:
    found = load_recipe("imagenet-mini/ce", overrides).backbone_choice()
    backbone: ResNet10 = found.component(found.config)
    return backbone


@pytest.mark.parametrize("end", [".pth", ".safetensors"])
def test_a_network_starts_from_a_file_of_weights(file: Path, end: str) -> None:
    state = torch.load(file, weights_only=True)
    path = file.with_suffix(end)
    if end == ".safetensors":
        save_file(state, path)
    backbone = choice(f"model.backbone={{name: resnet10, weights: {path.name}}}")
    net = build_network(backbone, "dual-branch", 10)
    first, second = (branch.get_submodule("stage").state_dict() for branch in net.branches)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(net.trunk[0].weight, state["conv1.weight"])
    assert torch.equal(first["0.bn2.running_mean"], state["layer4.0.bn2.running_mean"])
    assert [len(classifier.weight) for classifier in net.classifiers] == [10, 10]
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match=f"{path.name} is another file than the recipe was read with"):
        build_network(ResNet10(backbone.config), "linear", 10)


def test_the_draws_of_the_rest_do_not_depend_on_weights(file: Path) -> None:
    trained = build_network(choice(f"model.backbone={{name: resnet10, weights: {file.name}}}"), "linear", 10, seed=3)
    drawn = build_network("resnet10", "linear", 10, seed=3)
    assert torch.equal(trained.classifiers[0].weight, drawn.classifiers[0].weight)
    assert not torch.equal(trained.trunk[0].weight, drawn.trunk[0].weight)


def test_the_file_is_part_of_what_a_recipe_is(file: Path) -> None:
    name, override = "imagenet-mini/ce", f"model.backbone={{name: resnet10, weights: {file.name}}}"
    before = load_recipe(name, [override]).sha256()
    file.write_bytes(file.read_bytes() + b"\0")
    assert load_recipe(name, [override]).sha256() != before
    assert load_recipe(name, ["model.backbone={name: resnet10}"]).model.backbone == "resnet10"  # as in old records


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("{name: resnet18, weights: gone.pth}", "model.backbone.weights: gone.pth: No such file"),
        (
            "{name: resnet18, weights: resnet10.pth, pretrained: IMAGENET1K_V1}",
            "either torchvision's weights or a file",
        ),
        ("{name: resnet18, pretrained: IMAGENET1K_V2}", "torchvision has for resnet18: IMAGENET1K_V1 "),
        ("{name: resnet10, pretrained: IMAGENET1K_V1}", "torchvision has for resnet10: none"),
        ("{name: resnet18, pretrained: true}", "model.backbone.pretrained"),
    ],
)
def test_weights_that_cannot_be_are_told_when_a_recipe_is_read(file: Path, backbone: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_recipe("imagenet-mini/ce", [f"model.backbone={backbone}"])
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_refused(file: Path) -> None:
    def started(name: str, path: Path) -> None:
        build_network(choice(f"model.backbone={{name: {name}, weights: {path.name}}}"), "linear", 10)

    with pytest.raises(
        UserError, match=r"resnet10.pth for resnet18: 48 of the network's 120 tensors are not in it, as"
    ):
        started("resnet18", file)
    wide = file.with_name("wide.pth")
    torch.save({name: torch.zeros(2) for name in resnet10().state_dict()}, wide)
    with pytest.raises(UserError, match=r"wide.pth for resnet10: of another network: "):
        started("resnet10", wide)
    broken = file.with_name("broken.pth")
    broken.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"broken.pth: not a readable file of weights: "):
        started("resnet10", broken)


def test_torchvisions_weights_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    state = resnet.resnet18().state_dict()
    asked = []

    def get_state_dict(self: object, *_: object, **arguments: object) -> dict[str, torch.Tensor]:
        asked.append((str(self), arguments["check_hash"]))
        return state

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", get_state_dict)
    net = build_network(choice("model.backbone={name: resnet18, pretrained: IMAGENET1K_V1}"), "dual-branch", 10)
    assert asked == [("ResNet18_Weights.IMAGENET1K_V1", True)]  # once, for three parts
    assert torch.equal(net.trunk[0].weight, state["conv1.weight"])

    def fail(*_: object, **__: object) -> None:
        raise OSError("no\nnetwork")

    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", fail)
    with pytest.raises(UserError, match="IMAGENET1K_V1 cannot be had: no network; a file of them comes in by") as error:
        build_network(choice("model.backbone={name: resnet18, pretrained: IMAGENET1K_V1}"), "linear", 10)
    assert "\n" not in str(error.value)


def test_a_record_tells_what_it_starts_from(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = sha256_of(file)
    given = choice(f"model.backbone={{name: resnet10, weights: {file.name}}}").provenance()
    assert given == ("torchvision/resnet10", file.name, "unnamed data", digest)
    assert ResNet10().provenance() is None
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(file.parent))
    (cached := file.parent / "checkpoints").mkdir()
    (cached / "resnet18-f37072fd.pth").write_bytes(file.read_bytes())
    found = choice("model.backbone={name: resnet18, pretrained: IMAGENET1K_V1}").provenance()
    assert found is not None
    assert (found.network, found.source, found.sha256) == ("torchvision/resnet18", "torchvision", digest)
    assert published_as("resnet152", f"394f9c45{'0' * 56}") == "IMAGENET1K_V1"


def test_places_lt_starts_from_a_trained_resnet_152() -> None:
    recipe = load_recipe("places-lt/sade")
    assert recipe.model.backbone == {"name": "resnet152", "pretrained": "IMAGENET1K_V1"}
    assert recipe.model.trunk_lr_factor == 0.1
    assert isinstance(recipe.backbone_choice().component(recipe.backbone_choice().config), ResNet152)
    check_network(recipe)  # which fetches nothing


# --- the rate of the trunk ---------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.0])
def test_a_trunk_learns_at_its_share_of_the_rate(rate: float) -> None:
    recipe = load_recipe("imagenet-mini/ce", [f"model.trunk_lr_factor={rate}"])
    assert recipe.sha256() != load_recipe("imagenet-mini/ce").sha256()
    assert (
        load_recipe("imagenet-mini/ce", ["model.trunk_lr_factor=1.0"]).sha256()
        == load_recipe("imagenet-mini/ce").sha256()
    )
    network = build_recipe_network(recipe, 10, seed=0)
    rates = network.rates()
    trunk = set(network.trunk.parameters())
    assert {rates.get(parameter, 0.0) for parameter in trunk} == {rate}
    assert {rates[parameter] for parameter in network.branches.parameters()} == {1.0}
    network.train()
    assert all(module.training == (rate > 0) for module in network.trunk.modules())
    assert network.branches[0].training
    assert all(parameter.requires_grad == (rate > 0) for parameter in trunk)


def test_a_head_whose_branches_share_nothing_has_no_trunk() -> None:
    with pytest.raises(UserError, match=r"imagenet-mini/ncl: model.trunk_lr_factor: nothing is shared by the branches"):
        check_network(load_recipe("imagenet-mini/ncl", ["model.trunk_lr_factor=0.5"]))
    for method in ("ncl", "jocor"):
        check_network(load_recipe(f"places-lt/{method}"))
    assert isinstance(ResNet10().untrained(), ResNet10)


def test_a_run_leaves_a_still_trunk_as_it_was_and_is_evaluated_without_its_file(working_folder: Path) -> None:
    path = working_folder / "resnet10.safetensors"
    state = resnet10().state_dict()
    save_file(state, path)
    backbone = f"model.backbone={{name: resnet10, weights: {path.name}}}"
    recipe = load_recipe("digits-lt/ce", [*STRANGER, "protocol.epochs=1", backbone, "model.trunk_lr_factor=0"])
    train(recipe, working_folder)
    path.unlink()
    trained = only(working_folder / "runs", "weights.safetensors")
    found = evaluate_weights(trained, options(working_folder))
    assert tuple(found.summary["correct"]) == record(working_folder).selections["last"].correct
    trunk = load_network(trained).network.trunk.state_dict()
    assert torch.equal(trunk["0.weight"], state["conv1.weight"])
    assert torch.equal(trunk["1.running_mean"], state["bn1.running_mean"])
