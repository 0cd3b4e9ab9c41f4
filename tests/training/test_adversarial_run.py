"""Whole runs against an adversary, with an average of weights in the checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_cases import assert_same_result, at_epoch, once, options, record, tiny, train, until_done

from lt_bench.data.opening import open_split
from lt_bench.leaderboard.track import condition
from lt_bench.training.evaluate import evaluate_weights
from lt_bench.training.run import build_job

pytestmark = pytest.mark.usefixtures("tiny_backbone")
SHORT = ("method.attack.steps=1", "protocol.epochs=1", "protocol.schedule={warmup_epochs: 0}")


def test_a_run_interrupted_goes_on_bit_for_bit_with_its_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny("trades-cutmix-wa", "method.attack.steps=2")
    train(recipe, tmp_path / "whole")
    at_epoch(monkeypatch, lambda finished: None, once(2, 4))
    assert until_done(recipe, tmp_path / "cut") == 2
    assert_same_result(tmp_path / "cut", tmp_path / "whole")


def test_what_is_saved_is_the_average_and_its_record_is_of_the_adversarial_track(tmp_path: Path) -> None:
    recipe = tiny("trades-cutmix-wa", *SHORT)
    job = build_job(recipe, open_split(recipe.data, None), 0, options(tmp_path), epochs=1)
    assert job.evaluated is not job.network
    done = train(recipe, tmp_path)
    (weights,) = tmp_path.rglob("weights.safetensors")
    assert evaluate_weights(weights, options(tmp_path)).summary["top1"] == pytest.approx(done.top1)
    assert condition(record(tmp_path)).track == "adversarial"
    assert "digits-lt-if4-adversarial" in str(done.record)


def test_a_method_is_told_how_its_images_follow_from_pixels(tmp_path: Path) -> None:
    recipe = tiny("pgd-at", *SHORT, "protocol.augmentation.mean=[0.1, 0.2, 0.3]")
    job = build_job(recipe, open_split(recipe.data, None), 0, options(tmp_path), epochs=1)
    mean, std = job.method.normalisation  # type: ignore[misc]
    assert mean == (0.1, 0.2, 0.3)
    for batch in job.sets.train.clean(64):
        pixels = batch.images * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)
        assert -1e-6 < pixels.min() < pixels.max() < 1 + 1e-6
