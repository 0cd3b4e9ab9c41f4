"""A run from recipe to record: what it writes, what decides its result, and what it does not repeat."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from run_cases import (
    COUNTS,
    assert_same_result,
    at_epoch,
    once,
    only,
    options,
    record,
    tiny,
    train,
    weights,
)

from lt_bench.data.opening import open_split
from lt_bench.errors import UserError
from lt_bench.files import sha256_of
from lt_bench.leaderboard.record import load_predictions, load_record
from lt_bench.training import run as run_module
from lt_bench.training.options import BudgetSpent

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")


# --- what a run writes -------------------------------------------------------------------------------


def test_a_run_writes_what_it_was_and_what_it_gave(tmp_path: Path) -> None:
    recipe = tiny("ce-drw")
    outcome = train(recipe, tmp_path, seed=3)
    found = load_record(outcome.record)
    split = open_split(recipe.data)
    assert outcome.trained
    assert found.identity == recipe.identity(split.digest, 3)
    assert found.recipe == recipe.resolved()
    assert (found.recipe_name, found.seed) == ("ce-drw", 3)
    assert found.protocol.modified
    assert found.dataset.train_counts == tuple(split.counts) == COUNTS
    assert found.dataset.content_sha256 == split.content_sha256
    last = found.selections["last"]
    assert last.epoch == 4
    assert set(last.total) == {60}
    assert outcome.top1 == sum(last.correct) / 600
    predicted, confidence = load_predictions(outcome.record, found)
    assert np.bincount(split.test.labels[predicted == split.test.labels], minlength=10).tolist() == list(last.correct)
    assert ((confidence > 0) & (confidence <= 1)).all()
    assert found.timing.epochs == 5
    assert found.timing.resumed == 0


def test_the_curve_has_a_row_an_epoch(tmp_path: Path) -> None:
    recipe = tiny()
    train(recipe, tmp_path)
    curve = record(tmp_path).curve
    assert curve.epoch == (0, 1, 2, 3, 4)
    assert curve.lr == tuple(recipe.protocol.lr(epoch) for epoch in range(5))
    assert all(math.isfinite(loss) for loss in curve.train_loss)
    assert [value is None for value in curve.test_top1] == [True, False, True, False, False]  # and the last, always
    logged = [json.loads(line) for line in only(tmp_path, "log.jsonl").read_text().splitlines()]
    assert [entry["train_loss"] for entry in logged] == list(curve.train_loss)


def test_selections_are_of_the_epochs_they_say(tmp_path: Path) -> None:
    train(tiny("ce", "data.validation_per_class=5", "protocol.evaluate_every=1"), tmp_path)
    found = record(tmp_path)
    for rule, figures in (("best-on-val", found.curve.val_top1), ("best-on-test", found.curve.test_top1)):
        best = found.selections[rule]  # type: ignore[index]
        assert best.epoch == figures.index(max(value for value in figures if value is not None)), rule
        assert sum(best.correct) / sum(best.total) == pytest.approx(found.curve.test_top1[best.epoch])
    assert found.dataset.validation_sha256 is not None


def test_without_a_validation_part_nothing_is_selected_by_it(tmp_path: Path) -> None:
    train(tiny(), tmp_path)
    assert set(record(tmp_path).selections) == {"last", "best-on-test"}
    assert set(record(tmp_path).curve.val_top1) == {None}


def test_a_finished_run_leaves_weights_and_no_checkpoint(tmp_path: Path) -> None:
    train(tiny(), tmp_path)
    left = {path.name for path in only(tmp_path, "log.jsonl").parent.iterdir()}
    assert left - {".lock"} == {"log.jsonl", "recipe.json", "weights.safetensors"}
    assert record(tmp_path).weights_sha256 == sha256_of(only(tmp_path, "weights.safetensors"))
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path).values())


@pytest.mark.parametrize(
    "overrides", [("model.backbone=resnet10",), ("method=bcl", "model.head=prototypes"), ("model.backbone=resnet8",)]
)
def test_a_last_batch_of_one_image(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    """Of which networks for large images make one pixel, and projections one row: no variance."""
    batch = f"protocol.batch_size={sum(COUNTS) - 1}"
    train(tiny("ce", batch, "protocol.epochs=1", "protocol.schedule={warmup_epochs: 0}", *overrides), tmp_path)
    assert math.isfinite(record(tmp_path).curve.train_loss[0])


def test_small_images_are_trained_on_as_image_files_are(tmp_path: Path) -> None:
    seen = "protocol.augmentation={kind: resized-crop, size: 24, interpolation: bicubic, test_views: five-crop}"
    record = load_record(train(tiny("ce", seen), tmp_path, workers=0).record)
    assert record.recipe["protocol"]["augmentation"]["interpolation"] == "bicubic"
    assert sum(record.selections["last"].total) == 600


def test_images_are_told_how_long_the_training_is(tmp_path: Path) -> None:
    recipe = tiny("ce", "protocol.augmentation={kind: resized-crop, size: 24, minimalist: convex}")
    job = run_module.build_job(recipe, open_split(recipe.data), 0, options(tmp_path, workers=0), epochs=0)
    assert job.sets.train.epochs == 5


# --- what decides the result -------------------------------------------------------------------------


def test_seed_and_nothing_else_decides_the_result(tmp_path: Path) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    train(tiny(), tmp_path / "a")
    torch.manual_seed(2)
    np.random.seed(2)
    train(tiny(), tmp_path / "b", workers=0)
    train(tiny(), tmp_path / "c", seed=1)
    assert_same_result(tmp_path / "b", tmp_path / "a")
    assert not torch.equal(*(weights(tmp_path / name)["trunk.0.weight"] for name in "ac"))


def test_precision_is_recorded_and_changes_only_the_arithmetic(tmp_path: Path) -> None:
    for precision in ("float32", "bf16"):
        train(tiny(), tmp_path / precision, precision=precision)
        assert record(tmp_path / precision).environment.precision == precision
    left, right = (record(tmp_path / precision) for precision in ("float32", "bf16"))
    assert left.identity == right.identity
    assert left.curve.train_loss[0] == pytest.approx(right.curve.train_loss[0], rel=0.05)
    assert left.curve != right.curve


def spied(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Lets a run go on as usual, and notes what the loop does."""
    seen: dict[str, Any] = {"lr": [], "sizes": []}
    real_fit = run_module.fit

    def fit(job: Any, state: Any, on_step: Any, on_epoch: Any) -> None:
        seen["groups"] = state.optimizer.param_groups
        seen["parameters"] = sum(p.numel() for p in job.network.parameters())
        real_loss = job.method.loss

        def loss(network: Any, batches: Any, step: Any) -> Any:
            seen["sizes"].append(len(batches["main"].labels))
            return real_loss(network, batches, step)

        monkeypatch.setattr(job.method, "loss", loss)

        def noted(steps: int) -> None:
            seen["lr"].append(state.optimizer.param_groups[0]["lr"])
            on_step(steps)

        real_fit(job, state, noted, on_epoch)

    monkeypatch.setattr(run_module, "fit", fit)
    return seen


