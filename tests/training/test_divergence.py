"""What is not finite is a failed run that says where and when, and leaves no record and no weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import TINY, only, tiny, train

from lt_bench.data.types import Epoch
from lt_bench.errors import RunError
from lt_bench.methods.standard import Standard
from lt_bench.tensor_files import read_tensors, write_tensors
from lt_bench.training.loop import mean_loss

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

LOSS = "the training loss is (nan|inf) in"
LOGITS = "the logits of 600 of 600 images are not finite"
ONE_STEP = ("protocol.batch_size=512", "protocol.epochs=1", "protocol.schedule={warmup_epochs: 0}")
LAST_EPOCH = "protocol.schedule={warmup_epochs: 1, milestones: [4], factors: [1e38]}"


def fails(folder: Path, recipe: Any, said: str) -> None:
    """And again, from the checkpoint of the epoch before."""
    for _ in range(2):
        with pytest.raises(RunError, match=said) as caught:
            train(recipe, folder)
        assert "\n" not in str(caught.value)
    assert not list(folder.rglob(f"{recipe.name}/seed*.json"))
    assert not list(folder.rglob(f"{recipe.name}/*/weights.safetensors"))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("protocol.optimizer.lr=1e30",), rf"{LOSS} epoch 1 of 5, step [2-4] of 4$"),
        (
            (*ONE_STEP, "protocol.optimizer.lr=1e30"),
            r"^the logits of 600 of 600 images are not finite, after epoch 1 of 1$",
        ),
        ((*ONE_STEP, "protocol.optimizer.weight_decay=1e38"), f"^{LOGITS}, after epoch 1 of 1$"),
        ((LAST_EPOCH,), rf"{LOSS} epoch 5 of 5, step [2-4] of 4$"),
        (
            ("protocol.optimizer.weight_decay=1e38",),
            rf"{LOSS} epoch 1 of 5, step [2-4] of 4$",
        ),
    ],
)
def test_a_diverged_training(tmp_path: Path, overrides: tuple[str, ...], said: str) -> None:
    fails(tmp_path, tiny("ce", *overrides), said)


def test_the_first_step_whose_loss_is_not_finite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Standard.loss

    def loss(self: Standard, network: Any, batches: Any, step: Any) -> Any:
        infinite = (step.epoch.index, step.index) == (1, 2)
        return real(self, network, batches, step) * (float("inf") if infinite else 1.0)

    monkeypatch.setattr(Standard, "loss", loss)
    fails(tmp_path, tiny(), r"^the training loss is inf in epoch 2 of 5, step 3 of 4$")


def test_large_losses_are_finite_ones() -> None:
    losses = torch.full((4,), 3e38)
    assert mean_loss(losses, Epoch(0, 1, 0)) == float(losses[0])


def test_logits_that_are_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Standard.scores

    def scores(self: Standard, network: Any, images: Any) -> Any:
        logits = real(self, network, images).clone()
        logits[:2, 3] = float("-inf")
        return logits

    monkeypatch.setattr(Standard, "scores", scores)
    said = r"^the logits of 4 of 600 images are not finite, "  # in two batches
    fails(tmp_path, tiny(), f"{said}after epoch 2 of 5$")
    with monkeypatch.context() as patch:
        patch.setattr(Standard, "scores", real)
        train(tiny(), tmp_path / "second")
    fails(tmp_path / "second", tiny("tau-norm"), f"{said}without training$")


def test_running_statistics_that_are_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They make finite logits, the same for every image."""
    real = Standard.loss

    def loss(self: Standard, network: Any, *rest: Any) -> Any:
        network.trunk[1].running_var.fill_(float("inf"))
        return real(self, network, *rest)

    monkeypatch.setattr(Standard, "loss", loss)
    fails(tmp_path, tiny(), r"^1 of 1\d weights are not finite, the first is trunk.1.running_var, after epoch 1 of 5$")


def test_a_second_stage_that_begins_with_weights_that_are_not_finite(tmp_path: Path) -> None:
    said = r"weights are not finite, the first is branches.0.classifier.weight, as the training begins$"
    fails(tmp_path, tiny("tau-norm", "second_stage.tau=-1e30"), said)
    assert len(list(tmp_path.rglob("ce/seed*.json"))) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_evaluated(
    lt_bench: Callable[..., Any], working_folder: Path, value: float
) -> None:
    lt_bench("run", "digits-lt/ce", *TINY, "--device", "cpu")
    path = only(working_folder, "weights.safetensors")
    tensors, about = read_tensors(path)
    tensors["branches.0.classifier.bias"][2] = value
    write_tensors(path, "weights", tensors, about)
    done = lt_bench("evaluate", path, "--device", "cpu")
    assert done.code == 1
    said = (
        f"lt-bench: {path}: 1 of {len(tensors) - 2} weights are not finite, the first is branches.0.classifier.bias\n"
    )
    assert done.err == said
    assert torch.isfinite(tensors["trunk.0.weight"]).all()
