"""Networks of timm and vision transformers: cut in stages that compose to the whole, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from run_cases import STRANGER, only, options, record, train, weights
from safetensors.torch import save_file
from torch import Tensor, nn

from lt_bench.errors import UserError
from lt_bench.models import Network, build_backbone, build_network
from lt_bench.models.backbones.timm import Timm
from lt_bench.models.backbones.vision_transformer import DeiTSmall, VisionTransformer, ViTTiny
from lt_bench.recipe import load_recipe
from lt_bench.registry import lookup, members
from lt_bench.trained import load_network
from lt_bench.training.evaluate import evaluate_weights
from lt_bench.training.network import check_network

TINY_VIT = {"model": "vit_tiny_patch16_224", "image_size": 32, "arguments": {"embed_dim": 24, "patch_size": 8}}
TINY_SWIN = {"model": "swin_tiny_patch4_window7_224", "image_size": 64, "arguments": {"embed_dim": 24}}
CUT: dict[str, dict[str, Any]] = {
    "ResNet": {"model": "resnet10t"},
    "RegNet": {"model": "regnetx_002"},
    "ConvNeXt": {"model": "test_convnext"},
    "SwinTransformer": TINY_SWIN,
    "VisionTransformer": TINY_VIT,
}
WHOLE = {"model": "test_efficientnet"}
"""A network whose structure is not known here."""
MANY_BRANCHES = {"dual-branch", "experts", "bilateral"}
"""Heads that need a last stage of their own."""


def images(side: int = 64, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def of_timm(model: str, image_size: int | None = None, arguments: dict[str, Any] | None = None) -> nn.Module:
    """The network as timm builds it from the seed that the suite's begins with."""
    size = {} if image_size is None else {"img_size": image_size}
    return timm.create_model(model, num_classes=0, **size, **(arguments or {}))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- cutting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*CUT, "whole"])
def test_the_stages_compose_to_the_network_of_timm(kind: str) -> None:
    settings = CUT.get(kind, WHOLE)
    torch.manual_seed(3)
    plain = of_timm(**settings).eval()
    torch.manual_seed(3)
    backbone = Timm(**settings)
    trunk, last = backbone.whole()
    ours = nn.Sequential(trunk, last).eval()
    x = images(settings.get("image_size", 64))
    assert torch.equal(ours(x), plain(x)[:, :, None, None])
    assert parameters(ours) == parameters(plain)
    assert backbone.feature_dim == plain(x).shape[1]


@pytest.mark.parametrize("kind", CUT)
def test_a_cut_network_gives_branches_stages_of_their_own(kind: str) -> None:
    settings = CUT[kind]
    net = build_network(Timm(**settings), "dual-branch", 5)
    assert parameters(net.trunk) > 0
    assert torch.equal(*(_shapes(branch) for branch in net.branches))
    first, second = (branch.get_submodule("stage").state_dict() for branch in net.branches)
    assert any(not torch.equal(first[name], second[name]) for name in first)  # initialised apart
    logits = net(images(settings.get("image_size", 64)))
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def _shapes(module: nn.Module) -> Tensor:
    return torch.tensor([parameter.numel() for parameter in module.parameters()])


@pytest.mark.parametrize("head", sorted(members("head")))
@pytest.mark.parametrize("settings", [TINY_VIT, WHOLE], ids=["cut", "whole"])
def test_every_head_fits_or_says_why_not(settings: dict[str, Any], head: str) -> None:
    if settings is WHOLE and head in MANY_BRANCHES:
        with pytest.raises(UserError, match="timm/test_efficientnet is a EfficientNet, which has no last"):
            build_network(Timm(**settings), head, 7)
        return
    net = build_network(Timm(**settings), head, 7)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(images(32))
    assert logits.shape == (2, 7)
    logits.float().square().sum().backward()
    assert all(p.grad is not None for p in net.trunk.parameters())
    again = build_network(Timm(**settings), head, 7, seed=1)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(images(32)), net.eval()(images(32)))
    if len(net.branches) == 1:
        features, of_features = net.features_and_logits(images(32))
        assert features.shape[1] == Timm(**settings).feature_dim
        assert torch.equal(of_features, net(images(32)))


def test_experts_share_two_quarters_of_a_transformer() -> None:
    net = build_network(Timm(**TINY_VIT), "experts", 5, num_experts=2)
    depths = [sum(type(part).__name__ == "Block" for part in whole.modules()) for whole in (net.trunk, *net.branches)]
    assert depths == [6, 6, 6]