def test_every_step_has_the_learning_rate_of_the_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied(monkeypatch)
    schedule = "protocol.schedule={warmup_epochs: 1.5, warmup_per: iteration, milestones: [3], factors: [0.1]}"
    train(tiny("ce", schedule), tmp_path)
    warm_up = [0.1 * step / 6 for step in range(6)]
    assert seen["lr"] == pytest.approx(warm_up + [0.1] * 6 + [0.01] * 8)


def test_the_short_last_batch_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied(monkeypatch)
    train(tiny("ce", "protocol.batch_size=30"), tmp_path)
    assert seen["sizes"] == [30, 30, 2] * 5


def test_weight_decay_is_on_every_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied(monkeypatch)
    train(tiny("ce", "protocol.optimizer={weight_decay: 1e-3, momentum: 0.8, nesterov: true}"), tmp_path)
    (group,) = seen["groups"]
    assert sum(p.numel() for p in group["params"]) == seen["parameters"]
    assert (group["weight_decay"], group["momentum"], group["nesterov"]) == (1e-3, 0.8, True)


# --- repetition --------------------------------------------------------------------------------------


def test_a_finished_run_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(tiny(), tmp_path)
    before = first.record.read_bytes()
    monkeypatch.setattr(run_module, "build_job", None)
    again = train(tiny(), tmp_path)
    assert (again.record, again.top1, again.trained) == (first.record, first.top1, False)
    assert first.record.read_bytes() == before


