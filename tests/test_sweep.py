"""A sweep runs what is missing, stops within its budget, and outlives its failures."""

from __future__ import annotations

import json
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from run_cases import TINY

from lt_bench.errors import RunError, UserError
from lt_bench.leaderboard.record import load_record
from lt_bench.recipe import load_recipe
from lt_bench.sweep import Packed, packed, parse_budget, plan, spread
from lt_bench.sweep.local import _Worker
from lt_bench.training import options as options_module
from lt_bench.training import run as run_module
from lt_bench.training.options import Options

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

DEVICE = ("--device", "cpu")
TWO = ("digits-lt/ce", "digits-lt/mixup", *TINY, *DEVICE)


def records(folder: Path) -> list[str]:
    """Of which recipe and seed there are records."""
    found = folder.glob("results/records/*/*/*/seed*.json")
    return sorted(f"{path.parent.name} {path.name.split('-')[0]}" for path in found)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that are tried, in order."""
    tried: list[str] = []
    real = packed.run

    def run(recipe: Any, seed: int, options: Any) -> Any:
        tried.append(f"{recipe.name} seed{seed}")
        return real(recipe, seed, options)

    monkeypatch.setattr(packed, "run", run)
    return tried


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, *which: str) -> None:
    real = packed.run

    def run(recipe: Any, seed: int, options: Any) -> Any:
        if f"{recipe.name} seed{seed}" in which:
            raise error
        return real(recipe, seed, options)

    monkeypatch.setattr(packed, "run", run)


def test_a_sweep_covers_all_recipes_seed_by_seed(
    lt_bench: Callable[..., Any], working_folder: Path, runs: list[str]
) -> None:
    done = lt_bench("sweep", *TWO, "--seeds", "0,1")
    assert (done.code, runs) == (0, ["ce seed0", "mixup seed0", "ce seed1", "mixup seed1"])
    assert records(working_folder) == ["ce seed0", "ce seed1", "mixup seed0", "mixup seed1"]
    lines = done.out.splitlines()
    assert len(lines) == 4
    assert all("top-1" in line and ".json" in line and "already" not in line for line in lines)


def test_a_run_has_one_name_from_its_first_line_to_its_result(lt_bench: Callable[..., Any]) -> None:
    done = lt_bench("sweep", "digits-lt/mixup", *TWO[2:], "--seeds", "0", "--grid", "mix.alpha=0.5,1")
    titles = [line.partition(": top-1")[0] for line in done.out.splitlines()]
    assert titles == [f"digits-lt/mixup digits-demo mix.alpha={alpha} seed 0" for alpha in ("0.5", "1")]
    assert all(f"\n{title}: epoch 1/" in done.err for title in titles)


def test_only_what_is_missing_is_run(lt_bench: Callable[..., Any], working_folder: Path) -> None:
    lt_bench("run", "digits-lt/ce", *TWO[2:])
    before = {path: path.read_bytes() for path in working_folder.rglob("seed*.json")}
    done = lt_bench("sweep", *TWO, "--seeds", "0")
    assert [("already done" in line) for line in done.out.splitlines()] == [True, False]
    assert records(working_folder) == ["ce seed0", "mixup seed0"]
    assert all(path.read_bytes() == data for path, data in before.items())
    again = lt_bench("sweep", *TWO, "--seeds", "0")
    assert again.out.count("already done") == 2
    begin, end = again.err.splitlines()
    assert begin == "2 runs, 2 already done, 0 to train"
    assert end.startswith("0 trained, 2 already done, 0 failed in ")
    assert end.endswith("; the tables: lt-bench leaderboard show")


def test_all_runs_everything_anew(lt_bench: Callable[..., Any], working_folder: Path) -> None:
    for _ in range(2):
        assert lt_bench("sweep", *TWO, "--seeds", "0", "--all").code == 0
    assert len(records(working_folder)) == 4


def test_a_spent_budget_goes_on_next_time(
    lt_bench: Callable[..., Any], working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count()  # one tick whenever somebody looks at it, which is once an epoch
    for module in (plan, run_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    logged, calls = [], 0
    while len(records(working_folder)) < 2:
        done = lt_bench("sweep", *TWO, "--seeds", "0", "--budget", "3s")
        calls += 1
        assert done.code == 0
        logged.append(sum(path.read_text().count("\n") for path in working_folder.rglob("log.jsonl")))
        assert calls < 10
        assert ("the budget is spent; the same command goes on from here" in done.out) == (
            len(records(working_folder)) < 2
        )
    assert logged == sorted(logged)
    assert len(set(logged)) == calls > 2
    assert logged[-1] == 10


def test_runs_at_once_are_the_runs_one_by_one(lt_bench: Callable[..., Any], working_folder: Path) -> None:
    def curves(where: str) -> dict[str, Any]:
        return {p.parent.name: load_record(p).curve for p in (working_folder / where).rglob("seed*.json")}

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # or the runs together would have fewer than the runs alone, and round otherwise
    try:
        for jobs, where in (("1", "alone"), ("2", "together")):
            options = ("--jobs", jobs, "--records", where, "--work", f"{where}-runs")
            done = lt_bench("sweep", *TWO, "--seeds", "0", *options)
            assert (done.code, done.out.count("top-1")) == (0, 2)
    finally:
        torch.set_num_threads(threads)
    assert len(curves("alone")) == 2
    assert curves("together") == curves("alone")
    again = lt_bench("sweep", *TWO, "--seeds", "0", *options, "--budget", "0s")
    assert again.out.count("already done") == 2


def test_stages_at_once_wait_for_the_first_that_they_share(
    lt_bench: Callable[..., Any], working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And on a terminal, as this pretends to be one, their processes say nothing: a table does."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    done = lt_bench("sweep", "digits-lt/ncm", "digits-lt/ce", *TINY, "--device", "cpu", "--seeds", "0", "--jobs", "2")
    assert (done.code, done.out.count("top-1")) == (0, 2)
    assert records(working_folder) == ["ce seed0", "ncm seed0"]
    assert re.search(r"all runs.*2/2", done.err)
    assert re.search(r"digits-lt/ncm digits-demo seed 0 .*(begins|1/1)", done.err)
    assert "epoch" not in done.err


def test_runs_at_once_begin_with_different_first_stages() -> None:
    names = ("ce", "crt", "lws", "mixup", "crt-mixup")
    runs = [(f"{name} {seed}", load_recipe(f"digits-lt/{name}"), seed) for seed in (0, 1) for name in names]
    assert [title for title, _, _ in spread(runs)] == [
        *("ce 0", "mixup 0", "ce 1", "mixup 1"),
        *("crt 0", "crt-mixup 0", "crt 1", "crt-mixup 1"),
        *("lws 0", "lws 1"),
    ]


def test_failures_and_a_spent_budget_come_back_from_the_processes(lt_bench: Callable[..., Any]) -> None:
    done = lt_bench("sweep", *TWO, "data.n_max=10000", "--seeds", "0", "--jobs", "2")
    assert done.code == 2
    assert done.out.count(": failed: ") == 2
    assert "2 of 2 runs failed" in done.err
    spent = lt_bench("sweep", *TWO, "--seeds", "0", "--jobs", "2", "--budget", "0s")
    assert spent.code == 0
    assert spent.out == (
        "the budget is spent; the same command goes on from here: "
        "2 of 2 runs left, digits-lt/ce digits-demo seed 0; digits-lt/mixup digits-demo seed 0\n"
    )


BAD = """
import os, signal, sys
from lt_bench.losses import Loss
from lt_bench.registry import Info

