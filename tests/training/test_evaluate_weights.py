"""Weights on their own give the numbers of the record again; anything else is refused in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import only, options, record, tiny, train
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lt_bench.data.opening import open_split
from lt_bench.errors import UserError
from lt_bench.evaluation.metrics import ece
from lt_bench.plugins import load_plugin
from lt_bench.tensor_files import read_tensors, write_tensors
from lt_bench.training.evaluate import evaluate_weights
from lt_bench.training.run import build_recipe_network
from lt_bench.training.weights import Trained, read_weights, save_weights

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

ABOUT = {"split": "0" * 64, "seed": "0", "trained": "{}"}
"""What stands beside the recipe among the weights."""


@pytest.mark.parametrize("name", ["ldam-drw", "dbn-mix", "bbn"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_counts_of_the_record_again(tmp_path: Path, name: str, precision: str) -> None:
    train(tiny(name), tmp_path, seed=2, precision=precision)
    evaluation = evaluate_weights(only(tmp_path, "weights.safetensors"), options(tmp_path, precision=precision))
    found, last = evaluation.summary, record(tmp_path).selections["last"]
    assert tuple(found["correct"]) == last.correct
    assert tuple(found["total"]) == last.total
    assert found["ece"] == pytest.approx(ece(last.calibration.bins))
    assert (evaluation.weights.recipe.name, evaluation.weights.seed) == (name, 2)
    assert found["top1"] == pytest.approx(sum(last.correct) / 600)
    by_class = [correct / 60 for correct in last.correct]
    assert found["worst_class"] == pytest.approx(min(by_class))
    assert found["many"] is None  # of a split whose largest class has 12 images
    assert found["few"] == pytest.approx(sum(by_class) / 10)


def test_a_file_that_is_no_weights(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("not weights")
    save_file({"x": torch.zeros(1)}, tmp_path / "bare.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors", {"recipe": '{"a":\n1}', "seed": "0"})
    save_file({"x": torch.zeros(1)}, tmp_path / "seedless.safetensors", {"recipe": "{"})
    for name in ("text", "bare", "foreign", "seedless", "absent"):
        with pytest.raises(UserError, match=rf"{name}\.safetensors: not the weights of a run") as caught:
            evaluate_weights(tmp_path / f"{name}.safetensors", options(tmp_path))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="not the weights of a run"):
        evaluate_weights(tmp_path, options(tmp_path))


def test_weights_that_do_not_fit_their_recipe(tmp_path: Path) -> None:
    train(tiny(), tmp_path)
    path = only(tmp_path, "weights.safetensors")
    tensors, about = read_tensors(path)
    del tensors["branches.0.classifier.bias"]
    write_tensors(tmp_path / "less.safetensors", "weights", tensors, about)
    with pytest.raises(UserError, match=r"less\.safetensors: does not fit its own recipe: .*classifier.bias"):
        evaluate_weights(tmp_path / "less.safetensors", options(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        lambda recipe: recipe.pop("method"),
        lambda recipe: recipe["method"].pop("name"),
        lambda recipe: recipe.update(method={"name": 3}),
        lambda recipe: recipe.update(method={"name": "nothing"}),
        lambda recipe: recipe["method"].update(unknown=1),
        lambda recipe: recipe["model"].update(head={}),
        lambda recipe: recipe["model"].update(backbone="nothing"),
        lambda recipe: recipe["data"].update(name="nothing"),
        lambda recipe: recipe.update(phases=[]),
        lambda recipe: recipe["phases"][0].update(loss={}),
        lambda recipe: recipe["phases"][0].update(until=1),
        lambda recipe: recipe.update(second_stage={"stage": {}, "sampler": {}, "mix": {}, "loss": {}}),
    ],
)
def test_a_recipe_that_is_none_among_the_weights(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    recipe = tiny().resolved()
    change(recipe)
    path = tmp_path / "w.safetensors"
    write_tensors(path, "weights", {"x": torch.zeros(1)}, ABOUT | {"recipe": json.dumps(recipe)})
    with pytest.raises(UserError, match=r"^.*w\.safetensors: ") as caught:
        evaluate_weights(path, options(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "metadata",
    [
        {"recipe": "[" * 100_000, "seed": "0"},
        {"recipe": "{}", "seed": "0"},
        {"seed": "9" * 5000},
        {"seed": "-"},
        {"trained": "[1]"},
        {"trained": '{"other": 1}'},
        {"counts": "[-1, 2]"},
        {"counts": "[1.5]"},
        {"counts": "[[1]]"},
        {"counts": "[1, 2]", "class_names": '["a"]'},
        {"looks": "{}"},
    ],
    ids=range(11),
)
def test_other_metadata_that_is_none(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "w.safetensors"
    about = {"recipe": json.dumps(tiny().resolved())} | ABOUT | metadata
    write_tensors(path, "weights", {"x": torch.zeros(1)}, about)
    with pytest.raises(UserError, match=r"w\.safetensors: not the weights of a run") as caught:
        evaluate_weights(path, options(tmp_path))
    assert "\n" not in str(caught.value)


def changed_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def lost_block(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-600] + bytes(512) + data[-88:])


def other_metadata(key: str, value: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
        save_file(load_file(path), path, {**about, key: value} if value else about.pop(key) and about)

    change.__name__ = key
    return change


def other_type(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    tensors["branches.0.classifier.weight"] = tensors["branches.0.classifier.weight"].to(torch.int8)
    save_file(tensors, path, about)


@pytest.mark.parametrize(
    "change",
    [
        changed_byte,
        lost_block,
        other_type,
        *map(other_metadata, ("seed", "split", "class_names", "sha256"), ("1", "0" * 64, "[]", "")),
    ],
    ids=lambda change: change.__name__,
)
def test_weights_that_were_changed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "w.safetensors"
    split = open_split(tiny().data, None)
    save_weights(path, build_recipe_network(tiny(), 10, seed=0), tiny(), split, 0, Trained())
    assert read_weights(path).are_of(tiny(), split.digest, 0)
    change(path)
    with pytest.raises(UserError, match=r"w\.safetensors: not the weights of a run .*sha256") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_the_folder_of_a_run_is_told_where_its_weights_are(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(UserError) as caught:
        read_weights(tmp_path)
    inside = f"(a folder, with {tmp_path / 'weights.safetensors'} in it)"
    assert str(caught.value) == f"{tmp_path}: not the weights of a run {inside}"


def test_weights_that_are_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path / ("n" * 300)):
        with pytest.raises(UserError, match="not the weights of a run"):
            evaluate_weights(path, options(tmp_path))


TIED = """
from torch import nn
from lt_bench.models.backbones import Backbone
from lt_bench.registry import Info

class Tied(Backbone):
    name = "tied"
    info = Info("one convolution used twice")
    feature_dim = 8

    def trunk(self):
        return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.BatchNorm2d(8), nn.ReLU())

    def last_stage(self):
        shared = nn.Conv2d(8, 8, 3, padding=1)
        return nn.Sequential(shared, nn.BatchNorm2d(8), nn.ReLU(), shared, nn.BatchNorm2d(8), nn.ReLU())
"""


def test_a_network_that_uses_a_layer_twice(tmp_path: Path) -> None:
    (tmp_path / "tied.py").write_text(TIED)
    load_plugin(tmp_path / "tied.py")
    train(tiny("ce", "model.backbone=tied"), tmp_path)
    found = evaluate_weights(only(tmp_path, "weights.safetensors"), options(tmp_path))
    assert tuple(found.summary["correct"]) == record(tmp_path).selections["last"].correct
