"""The image tower of CLIP in stages, its text tower, and what is said where its weights are not at hand."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
from foundation_cases import CLIP, clip, clip_file, network
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from lt_bench.errors import UserError
from lt_bench.models import build_backbone
from lt_bench.models.backbones.clip import Clip, through_projection
from lt_bench.models.starts.text import Text


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_file(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def model(file: Path) -> open_clip.CLIP:
    """The model as open_clip has it."""
    found = open_clip.CLIP(**CLIP).eval()
    found.load_state_dict(load_file(file))
    return found


def trained(file: Path, **settings: bool) -> Clip:
    return clip(
        **Clip.fitted(clip(weights=str(file)).config, 32).model_dump(include={"weights", "weights_sha256"}), **settings
    )


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


# --- images ------------------------------------------------------------------------------------------


@torch.no_grad()
def test_projected_features_are_those_of_open_clip(file: Path, model: open_clip.CLIP) -> None:
    found = build_backbone(trained(file, projected=True)).eval()(images())
    torch.testing.assert_close(found, model.encode_image(images()), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_features_are_the_class_token_before_the_projection(file: Path, model: open_clip.CLIP) -> None:
    found = build_backbone(trained(file)).eval()(images())
    assert found.shape == (3, 24)
    torch.testing.assert_close(found @ model.visual.proj, model.encode_image(images()), rtol=1e-5, atol=1e-6)


def test_a_tower_comes_in_four_stages_that_branches_can_share() -> None:
    assert len(network(clip()).levels) == 3
    assert [len(stage) for stage in clip().stages()] == [2, 1, 1, 2]


# --- text --------------------------------------------------------------------------------------------


@torch.no_grad()
def test_text_vectors_are_those_of_open_clip_through_the_projection(file: Path, model: open_clip.CLIP) -> None:
    names = ["red panda", "bus"]
    tokens = open_clip.SimpleTokenizer()([f"a photo of a {name}." for name in names])
    text = normalize(model.encode_text(tokens), dim=1)
    prompts = [[f"a photo of a {name}."] for name in names]
    torch.testing.assert_close(trained(file, projected=True).text_vectors(prompts), text)
    expected = normalize(text @ model.visual.proj.T, dim=1)
    torch.testing.assert_close(trained(file).text_vectors(prompts), expected)


def test_the_projection_is_that_of_the_card() -> None:
    """Oracle 4: near zero-shot classification, but for a factor of each class."""
    projection = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    text = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    found = through_projection(projection, text)
    torch.testing.assert_close(found, torch.tensor([[0.7071068, 0, 0.7071068], [0.3487429, 0.4649906, 0.8137335]]))
    feature = torch.tensor([1.0, 2.0, 2.0])
    torch.testing.assert_close(found @ feature / 3, torch.tensor([0.7071068, 0.9687303]))
    zero_shot = (feature @ projection) @ text.T
    torch.testing.assert_close(zero_shot / (feature @ projection).norm(), torch.tensor([0.6, 1.0]))
    torch.testing.assert_close(found @ feature / zero_shot, torch.tensor([0.7071068, 0.5812382]))


@torch.no_grad()
def test_several_sentences_are_averaged_as_unit_vectors(file: Path, model: open_clip.CLIP) -> None:
    sentences = Text(prompt="imagenet").sentences("red panda")
    assert len(sentences) == 80
    assert "a bad photo of a red panda." in sentences
    chosen = list(sentences[:5])
    units = normalize(model.encode_text(open_clip.SimpleTokenizer()(chosen)), dim=1)
    expected = normalize(units.mean(0, keepdim=True), dim=1)
    torch.testing.assert_close(trained(file, projected=True).text_vectors([chosen]), expected)


def test_what_a_file_was_trained_on_is_its_users_word(file: Path) -> None:
    digest = trained(file).config.weights_sha256
    unnamed, named = (
        trained(file).provenance(),
        clip(pretrained="openai", weights=str(file), weights_sha256=digest).provenance(),
    )
    assert (unnamed.source, unnamed.data, unnamed.sha256) == ("clip.safetensors", "unnamed data", digest)
    assert named.data == "OpenAI's 400 million pairs of image and text, as its user says"
    assert clip().provenance() is None


# --- refusals ----------------------------------------------------------------------------------------


def test_what_to_fetch_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip, "download_pretrained", fail)
    with pytest.raises(UserError) as caught:
        Clip(model="ViT-B-16-quickgelu", pretrained="openai").whole()
    said = str(caught.value)
    assert said.startswith("model.backbone: the weights openai of clip/ViT-B-16-quickgelu could not be downloaded")
    assert "no route to host" in said
    assert "huggingface.co/timm/vit_base_patch16_clip_224.openai, about 598 MB" in said
    assert said.endswith("say model.backbone.weights=FILE")
    assert "\n" not in said


def test_a_hub_out_of_reach_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def fail(*_: object, **__: object) -> str:
        asked.append(constants.is_offline_mode())
        try:
            raise LocalEntryNotFoundError("no route to host")
        except LocalEntryNotFoundError:
            raise OSError("no file")  # noqa: B904 (as open_clip does)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(open_clip, "download_pretrained", fail)
    for _ in range(2):
        with pytest.raises(UserError, match="could not be downloaded"):
            Clip(model="ViT-B-16-quickgelu", pretrained="openai").whole()
    assert asked == [False, True]


@pytest.mark.parametrize(
    ("model", "tag", "why"),
    [
        ("ViT-B-16", "openai", "the weights openai were trained with another GELU; they need clip/ViT-B-16-quickgelu"),
        (
            "ViT-B-16-quickgelu",
            "opnai",
            "'opnai' is not a known weights of clip/ViT-B-16-quickgelu; did you mean openai?",
        ),
        ("ViT-B-16-SigLIP", "webli", "is not made as CLIP is"),
        ("RN50-quickgelu", "openai", "clip/RN50-quickgelu is not made as CLIP is"),
        ("ViT-L-14-CLIPA", "datacomp1b", "is not made as CLIP is"),
        ("ViT-H-14-CLIPA-336", "datacomp1b", "is not made as CLIP is"),
    ],
)
def test_weights_that_do_not_fit_are_refused(model: str, tag: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip, "download_pretrained", lambda *_: pytest.fail("nothing is to be downloaded"))
    with pytest.raises(UserError, match=why):
        Clip(model=model, pretrained=tag).whole()


def test_a_file_has_to_be_of_a_network_of_its_tag(file: Path) -> None:
    with pytest.raises(UserError, match="they need clip/ViT-B-16-quickgelu"):
        Clip(model="ViT-B-16", pretrained="openai", weights=str(file)).whole()


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    with pytest.raises(UserError, match=r"other\.safetensors does not fit clip/ViT-B-16-quickgelu"):
        build_backbone(trained(other))


def test_a_file_that_has_changed_is_refused(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(file.read_bytes())
    backbone = trained(copy)
    copy.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="is another file than the recipe was read with"):
        backbone.whole()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"model": "ViT-B-61"}, "'ViT-B-61' is not a known model of open_clip; did you mean ViT-B-16?"),
        ({"model": "ViT-B-16", "weights": "ViT-B-16.pt"}, "should be a .safetensors file, found ViT-B-16.pt"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, str], why: str) -> None:
    with pytest.raises(UserError, match=why):
        Clip(**settings)
