"""Runs with a second stage: they start from the weights of an ordinary run, made once and shared."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from run_cases import assert_same_result, at_epoch, once, only, options, tiny, train, until_done

from lt_bench.data.opening import open_split
from lt_bench.errors import UserError
from lt_bench.leaderboard.frames import frame
from lt_bench.leaderboard.record import load_record
from lt_bench.recipe import Recipe, load_recipe
from lt_bench.tensor_files import read_tensors, write_tensors
from lt_bench.training import run as run_module
from lt_bench.training.evaluate import evaluate_weights
from lt_bench.training.options import BudgetSpent
from lt_bench.training.weights import FILE, read_weights

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")


def stage(name: str, *overrides: str) -> Recipe:
    epochs = () if name in ("tau-norm", "ncm") else ("second_stage.epochs=3",)
    return tiny(name, *epochs, *overrides)


def folder_of(root: Path, recipe: str) -> Path:
    return only(root / "runs" / "digits-lt" / "digits-demo" / recipe, "recipe.json").parent


def record_of(root: Path, recipe: str) -> Path:
    return only(root / "records" / "digits-lt-if4" / "digits-demo" / recipe, "seed*.json")


def test_the_first_stage_is_an_ordinary_run_made_once(tmp_path: Path) -> None:
    train(stage("crt"), tmp_path)
    assert record_of(tmp_path, "ce").exists()
    weights = folder_of(tmp_path, "ce") / FILE
    made = weights.stat().st_mtime_ns
    for name in ("lws", "tau-norm", "ncm", "max-norm"):
        assert train(stage(name), tmp_path).trained
    assert not train(stage("crt"), tmp_path).trained
    assert not train(tiny("ce"), tmp_path).trained  # the plain recipe finds it too
    assert weights.stat().st_mtime_ns == made


def test_the_first_stage_is_the_very_run_of_its_recipe(tmp_path: Path) -> None:
    train(stage("ncm"), tmp_path / "by-stage")
    train(tiny("ce"), tmp_path / "alone")
    found, expected = (read_weights(folder_of(tmp_path / way, "ce") / FILE) for way in ("by-stage", "alone"))
    assert all(torch.equal(found.tensors[name], expected.tensors[name]) for name in expected.tensors)
    records = [load_record(record_of(tmp_path / way, "ce")) for way in ("by-stage", "alone")]
    assert records[0].recipe == records[1].recipe  # with its name and published figures
    assert records[0].predictions == records[1].predictions


def test_only_the_classifier_changes(tmp_path: Path) -> None:
    train(stage("mislas", "second_stage.shifted_batch_norm=false"), tmp_path)
    before, after = (read_weights(folder_of(tmp_path, name) / FILE).tensors for name in ("mixup", "mislas"))
    kept = [name for name in before if name in after]
    assert len(kept) == len(before) - 2
    assert all(torch.equal(before[name], after[name]) for name in kept)
    scale = after["branches.0.classifier.scale"]
    assert not torch.equal(scale, torch.ones_like(scale))
    assert not torch.equal(after["branches.0.classifier.linear.weight"], before["branches.0.classifier.weight"])


def test_the_record_names_its_first_stage(tmp_path: Path) -> None:
    recipe = stage("crt")
    train(recipe, tmp_path)
    first, second = load_record(record_of(tmp_path, "ce")), load_record(record_of(tmp_path, "crt"))
    assert first.first_stage is None
    assert second.first_stage is not None
    assert second.first_stage.identity == first.identity
    assert second.first_stage.wall_s == pytest.approx(first.timing.wall_s, abs=0.1)
    last = first.selections["last"]
    assert second.first_stage.top1 == sum(last.correct) / sum(last.total)
    assert second.first_stage.precision == first.environment.precision
    assert second.first_stage.device == first.environment.device
    assert second.protocol == first.protocol  # they meet in one table
    assert second.identity == recipe.identity(open_split(recipe.data).digest, 0)
    assert second.curve.epoch == (0, 1, 2)
    assert second.curve.lr == tuple(0.1 * 0.5 * (1 + math.cos(math.pi * epoch / 3)) for epoch in range(3))
    wall = frame(tmp_path / "records").set_index("identity")["wall_s"]
    assert wall[second.identity] == pytest.approx(second.timing.wall_s + second.first_stage.wall_s)


def test_without_training_there_is_one_evaluation(tmp_path: Path) -> None:
    outcome = train(stage("tau-norm", "second_stage.tau=0"), tmp_path)
    found = load_record(outcome.record)
    assert found.curve.epoch == (0,)
    assert math.isnan(found.curve.train_loss[0])
    assert found.timing.train_images_per_s == 0
    assert found.selections.keys() == {"last", "best-on-test"}


def test_interrupted_without_training_it_is_evaluated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tiny("ce"), tmp_path)
    at_epoch(monkeypatch, before=lambda finished: None, after=once(1))
    assert until_done(stage("ncm"), tmp_path) == 1
    found = load_record(record_of(tmp_path, "ncm"))
    assert (found.curve.epoch, found.timing.epochs, found.timing.resumed) == ((0,), 1, 1)


@pytest.mark.parametrize("name", ["crt", "mislas", "max-norm", "disalign", "lws"])
def test_an_interrupted_second_stage_goes_on_exactly(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = stage(name)
    first = recipe.first()
    assert first is not None
    train(recipe, tmp_path / "whole")
    train(first, tmp_path / "cut")
    at_epoch(monkeypatch, before=once(1, 2, 3), after=once(1, 2, 3))
    assert until_done(recipe, tmp_path / "cut") == 6
    for folder in [path for path in tmp_path.rglob(first.name) if path.is_dir()]:
        shutil.rmtree(folder)
    assert_same_result(tmp_path / "cut", tmp_path / "whole")


def test_an_interruption_of_the_first_stage_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_epoch(monkeypatch, before=lambda finished: None, after=once(2, 4))
    assert until_done(stage("crt"), tmp_path) == 2
    assert load_record(record_of(tmp_path, "ce")).timing.resumed == 2


def test_a_first_stage_that_ended_before_its_record_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a kill between the weights and the record."""
    real = run_module.write_record

    def killed(*_: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "write_record", killed)
    with pytest.raises(KeyboardInterrupt):
        train(stage("ncm"), tmp_path / "cut")
    assert (folder_of(tmp_path / "cut", "ce") / FILE).exists()
    monkeypatch.setattr(run_module, "write_record", real)
    train(stage("ncm"), tmp_path / "cut")
    train(stage("ncm"), tmp_path / "whole")
    for recipe in ("ce", "ncm"):
        cut, whole = (load_record(record_of(tmp_path / way, recipe)) for way in ("cut", "whole"))
        assert (cut.identity, cut.selections) == (whole.identity, whole.selections)