class Two(Exception):
    def __init__(self, what, where):
        super().__init__(f"{what} at {where}")

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

def two():
    raise Two("shape", "step 1")

class Failing(Loss):
    name = "failing"
    info = Info("always fails")

    class Config(Loss.Config):
        how: str

    def per_sample(self, logits, labels):
        {"killed": killed, "two": two, "left": sys.exit}[self.config.how]()
"""


@pytest.mark.usefixtures("registry")
def test_bad_runs_of_several_at_once_are_told_and_the_others_go_on(
    lt_bench: Callable[..., Any], working_folder: Path
) -> None:
    Path("bad.py").write_text(BAD)
    for how in ("killed", "two", "left"):
        recipe = {
            "extends": "protocols/digits-demo",
            "data": {"name": "digits-lt", "factor": 20},
            "model": {"backbone": "resnet8"},
            "loss": {"name": "failing", "how": how},
        }
        Path(f"{how}.yaml").write_text(json.dumps(recipe))
    recipes = ("digits-lt/ce", "killed.yaml", "two.yaml", "left.yaml", "digits-lt/mixup")
    done = lt_bench("sweep", *recipes, *TINY, *DEVICE, "--plugin", "bad.py", "--seeds", "0", "--jobs", "2")
    assert done.code == 1
    failed = dict(line.split(": failed: ") for line in done.out.splitlines() if ": failed: " in line)
    assert failed == {
        "digits-lt/killed digits-demo seed 0": "its process was killed, perhaps for want of memory; "
        "the same command goes on from here",
        "digits-lt/two digits-demo seed 0": "Two: shape at step 1 (bad.py, line 14)",
        "digits-lt/left digits-demo seed 0": "SystemExit (bad.py, line 24)",
    }
    assert done.err.splitlines()[-1].startswith("lt-bench: 3 of 5 runs failed: digits-lt/")
    assert records(working_folder) == ["ce seed0", "mixup seed0"]


class TwoPartError(UserError):
    """Does not unpickle."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (TwoPartError("wrong", "home"), UserError, "wrong at home"),
        (RunError("the loss is nan"), RunError, "the loss is nan"),
        (ZeroDivisionError("by\nzero"), RunError, "ZeroDivisionError: by zero"),
        (options_module.BudgetSpent(), options_module.BudgetSpent, ""),
    ],
)
def test_what_a_process_gives_back_can_be_read(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], text: str
) -> None:
    def run(*_: object) -> None:
        raise error

    monkeypatch.setattr(packed, "run", run)
    found = pickle.loads(pickle.dumps(Packed(load_recipe("digits-lt/ce"), 0, Options()).attempt()))
    assert type(found) is kind
    assert str(found) == text


