"""What a sweep says of time: how long by records, how far it is, what is left; live where there is a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import TINY, tiny

from lt_bench.errors import RunError
from lt_bench.estimates import Estimator, grouped
from lt_bench.leaderboard.record import load_record
from lt_bench.leaderboard.seal import sealed
from lt_bench.sweep import packed
from lt_bench.training.run import Options

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

LtBench = Callable[..., Any]
TWO = ("digits-lt/ce", "digits-lt/mixup", *TINY, "--device", "cpu")


def said(done: Any) -> list[str]:
    """What standard error has beside the trainings' own lines."""
    return [line for line in done.err.splitlines() if not re.match(r"digits-lt[/ ].* seed \d", line)]


def estimator(**changes: Any) -> Estimator:
    return Estimator(Options(**({"device": "cpu"} | changes)), torch.get_num_threads())


@pytest.fixture
def record(lt_bench: LtBench, working_folder: Path) -> Path:
    """Of `ce`, seed 0, which took 12 s."""
    assert lt_bench("run", "digits-lt/ce", *TWO[2:]).code == 0
    (path,) = working_folder.rglob("seed*.json")
    timed = re.sub(r'"wall_s": [\d.]+', '"wall_s": 12.0', path.read_text())
    path.write_text(sealed(timed[: timed.rindex(',\n "sha256"')] + "\n}\n"))
    return path


def test_the_same_recipe_takes_what_it_took(record: Path) -> None:
    found = estimator().of(tiny())
    assert found is not None
    assert (found.seconds, found.source) == (pytest.approx(12), "1 record of this recipe")


def test_what_costs_the_same_takes_it_by_epochs_and_images(record: Path) -> None:
    """62 training images, each step three times a prediction; 600 test images, evaluated after epochs 2, 4 and 5."""
    five, ten = 3 * 5 * 62 + 3 * 600, 3 * 10 * 62 + 5 * 600
    mixed, longer = (estimator().of(tiny(*changes)) for changes in (("mixup",), ("ce-drw", "protocol.epochs=10")))
    assert mixed is not None
    assert longer is not None
    assert (mixed.seconds, mixed.source) == (pytest.approx(12), "1 record of what costs the same")
    assert longer.seconds == pytest.approx(12 * ten / five)


def test_what_costs_another_time_is_not_told(record: Path) -> None:
    known = estimator()
    others = [("ce", "model.backbone=resnet8"), ("ce", "protocol.batch_size=32"), ("ride",), ("ncm",)]
    assert [known.of(tiny(*other)) for other in others] == [None] * 4
    assert Estimator(Options(device="cpu"), torch.get_num_threads() + 1).of(tiny()) is None  # another machine
    assert estimator(precision="bf16").of(tiny()) is None or load_record(record).environment.precision == "bf16"


def test_the_shipped_board_counts_where_it_is_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Estimator(Options(device="cpu"), 1)
    known.__dict__["machine"] = ("AMD EPYC", 1, "float32", "", 1)
    recipe = tiny("ride", "data.n_max=110")
    assert known.of(recipe) is None  # another network
    from lt_bench.recipe import load_recipe

    found = known.of(load_recipe("digits-lt/ce"))
    assert found is not None
    assert found.source.endswith(" of the shipped board of this recipe")
    known.__dict__["machine"] = ("AMD EPYC", 1, "float16", "", 1)
    assert known.of(load_recipe("digits-lt/ce")) is None


def test_a_first_stage_is_trained_once(record: Path) -> None:
    names = ("ncm", "tau-norm", "ce-drw")
    runs = [(f"{name} {seed}", tiny(name), seed) for name in names for seed in (0, 1)]
    needed = estimator().trainings(runs)
    assert sorted((recipe.name, seed) for (_, seed), recipe in needed.items()) == [
        *(("ce", 1), ("ce-drw", 0), ("ce-drw", 1), ("ncm", 0), ("ncm", 1), ("tau-norm", 0), ("tau-norm", 1)),
    ]
    assert grouped(runs) == [f"{name} {seed} seed {seed}" for name in names for seed in (0, 1)]