# --- vision transformers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "count"),
    [(ViTTiny, "vit_tiny_patch16_224", 5_717_416), (DeiTSmall, "deit_small_patch16_224", 22_050_664)],
)
def test_a_vision_transformer_is_that_of_timm(ours: type[VisionTransformer], theirs: str, count: int) -> None:
    with torch.device("meta"):
        plain = timm.create_model(theirs)
        settings = ours.fitted(ours.Config(), 224)
        net: Network = build_network(ours(settings), "linear", 1000)
    assert parameters(net) == parameters(plain) == count


@pytest.mark.parametrize(("side", "patch"), [(32, 4), (64, 8), (96, 12), (224, 16), (8, 1)])
def test_small_images_have_eight_patches_on_a_side(side: int, patch: int) -> None:
    fitted = ViTTiny.fitted(ViTTiny.Config(), side)
    assert (fitted.image_size, fitted.patch_size) == (side, patch)


def test_stochastic_depth_rises_to_the_rate_of_the_last_block() -> None:
    rates = [part.drop_prob for part in build_backbone("deit-tiny").modules() if type(part).__name__ == "DropPath"]
    assert rates[-1] == pytest.approx(0.1)
    assert rates[0] == pytest.approx(0.1 / 11)  # the first block has none
    assert not [part for part in build_backbone("vit-tiny").modules() if type(part).__name__ == "DropPath"]


# --- in a recipe -------------------------------------------------------------------------------------


def recipe_with(backbone: str, *more: str, recipe: str = "digits-lt/ce") -> Any:
    return load_recipe(recipe, [f"model.backbone={backbone}", *more])


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ("resnet8", "resnet8"),
        ("{name: resnet8}", "resnet8"),
        ("vit-tiny", {"name": "vit-tiny", "image_size": 32, "patch_size": 4, "drop_path": 0.0}),
        ("timm/resnet18", {"name": "timm", "model": "resnet18", "pretrained": False, "image_size": None}),
        ("timm/vit_tiny_patch16_224", {"name": "timm", "model": "vit_tiny_patch16_224", "image_size": 32}),
        ("{name: timm/resnet18, pretrained: true}", {"model": "resnet18.a1_in1k", "pretrained": True}),
    ],
)
def test_a_recipe_holds_all_that_the_network_depends_on(given: str, resolved: Any) -> None:
    found = recipe_with(given).resolved()["model"]["backbone"]
    assert found == resolved if isinstance(resolved, str) else resolved.items() <= found.items()


def test_a_setting_is_changed_by_an_override() -> None:
    recipe = load_recipe("digits-lt/ce", ["model.backbone=vit-tiny", "model.backbone.patch_size=8"])
    assert recipe.resolved()["model"]["backbone"]["patch_size"] == 8
    assert recipe.sha256() != recipe_with("vit-tiny").sha256()
    assert recipe_with("{name: resnet8}").sha256() == load_recipe("digits-lt/ce").sha256()


@pytest.mark.parametrize(
    ("backbone", "complaint"),
    [
        ("timm/resnt18", "model.backbone.model: 'resnt18' is not a known network of timm; did you mean resnet18?"),
        ("tim/resnet18", "model.backbone: 'tim' is not a known backbone; did you mean timm?"),
        ("timm", "model.backbone.model: this field is required"),
        ("{name: timm/resnet18, arguments: {wide: 2}}", "timm/resnet18 cannot be built: TypeError: .*'wide'"),
        ("{name: timm/resnet18, arguments: [1]}", "model.backbone.arguments: "),
        ("{name: timm/resnet18, weights: w.bin}", "weights: should be a .safetensors file, found w.bin"),
        ("{name: timm/resnet18, weights: w.safetensors}", "model.backbone.weights: w.safetensors: No such file"),
        (
            "{name: timm/resnet18, weights: w.safetensors, pretrained: true}",
            "either timm's pretrained weights or a file",
        ),
        ("{name: timm/test_vit4, pretrained: true}", "timm has no pretrained weights for test_vit4"),
        ("timm/inception_v3", "timm/inception_v3 does not take images of 32 pixels"),
        ("{name: vit-tiny, patch_size: 5}", "model.backbone.patch_size: images of 32 pixels do not come apart into"),
        ("{name: vit-tiny, image_size: 64}", "model.backbone: vit-tiny is built for images of 64 pixels, found 32"),
        ("{name: vit-tiny, image_size: 32, patch_size: 5}", "image_size 32 is no multiple of patch_size 5"),
        ("{name: resnet8, patch_size: 5}", "'patch_size' is not a known field of model.backbone"),
        ("[resnet8]", "model.backbone: expected the name of a backbone"),
    ],
)
def test_what_is_refused_in_one_line(backbone: str, complaint: str, working_folder: Path) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        recipe_with(backbone)
    assert "\n" not in str(caught.value)