def test_force_writes_a_second_record_beside_the_first(tmp_path: Path) -> None:
    first, second = train(tiny(), tmp_path), train(tiny(), tmp_path, force=True)
    assert second.trained
    assert second.record.name == first.record.name.replace(".json", ".r2.json")
    assert load_record(first.record).curve == load_record(second.record).curve
    assert train(tiny(), tmp_path).record == second.record


def killed_before_the_clean_up(recipe: Any, folder: Path, **changes: Any) -> None:
    """A run that ends between its record and the removal of its checkpoint."""
    real = Path.unlink

    def unlink(path: Path, **settings: Any) -> None:
        if path.name == "checkpoint.pt":
            raise KeyboardInterrupt
        real(path, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, folder, **changes)


def test_force_trains_although_the_last_run_could_not_clean_up(tmp_path: Path) -> None:
    for done, force in enumerate([False, True, True], 1):
        killed_before_the_clean_up(tiny(), tmp_path, force=force)
        assert len(list(tmp_path.rglob("seed*.json"))) == done
        assert not train(tiny(), tmp_path).trained
    found = [load_record(path) for path in tmp_path.rglob("seed*.json")]
    assert [one.timing.resumed for one in found] == [0, 0, 0]
    assert len({one.created for one in found}) == 3


def test_force_goes_on_with_what_was_forced_and_interrupted(tmp_path: Path) -> None:
    killed_before_the_clean_up(tiny(), tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        at_epoch(patch, before=lambda _: None, after=once(3))
        with pytest.raises(KeyboardInterrupt):
            train(tiny(), tmp_path, force=True)
        done = train(tiny(), tmp_path, force=True)
    assert load_record(done.record).timing.resumed == 1
    assert done.record.name.endswith(".r2.json")


def test_a_run_that_another_process_trains_is_refused(tmp_path: Path) -> None:
    recipe = tiny()
    train(recipe, tmp_path)
    lock = only(tmp_path, "log.jsonl").parent / ".lock"
    held = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n print('held', flush=True)\n sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", held, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is training this run"):
            train(recipe, tmp_path, force=True)
        other.communicate()
    assert train(recipe, tmp_path, force=True).trained


def test_a_run_that_another_process_has_just_finished_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run_module._locked

    def late(folder: Path, *, wait: bool) -> Any:
        monkeypatch.setattr(run_module, "_locked", real)
        train(tiny(), tmp_path)  # the other process, between the look for a record and the lock
        return real(folder, wait=wait)

    monkeypatch.setattr(run_module, "_locked", late)
    assert not train(tiny(), tmp_path).trained
    assert record(tmp_path)


# --- budget ------------------------------------------------------------------------------------------


def test_a_spent_budget_stops_at_an_epoch_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count()  # ticks when it is looked at: twice before the training and after each epoch but the last
    monkeypatch.setattr(run_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for finished in (2, 4):
        with pytest.raises(BudgetSpent):
            train(tiny(), tmp_path / "cut", deadline=next(clock) + 3)
        assert len(only(tmp_path, "log.jsonl").read_text().splitlines()) == finished
    train(tiny(), tmp_path / "cut", deadline=next(clock) + 3)
    train(tiny(), tmp_path / "whole")
    assert_same_result(tmp_path / "cut", tmp_path / "whole")
    assert record(tmp_path / "cut").timing.resumed == 2


def test_a_finished_run_costs_no_budget(tmp_path: Path) -> None:
    train(tiny(), tmp_path)
    assert not train(tiny(), tmp_path, deadline=0).trained
    with pytest.raises(BudgetSpent):
        train(tiny(), tmp_path, seed=1, deadline=0)
    assert options(tmp_path).deadline is None
