"""Tuned networks as runs: started, trained, resumed, evaluated, recorded, and shown in tables of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from foundation_cases import CLIP, backbone_override, clip_file, tiny_recipe, vit_file
from run_cases import assert_same_result, at_epoch, once, only, options, record, refused, train, until_done, weights
from safetensors.torch import load_file
from torch.nn.functional import normalize

from lt_bench.data.class_names import made
from lt_bench.data.opening import open_split
from lt_bench.data.types import first_of_each
from lt_bench.errors import UserError
from lt_bench.leaderboard.track import condition
from lt_bench.models.starts import unit_means
from lt_bench.models.starts.text import Text, known, spelled
from lt_bench.protocol import shipped_protocol
from lt_bench.recipe import load_recipe
from lt_bench.robustness.evaluate import attack_weights
from lt_bench.trained import load_network
from lt_bench.training.evaluate import evaluate_weights
from lt_bench.training.run import build_job
from lt_bench.training.start import uncropped
from lt_bench.training.weights import read_weights

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pretrained")
    return {"clip": clip_file(folder), "vit": vit_file(folder)}


# --- runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "tuner"),
    [
        ("clip", "adaptformer"),
        ("vit", "lora"),
        ("clip", "{name: vpt, prompts: 3}"),
        ("vit", "{name: arbitrary, share: 0.2}"),
    ],
)
def test_an_interrupted_run_goes_on_bitwise(
    kind: str, tuner: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(files[kind], tuner)
    train(recipe, tmp_path / "whole")
    at_epoch(monkeypatch, before=once(2), after=once(1))
    assert until_done(recipe, tmp_path / "cut") == 2
    assert_same_result(tmp_path / "cut", tmp_path / "whole")
    whole = load_file(files[kind])
    assert (
        sum(map(torch.Tensor.numel, weights(tmp_path / "cut").values()))
        < sum(map(torch.Tensor.numel, whole.values())) / 2
    )


def test_what_is_saved_predicts_the_same_with_the_weights_beside_it(files: dict[str, Path], tmp_path: Path) -> None:
    train(tiny_recipe(files["clip"], "bitfit", "protocol.ema={decay: 0.5}"), tmp_path)
    found = evaluate_weights(only(tmp_path, "weights.safetensors"), options(tmp_path))
    assert found.summary["top1"] == record(tmp_path).selections["last"].top1
    network = load_network(only(tmp_path, "weights.safetensors"))
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_record_tells_of_the_weights_and_of_what_learned(files: dict[str, Path], tmp_path: Path) -> None:
    recipe = tiny_recipe(files["clip"], "bitfit")
    train(recipe, tmp_path)
    told = record(tmp_path).pretrained
    assert told is not None
    assert (told.network, told.source) == ("clip/ViT-B-16-quickgelu", "clip.safetensors")
    assert told.sha256 == recipe.resolved()["model"]["backbone"]["weights_sha256"]
    assert told.learned == sum(map(torch.Tensor.numel, weights(tmp_path).values())) < told.parameters
    train(load_recipe("digits-lt/ce", ["data.n_max=6", "data.factor=2", "protocol.epochs=6"]), tmp_path / "scratch")
    assert record(tmp_path / "scratch").pretrained is None


def test_tables_of_pretrained_networks_are_their_own(
    files: dict[str, Path], tmp_path: Path, lt_bench: Callable[..., Any]
) -> None:
    for file in files.values():
        train(tiny_recipe(file), tmp_path)
    assert lt_bench("leaderboard", "build", "--records", tmp_path / "records", "--out", tmp_path / "board").code == 0
    index = (tmp_path / "board" / "README.md").read_text()
    assert index.count("## Foundation models") == 1
    tables = sorted((tmp_path / "board" / "tables").glob("*.md"))
    assert len(tables) == 2
    told = "".join(table.read_text() for table in tables)
    assert "clip/ViT-B-16-quickgelu, trained on unnamed data" in told
    assert "| Learned | Memory | Images/s |" in told


def test_a_pretrained_network_never_shares_a_table_with_one_from_scratch(
    files: dict[str, Path], tmp_path: Path
) -> None:
    train(tiny_recipe(files["vit"], "null", "model.start=null"), tmp_path)
    assert record(tmp_path).pretrained.learned == record(tmp_path).pretrained.parameters
    assert condition(record(tmp_path)).track == "foundation"


def test_a_copy_of_the_classifier_begins_where_it_does(files: dict[str, Path], tmp_path: Path) -> None:
    recipe = tiny_recipe(files["vit"], "classifier", "mix=recursive-mix")
    job = build_job(recipe, open_split(recipe.data), 0, options(tmp_path), epochs=3, begin=True)
    (copied,) = [one for name, one in job.method.named_parameters() if name.endswith("weight") and one.ndim == 2]
    begun = job.network.classifiers[0].weight
    assert torch.equal(copied, begun)
    again = build_job(recipe, open_split(recipe.data), 0, options(tmp_path), epochs=3)
    assert not torch.equal(again.network.classifiers[0].weight, begun)


def test_an_attack_on_five_views_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    train(tiny_recipe(files["vit"], "classifier", "second_stage=test-time-ensembling"), tmp_path)
    stage = [path for path in tmp_path.rglob("weights.safetensors") if read_weights(path).recipe.second_stage]
    with pytest.raises(UserError, match="predicts by five views of an image, and an attack is on one"):
        attack_weights(stage[0], [], None, options(tmp_path))


def test_trying_a_recipe_finds_names_that_cannot_be_read(
    files: dict[str, Path], lt_bench: Callable[..., Any], tmp_path: Path
) -> None:
    parts = [backbone_override(files["clip"]), "model.head=scaled-cosine", "model.tuner=lora", "model.start=text"]
    refused(lt_bench("run", "digits-lt/ce", *parts, "--try"), "the classes are called by numbers")


# --- zero-shot ---------------------------------------------------------------------------------------


@pytest.mark.data
def test_zero_shot_is_that_of_open_clip(files: dict[str, Path], tmp_path: Path, data_root: Path) -> None:
    """Images of CIFAR-100 against the names of its classes, and a record after no epoch."""
    parts = [backbone_override(files["clip"], projected=True), "protocol=cifar-30ep", "data.factor=100"]
    recipe = load_recipe("cifar100-lt/zero-shot", parts)
    train(recipe, tmp_path, data_root=data_root, precision="float32")
    told = record(tmp_path)
    assert (told.timing.epochs, told.pretrained.learned, told.curve.epoch) == (1, 0, (0,))
    network = load_network(only(tmp_path, "weights.safetensors"), data_root)
    model = open_clip.CLIP(**CLIP).eval()
    model.load_state_dict(load_file(files["clip"]))
    names = [name.replace("_", " ") for name in told.dataset.class_names]
    assert "aquarium fish" in names
    with torch.no_grad():
        text = normalize(
            model.encode_text(open_clip.SimpleTokenizer()([f"a photo of a {name}." for name in names])), dim=1
        )
        images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
        expected = 100 * normalize(model.encode_image(network.normalised(images)), dim=1) @ text.T
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-3)


def test_a_zero_shot_run_has_one_recipe_on_every_setting(lt_bench: Callable[..., Any]) -> None:
    names = [f"{setting}/zero-shot" for setting in ("cifar100-lt", "imagenet-lt", "places-lt", "inaturalist2018")]
    assert lt_bench("validate", *names).code == 0


# --- what a classifier begins as ---------------------------------------------------------------------


def test_class_means_are_unit_means() -> None:
    features = torch.tensor([[3.0, 0.0], [0.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    found = unit_means(features, torch.tensor([0, 0, 1, 1]), 2)
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [1.0, 0.0]]))


def test_the_first_images_of_each_class_are_taken() -> None:
    labels = np.array([2, 0, 2, 1, 2, 0, 0])
    assert first_of_each(labels, 2).tolist() == [0, 1, 2, 3, 5]
    assert first_of_each(labels, None).tolist() == list(range(7))


def test_class_means_are_of_images_of_which_the_shorter_side_is_whole() -> None:
    cut, whole = (shipped_protocol(name) for name in ("lift-10ep-in21k", "cifar-30ep"))
    assert cut is not None
    assert whole is not None
    assert (cut.augmentation.size, cut.augmentation.test_resize) == (224, None)  # that is 256
    assert uncropped(cut.augmentation) == cut.augmentation.model_copy(update={"test_resize": 224})
    assert uncropped(whole.augmentation) == whole.augmentation


def test_a_run_begins_at_the_class_means_of_the_untuned_network(files: dict[str, Path], tmp_path: Path) -> None:
    """A rate of next to nothing leaves the start as it was; prompts, which change features, have no part in it."""
    slow = "protocol.optimizer={lr: 1e-30, weight_decay: 0.0}"
    found = {}
    for tuner in ("vpt", "classifier"):
        train(tiny_recipe(files["vit"], tuner, slow), tmp_path / tuner, precision="float32")
        found[tuner] = weights(tmp_path / tuner)["branches.0.classifier.weight"]
    assert torch.equal(found["vpt"], found["classifier"])
    torch.testing.assert_close(found["vpt"].norm(dim=1), torch.ones(10))
    assert found["vpt"].std(0).max() > 1e-3  # the classes differ


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (made(10), "the classes are called by numbers; say model.start.names=FILE"),
        (["n01440764", "n01443537"], "the classes are called by WordNet ids; say model.start.names=FILE"),
    ],
)
def test_names_that_no_encoder_can_read_are_refused(names: Any, why: str) -> None:
    with pytest.raises(UserError, match=why):
        known(names)


def test_the_thousand_ids_of_imagenet_have_names() -> None:
    ids = [f"n{10**7 + k}" for k in range(1000)]
    assert [*known(ids)[7:9]] == ["rooster", "hen"]  # OpenAI's: torchvision has a cock


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("aquarium_fish", "aquarium fish"),
        ("a/airfield", "airfield"),
        ("b/bakery/shop", "bakery shop"),
        ("crane (n02012849)", "crane"),
        ("T-shirt", "T-shirt"),
    ],
)
def test_names_are_read_as_words(name: str, words: str) -> None:
    assert spelled(name) == words
    assert Text().sentences(words) == [f"a photo of a {words}."]


def test_names_come_from_a_file(files: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("".join(f"digit {k}\n" for k in range(10)))
    train(tiny_recipe(files["clip"], "classifier", "model.start={name: text, names: names.txt}"), tmp_path)
    resolved = json.loads(only(tmp_path / "runs", "recipe.json").read_text())
    assert len(resolved["model"]["start"]["names_sha256"]) == 64
    file.write_text("one\n")
    with pytest.raises(UserError, match=r"names\.txt: names 1 classes, expected 10"):
        train(tiny_recipe(files["clip"], "classifier", "model.start={name: text, names: names.txt}"), tmp_path)


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("model.tuner=lora",), "model.tuner: lora needs pretrained weights; say model.backbone.pretrained"),
        (("model.start=text",), "model.start: text needs pretrained weights"),
        (("model.tuner=adaptfromer",), "'adaptfromer' is not a known tuner; did you mean adaptformer?"),
        (
            ("{vit}", "model.start=text"),
            "text needs a backbone that reads text, such as clip/ViT-B-16-quickgelu, found timm",
        ),
        (
            ("{vit}", "model.tuner=lora", "model.trunk_lr_factor=0.1"),
            "what learns is said by the tuner lora; leave it at 1",
        ),
        (
            ("{vit}", "model.start=class-means", "model.head=dual-branch"),
            "is for the heads cosine, linear, scaled-cosine",
        ),
        (("{vit}", "model.tuner=lora", "method=paddles"), "the method paddles says itself what learns; leave lora out"),
        (("{vit}", "model.tuner=lora", "model.head=residual-fusion", "method=reslt"), "which lora would freeze"),
        (("{clip}", "data.name=cifar10-lt", "protocol.augmentation.enlarge=64"), "takes images of 32 pixels, found 64"),
        (("{vit}", "model.tuner={name: vpt, promts: 3}"), "is not a known field of model.tuner; did you mean prompts?"),
    ],
)
def test_what_makes_no_sense_is_refused(
    overrides: tuple[str, ...], said: str, files: dict[str, Path], lt_bench: Callable[..., Any]
) -> None:
    given = [backbone_override(files[one[1:-1]]) if one.startswith("{") else one for one in overrides]
    refused(lt_bench("validate", "digits-lt/ce", *given), said)