def test_what_a_head_cannot_complete_is_refused_before_training() -> None:
    with pytest.raises(UserError, match=r"digits-lt/ce: .* timm/test_efficientnet is a EfficientNet"):
        check_network(recipe_with("timm/test_efficientnet", "model.head=dual-branch"))


def test_what_cannot_be_downloaded_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr("timm.models._builder.load_pretrained", unreachable)
    with pytest.raises(
        UserError, match=r"cannot be built: OSError: no route to host; fetch model\.safetensors, about .* MB"
    ):
        build_network(Timm(model="resnet18.a1_in1k", pretrained=True), "linear", 10)


# --- weights from a file -----------------------------------------------------------------------------


def weights_file(folder: Path) -> tuple[Path, nn.Module]:
    torch.manual_seed(9)
    plain = timm.create_model("resnet10t", num_classes=1000)
    path = folder / "w.safetensors"
    save_file(plain.state_dict(), path)
    return path, plain


def test_a_network_starts_from_a_file_of_weights(working_folder: Path) -> None:
    path, plain = weights_file(working_folder)
    choice = recipe_with(f"{{name: timm/resnet10t, weights: {path.name}}}").backbone_choice()
    backbone = choice.component(choice.config)
    net = build_network(backbone, "dual-branch", 10)
    first, second = (branch.get_submodule("stage").state_dict() for branch in net.branches)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(net.trunk.get_parameter("0.0.0.weight"), plain.get_parameter("conv1.0.weight"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match=r"w\.safetensors is another file than the recipe was read with"):
        build_network(backbone, "linear", 10)
    path.unlink()
    assert parameters(build_network(backbone.untrained(), "linear", 1000)) == parameters(plain)


def test_weights_of_another_network_are_refused_and_leave_the_draws_as_they_were(working_folder: Path) -> None:
    path, plain = weights_file(working_folder)
    state = {name: tensor for name, tensor in plain.state_dict().items() if not name.startswith("layer4")}
    for held, lacking in ((state, "as layer4.0.conv1.weight"), ({"w": torch.ones(1)}, "as conv1.0.weight")):
        save_file(held, path)
        choice = recipe_with(f"{{name: timm/resnet10t, weights: {path.name}}}").backbone_choice()
        backbone = choice.component(choice.config)
        with pytest.raises(UserError, match=rf"^model\.backbone\.weights: .*w\.safetensors: \d+ of the .*, {lacking}$"):
            build_network(backbone, "linear", 10)
    save_file(plain.state_dict(), path)
    choice = recipe_with(f"{{name: timm/resnet10t, weights: {path.name}}}").backbone_choice()
    heads = []
    for backbone in (choice.component(choice.config), choice.component(choice.config).untrained()):
        torch.manual_seed(1)
        heads.append(build_network(backbone, "linear", 10).branches[0].get_submodule("classifier").state_dict())
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])


def test_a_run_from_weights_is_evaluated_without_them(working_folder: Path) -> None:
    path, _ = weights_file(working_folder)
    recipe = load_recipe("digits-lt/ce", [*STRANGER, f"model.backbone={{name: timm/resnet10t, weights: {path.name}}}"])
    train(recipe, working_folder)
    path.unlink()
    trained = only(working_folder / "runs", "weights.safetensors")
    found = evaluate_weights(trained, options(working_folder))
    assert tuple(found.summary["correct"]) == record(working_folder).selections["last"].correct
    assert load_network(trained).recipe.backbone_choice() == recipe.backbone_choice()


def test_a_transformer_is_trained_with_a_second_stage(working_folder: Path) -> None:
    small = "model.backbone={name: deit-tiny, patch_size: 16}"
    recipe = load_recipe("digits-lt/crt", [*STRANGER, small, "second_stage.epochs=1"])
    train(recipe, working_folder)
    assert lookup("backbone", "deit-tiny").feature_dim == 192
    (first,) = (path for path in (working_folder / "runs").rglob("weights.safetensors") if "crt" not in str(path))
    assert any("pos_embed" in name for name in weights(first.parent))