@pytest.mark.parametrize("error", [RunError("the loss is nan"), RuntimeError("out of\nmemory"), UserError("no data")])
def test_a_failed_run_does_not_stop_the_rest(
    lt_bench: Callable[..., Any], working_folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    failing(monkeypatch, error, "ce seed0")
    done = lt_bench("sweep", *TWO, "--seeds", "0,1")
    assert records(working_folder) == ["ce seed1", "mixup seed0", "mixup seed1"]
    assert done.code == (2 if isinstance(error, UserError) else 1)
    assert "ce digits-demo seed 0: failed: " in done.out
    assert len(done.out.splitlines()) == 4
    assert done.err.splitlines()[-1] == "lt-bench: 1 of 4 runs failed: digits-lt/ce digits-demo seed 0"


def test_failures_of_both_kinds_are_failed_runs(lt_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, UserError("no data"), "ce seed0")
    failing(monkeypatch, RunError("the loss is nan"), "mixup seed0")
    done = lt_bench("sweep", *TWO, "--seeds", "0")
    assert done.code == 1
    assert "2 of 2 runs failed" in done.err


def test_a_failure_is_told_although_the_budget_is_spent(
    lt_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, RunError("the loss is nan"), "ce seed0")
    failing(monkeypatch, options_module.BudgetSpent(), "mixup seed0")
    done = lt_bench("sweep", *TWO, "--seeds", "0", "--budget", "1h")
    assert "the budget is spent" in done.out
    assert done.code == 1
    assert "1 of 2 runs failed" in done.err


def test_an_interruption_stops_the_sweep(
    lt_bench: Callable[..., Any], working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, KeyboardInterrupt(), "mixup seed0")  # type: ignore[arg-type]
    assert lt_bench("sweep", *TWO, "--seeds", "0,1").code == 130
    assert records(working_folder) == ["ce seed0"]


def test_a_record_is_run_again_as_it_was(lt_bench: Callable[..., Any], working_folder: Path) -> None:
    assert lt_bench("run", "digits-lt/mixup", *TINY, "--seeds", "7").code == 0
    (first,) = working_folder.rglob("seed7-*.json")
    done = lt_bench("run", first)
    assert (done.code, "already done" in done.out) == (0, True)
    again = lt_bench("run", first, "--records", "again", "--work", "elsewhere")
    assert again.code == 0
    (second,) = (working_folder / "again").rglob("seed7-*.json")
    before, after = (json.loads(path.read_text()) for path in (first, second))
    assert (before["identity"], before["selections"]) == (after["identity"], after["selections"])
    assert lt_bench("run", first, "mix=cutmix").err.endswith("a record is repeated as it was, without mix=cutmix\n")


def test_a_record_of_what_was_corrected_since_cannot_be_repeated(lt_bench: Callable[..., Any]) -> None:
    shipped = Path(__file__).parents[1] / "leaderboard" / "v1" / "records"
    record = next(path for path in sorted(shipped.rglob("glmc/*.json")) if '"revision"' not in path.read_text())
    refused = lt_bench("run", record)
    assert (refused.code, "cannot be run any more" in refused.err) == (2, True)


def test_every_recipe_is_checked_before_the_first_run(lt_bench: Callable[..., Any], working_folder: Path) -> None:
    done = lt_bench("sweep", "digits-lt/ce", "digits-lt/nothing", *TINY)
    assert done.code == 2
    assert not list(working_folder.rglob("seed*"))


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("40m", 2400), ("1.5h", 5400), (" 2 h ", 7200), ("0s", 0)])
def test_budgets(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "40", "m", "-1m", "1e3s", "40 minutes", "1h30m", "infs"])
def test_budgets_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="expected a time such as 90s, 40m or 2h"):
        parse_budget(text)


def test_all_runs_within_a_budget_would_never_get_further(lt_bench: Callable[..., Any]) -> None:
    done = lt_bench("sweep", "digits-lt/ce", "--all", "--budget", "1m")
    assert done.code == 2
    assert "--all with --budget" in done.err


DYING = """
import os, signal
from lt_bench.sweep.local import _Worker
if __name__ == "__main__":
    print(_Worker(1).pool.submit(os.getpid).result(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the process in /proc")
def test_workers_end_with_a_killed_sweep(tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(DYING, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, tmp_path / "dying.py"], stdout=subprocess.PIPE, text=True, check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while _lives(done.stdout.strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(done.stdout.strip())


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_sweep_that_ends_early_does_not_wait_for_what_runs() -> None:
    worker = _Worker(1)
    try:
        running = worker.pool.submit(time.sleep, 120)
        until = time.monotonic() + 60
        while not worker.status.pid and time.monotonic() < until:
            time.sleep(0.05)
        worker.end_run()
        assert isinstance(running.exception(timeout=60), BrokenProcessPool)
    finally:
        worker.pool.shutdown(cancel_futures=True)