def test_a_record_alone_does_not_do_and_is_not_doubled(tmp_path: Path) -> None:
    """As for somebody who has our records, but not the weights."""
    train(tiny("ce"), tmp_path)
    (folder_of(tmp_path, "ce") / FILE).unlink()
    kept = record_of(tmp_path, "ce").read_bytes()
    train(stage("ncm"), tmp_path)
    assert record_of(tmp_path, "ce").read_bytes() == kept
    assert (folder_of(tmp_path, "ce") / FILE).exists()


def test_the_weights_of_a_second_stage_can_be_evaluated(tmp_path: Path) -> None:
    for name in ("crt", "ncm"):
        outcome = train(stage(name), tmp_path)
        found = evaluate_weights(folder_of(tmp_path, name) / FILE, options(tmp_path))
        assert found.summary["top1"] == pytest.approx(outcome.top1)


def test_damaged_weights_of_the_first_stage_are_one_line(tmp_path: Path) -> None:
    train(stage("ncm"), tmp_path)
    (folder_of(tmp_path, "ce") / FILE).write_bytes(b"nothing")
    with pytest.raises(
        UserError, match=r"weights.safetensors: not the weights of a run .*; without this file the first"
    ):
        train(stage("crt"), tmp_path)


def test_weights_of_another_run_are_refused(tmp_path: Path) -> None:
    train(tiny("ce"), tmp_path)
    weights = folder_of(tmp_path, "ce") / FILE
    own = weights.read_bytes()
    train(tiny("ce"), tmp_path / "other", seed=1)
    shutil.copy(folder_of(tmp_path / "other", "ce") / FILE, weights)
    with pytest.raises(UserError, match=r"weights.safetensors: the weights of another run"):
        train(stage("crt"), tmp_path)
    weights.write_bytes(own)
    tensors, about = read_tensors(weights)
    write_tensors(weights, "weights", tensors, about | {"split": "0" * 64})
    with pytest.raises(UserError, match=r"weights.safetensors: the weights of another run"):
        train(stage("crt"), tmp_path)


