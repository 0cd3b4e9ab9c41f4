"""Weights on their own give the numbers of the record again; anything else is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_cases import only, options, record, tiny, train
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lt_bench.errors import UserError
from lt_bench.evaluation.metrics import ece
from lt_bench.training.evaluate import evaluate_weights

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")


@pytest.mark.parametrize("name", ["ldam-drw", "dbn-mix", "bbn"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_counts_of_the_record_again(tmp_path: Path, name: str, precision: str) -> None:
    train(tiny(name), tmp_path, seed=2, precision=precision)
    found = evaluate_weights(only(tmp_path, "weights.safetensors"), options(tmp_path, precision=precision))
    last = record(tmp_path).selections["last"]
    assert tuple(found["correct"]) == last.correct
    assert tuple(found["total"]) == last.total
    assert found["ece"] == pytest.approx(ece(last.calibration.bins))
    assert (found["recipe"], found["dataset"], found["seed"]) == (name, "digits-lt", 2)
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
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    del tensors["branches.0.classifier.bias"]
    save_file(tensors, tmp_path / "less.safetensors", metadata)
    with pytest.raises(UserError, match=r"less\.safetensors: does not fit its own recipe: .*classifier.bias"):
        evaluate_weights(tmp_path / "less.safetensors", options(tmp_path))
