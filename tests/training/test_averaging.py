"""The average of a network's weights: its value, and that it is what is evaluated and kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_cases import at_epoch, once, only, options, record, tiny, train, weights
from torch import nn

from lt_bench.training.averaging import WeightAverage
from lt_bench.training.evaluate import evaluate_weights


def test_its_value_after_some_steps() -> None:
    """With d = 0.9 from 1 over weights 2, 4, 8: 0.729 * 1 + 0.081 * 2 + 0.09 * 4 + 0.1 * 8."""
    module = nn.BatchNorm1d(1)
    average = WeightAverage(module, 0.9)
    for value in (2.0, 4.0, 8.0):
        module.weight.data.fill_(value)
        module.running_var.fill_(value)  # type: ignore[union-attr]
        average.update()
    assert set(average.average) == {"weight", "bias", "running_mean", "running_var"}  # of floats
    with average.in_network():
        assert module.weight.item() == pytest.approx(2.051)
        assert module.running_var.item() == pytest.approx(2.051)  # type: ignore[union-attr]
    assert module.weight.item() == 8.0
    assert average.average["weight"].item() == pytest.approx(2.051)


def test_a_layer_that_is_used_twice_is_exchanged_once() -> None:
    layer = nn.Linear(1, 1)
    average = WeightAverage(nn.Sequential(layer, layer), 0.5)
    before = layer.weight.item()
    layer.weight.data.add_(1)
    with average.in_network():
        assert layer.weight.item() == before


@pytest.mark.usefixtures("working_folder", "tiny_backbone")
def test_of_no_memory_it_is_the_weights(tmp_path: Path) -> None:
    train(tiny(), tmp_path / "plain")
    train(tiny("ce", "protocol.ema.decay=0.0"), tmp_path / "averaged")
    assert record(tmp_path / "averaged").curve == record(tmp_path / "plain").curve
    plain, averaged = weights(tmp_path / "plain"), weights(tmp_path / "averaged")
    assert [name for name in plain if not torch.equal(plain[name], averaged[name])] == []


@pytest.mark.usefixtures("working_folder", "tiny_backbone")
def test_it_is_evaluated_and_saved_while_the_weights_train_on(tmp_path: Path) -> None:
    recipe = tiny("ce", "protocol.ema.decay=0.7")
    train(tiny(), tmp_path / "plain")
    train(recipe, tmp_path / "averaged")
    plain, averaged = record(tmp_path / "plain"), record(tmp_path / "averaged")
    assert averaged.curve.train_loss == plain.curve.train_loss
    assert averaged.curve.test_top1 != plain.curve.test_top1
    path = only(tmp_path / "averaged", "weights.safetensors")
    assert tuple(evaluate_weights(path, options(tmp_path)).summary["correct"]) == averaged.selections["last"].correct


@pytest.mark.usefixtures("working_folder", "tiny_backbone")
def test_a_checkpoint_has_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_epoch(monkeypatch, before=lambda _: None, after=once(2))
    with pytest.raises(KeyboardInterrupt):
        train(tiny("ce", "protocol.ema.decay=0.7"), tmp_path)
    found = torch.load(only(tmp_path, "checkpoint.pt"), weights_only=True)
    assert found["average"].keys() == {name for name in found["network"] if "num_batches" not in name}
    assert not torch.equal(found["average"]["trunk.0.weight"], found["network"]["trunk.0.weight"])