def test_a_budget_ends_between_the_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(run_module.time, "monotonic", lambda: now[0])
    at_epoch(monkeypatch, before=lambda finished: now.append(now.pop() + 1), after=lambda finished: None)
    with pytest.raises(BudgetSpent):
        train(stage("crt"), tmp_path, deadline=4.5)
    assert record_of(tmp_path, "ce").exists()
    assert not list((tmp_path / "runs").rglob("crt/*/checkpoint.pt"))
    assert train(stage("crt"), tmp_path).trained


def test_an_override_of_the_first_stage_is_another_first_stage(tmp_path: Path) -> None:
    plain, changed = stage("crt"), stage("crt", "loss=balanced-softmax")
    first, other = plain.first(), changed.first()
    assert first is not None
    assert other is not None
    assert other == tiny("ce", "loss=balanced-softmax")
    assert first == tiny("ce")
    assert changed.sha256() != plain.sha256()


def test_a_stage_may_come_by_override_alone() -> None:
    by_override = load_recipe("digits-lt/ce", ["second_stage=crt"])
    assert by_override.sha256() == load_recipe("digits-lt/crt").sha256()
    assert by_override.overrides == ("second_stage=crt",)
    assert by_override.first() == load_recipe("digits-lt/ce")


@pytest.mark.parametrize(("wait", "timeout"), [(False, 0), (True, -1)])
def test_waits_for_whoever_trains_the_first_stage(
    wait: bool, timeout: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []
    real = run_module.FileLock

    def lock(path: Path, timeout: float) -> object:
        waits.append((path.parent.parent.name, timeout))
        return real(path, timeout=timeout)

    monkeypatch.setattr(run_module, "FileLock", lock)
    train(stage("ncm"), tmp_path, wait=wait)
    assert waits == [("ce", -1), ("ncm", timeout)]


def test_force_trains_although_a_first_stage_left_its_checkpoint(tmp_path: Path) -> None:
    """The record of a first stage that was made again stands beside its weights, and counts."""
    train(tiny("ce"), tmp_path)
    (folder_of(tmp_path, "ce") / FILE).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(stage("ncm"), tmp_path)
    assert (folder_of(tmp_path, "ce") / "checkpoint.pt").exists()
    assert len(list(folder_of(tmp_path, "ce").rglob("seed*.json"))) == 1
    done = train(tiny("ce"), tmp_path, force=True)
    again = load_record(only(folder_of(tmp_path, "ce"), "seed*.json"))
    assert load_record(done.record).created > again.created
    assert load_record(done.record).timing.resumed == 0


def interrupted(path: Path, **settings: bool) -> None:
    if path.name == "checkpoint.pt":
        raise KeyboardInterrupt
    os.unlink(path)  # noqa: PTH108 (whose place this takes)
