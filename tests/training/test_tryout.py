"""A try-out: a few steps of every phase and stage, at their true epochs, and nothing left behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import options, tiny

from lt_bench.mixing.class_distance import ClassDistanceMix
from lt_bench.recipe import load_recipe
from lt_bench.recipe.files import shipped_recipes
from lt_bench.training.loop import Job
from lt_bench.training.tryout import Tried, alike, try_out

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

COVERING = (
    *("cmo-ldam-drw", "class-distance-mix-ours-cmo", "progressive-sampling", "lade", "ib"),
    *("bbn", "ride", "glmc", "paco", "crt-mixup", "ncm", "gcl-two-stage"),
)
"""Of each family what has times, streams, networks or features of its own."""


def tried(name: str, folder: Path, *overrides: str) -> list[tuple[str, range]]:
    """The parts that were tried; all of them went well."""
    found: list[tuple[str, range]] = []

    def tell(recipe: Any, one: Tried) -> None:
        assert one.images_per_s > 0
        found.append((recipe.name, one.epochs))

    trials = try_out(load_recipe(f"digits-lt/{name}", overrides), 0, options(folder), tell)
    assert all(trial.seconds > 0 and trial.peak_memory_mb > 0 for trial in trials)
    return found


@pytest.mark.parametrize("name", COVERING)
def test_every_kind_of_method_can_be_tried(name: str, tmp_path: Path) -> None:
    expected = load_recipe(f"digits-lt/{name}")
    stages = [stage for stage in (expected.first(), expected) if stage is not None]
    small = ("data.n_max=40", "data.factor=4")
    assert tried(name, tmp_path, *small) == [(stage.name, epochs) for stage in stages for epochs in alike(stage)]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif("LT_BENCH_SLOW" not in os.environ, reason="takes a minute: LT_BENCH_SLOW=1 runs it")
def test_every_shipped_method_can_be_tried(tmp_path: Path) -> None:
    names = [name.partition("/")[2] for name in shipped_recipes() if name.startswith("digits-lt/")]
    for name in names:
        assert tried(name, tmp_path), name


def test_epochs_are_parted_where_something_begins_to_act() -> None:
    assert alike(load_recipe("cifar10-lt/cmo-ldam-drw")) == [
        *(range(4), range(4, 160), range(160, 197), range(197, 200)),
    ]
    assert alike(load_recipe("cifar10-lt/ride")) == [range(160), range(160, 200)]
    assert alike(load_recipe("cifar10-lt/ncm")) == []
    assert alike(load_recipe("cifar10-lt/crt")) == [range(10)]
    assert alike(load_recipe("digits-lt/ce", ["method=paddles", "protocol.epochs=200"])) == [
        *(range(19), range(19, 30), range(30, 31), range(31, 200)),
    ]


def test_an_epoch_of_several_passes_counts_as_so_many(tmp_path: Path) -> None:
    passes = ("method={name: paddles, stage_passes: 2, classifier_passes: 1}",)
    found: list[Tried] = []
    try_out(tiny("ce", *passes), 0, options(tmp_path), lambda _, one: found.append(one))
    assert [(one.epochs.start, one.images) for one in found] == [(0, 62), (1, 62), (2, 186), (3, 62)]


def test_steps_are_those_of_the_whole_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rate, epoch and number of steps; and what an epoch's end measures acts in the epochs after."""
    seen = []
    real = ClassDistanceMix.partner_order

    def partner_order(self: Any, order: Any, labels: Any, epoch: Any) -> Any:
        seen.append((epoch.index, epoch.total, len(order), bool(self.classes.seen.all())))
        return real(self, order, labels, epoch)

    monkeypatch.setattr(ClassDistanceMix, "partner_order", partner_order)
    recipe = tiny("ce", "mix={name: class-distance-mix-ours, warmup_epochs: 3, generator: mixup}")
    try_out(recipe, 0, options(tmp_path))
    assert seen == [(0, 5, 62, False), (2, 5, 62, False), (3, 5, 62, True), (4, 5, 62, True)]


def test_the_rate_is_that_of_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    real = torch.optim.SGD.step

    def step(self: Any, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return real(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    recipe = tiny("ce-drw")
    try_out(recipe, 0, options(tmp_path))
    starts = [epochs.start for epochs in alike(recipe)]
    assert sorted({*rates}) == sorted({recipe.protocol.lr(start) for start in starts})


def test_it_says_whether_a_recipe_would_train(lt_bench: Callable[..., Any], working_folder: Path) -> None:
    command = ("run", "digits-lt/ncm", "data.n_max=12", "data.factor=4", "model.backbone=tiny", "--device", "cpu")
    done = lt_bench(*command, "--try")
    assert (done.code, done.err) == (0, "")
    part, last = done.out.splitlines()
    assert part.startswith("digits-lt/ncm digits-demo seed 0, ce epochs 1 to 15: loss ")
    assert part.endswith(" images/s")
    assert last.startswith("digits-lt/ncm digits-demo seed 0: would train, in about ")
    assert last.endswith(" MiB")
    failed = lt_bench(*command, "digits-lt/ce", "--try", "protocol.optimizer.lr=1e30")
    assert failed.code == 1
    assert failed.out.count(": would not train: ") == 2
    assert "not finite" in failed.out or "the training loss is nan" in failed.out
    assert failed.err.startswith("lt-bench: 2 of 2 would not train: digits-lt/ncm digits-demo seed 0, digits-lt/ce ")
    assert not list(working_folder.iterdir())


def test_what_is_tried_leaves_no_trace_in_the_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lt_bench.training import tryout

    jobs: list[Job] = []
    real = tryout.build_job
    monkeypatch.setattr(tryout, "build_job", lambda *a, **k: jobs.append(real(*a, **k)) or jobs[-1])
    try_out(tiny(), 0, options(tmp_path))
    assert "loss" not in vars(jobs[0].method)