def test_a_sweep_counts_its_runs_and_says_when_it_will_end(lt_bench: LtBench, record: Path) -> None:
    done = lt_bench("sweep", *TWO, "--seeds", "0,1")
    begin, second, third, end = said(done)
    assert re.fullmatch(r"4 runs, 1 already done, 3 to train, about 36 s, until [\w :]+", begin)
    assert re.fullmatch(r"2 of 4, about \d.*", second)
    assert re.fullmatch(r"3 of 4, about \d.*", third)
    assert re.fullmatch(r"3 trained, 1 already done, 0 failed in [\d.]+ s; the tables: lt-bench leaderboard show", end)
    assert len(done.out.splitlines()) == 4


def test_what_is_known_is_the_least_that_it_takes(record: Path) -> None:
    known = estimator()
    assert known.seconds([("a", tiny(), 1), ("b", tiny("mixup"), 1), ("c", tiny(), 2)]) == (pytest.approx(36), True)
    assert known.seconds([("a", tiny(), 1), ("b", tiny("ride"), 1)]) == (pytest.approx(12), False)
    assert known.seconds([]) == (0, True)


def test_a_sweep_that_cannot_tell_says_so(lt_bench: LtBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(recipe: Any, seed: int, options: Any) -> Any:
        raise RunError("no")

    monkeypatch.setattr(packed, "run", run)
    done = lt_bench("sweep", *TWO, "--seeds", "0", "--records", "r")
    begin, first, end, _ = said(done)
    unknown = "no record made on this machine tells how long it will take, --dry-run measures it"
    assert begin == f"2 runs, 0 already done, 2 to train, {unknown}"
    assert first == "1 of 2"
    assert end.startswith("0 trained, 0 already done, 2 failed in ")
    assert end.endswith("lt-bench leaderboard show --records r")


def test_a_dry_run_says_how_long_and_how_it_knows(lt_bench: LtBench, record: Path, working_folder: Path) -> None:
    before = {*working_folder.rglob("*")}
    done = lt_bench("sweep", *TWO, "digits-lt/tau-norm", "--seeds", "0,1", "--dry-run")
    assert (done.code, done.out.count('"protocol": {')) == (0, 3)
    tau, ce, mixup, total = done.err.splitlines()
    assert ce == "digits-lt/ce digits-demo: about 12 s a run, by 1 record of this recipe"
    assert mixup == "digits-lt/mixup digits-demo: about 12 s a run, by 1 record of what costs the same"
    assert re.fullmatch(r"digits-lt/tau-norm digits-demo: about [\d.]+ s a run, by a few steps on this machine", tau)
    assert re.fullmatch(r"6 runs, 1 already done: about 3[67] s", total)
    assert {*working_folder.rglob("*")} == before


def test_a_dry_run_tries_two_stages_at_once(lt_bench: LtBench, monkeypatch: pytest.MonkeyPatch) -> None:
    from lt_bench import preview

    tried, real = [], preview.try_out
    monkeypatch.setattr(preview, "try_out", lambda recipe, *more: tried.append(recipe.name) or real(recipe, *more))
    done = lt_bench("run", "digits-lt/crt", *TWO[2:], "--dry-run", "--records", "none")
    assert tried == ["crt"]
    assert [line.split()[0] for line in done.err.splitlines()[:2]] == ["digits-lt/crt", "digits-lt/ce"]


def test_a_dry_run_of_what_would_be_refused_is_refused(lt_bench: LtBench) -> None:
    done = lt_bench("run", "digits-lt/ce", *TWO[2:], "data.n_max=200", "--dry-run", "--device", "cpu")
    one, total, refusal = done.err.splitlines()
    assert done.code == 2
    assert one.startswith("digits-lt/ce digits-demo: would be refused: data.n_max: class 0 (0) has")
    assert total.endswith("what nobody can tell of ce")
    assert refusal == "lt-bench: 1 of them would be refused as they are: digits-lt/ce digits-demo"


def test_a_dry_run_without_data_says_what_it_cannot_tell(lt_bench: LtBench) -> None:
    done = lt_bench("run", "cifar10-lt/ce", "--dry-run", "--data-root", "nowhere", "--device", "cpu")
    assert (done.code, json.loads(done.out)["name"]) == (0, "ce")
    one, total = done.err.splitlines()
    assert one.startswith("cifar10-lt/ce cifar-200ep: nobody can tell how long a run takes: ")
    assert total == "1 run, 0 already done: what nobody can tell of ce"
