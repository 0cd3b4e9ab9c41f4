"""A sweep as SLURM jobs: as processes of this machine, and as the script that a cluster gets."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from run_cases import TINY, options, tiny

from lt_bench.errors import RunError
from lt_bench.leaderboard.record import load_record
from lt_bench.sweep import cluster as cluster_module
from lt_bench.sweep import on_slurm, packed, plan
from lt_bench.sweep.elsewhere import Home, Sent
from lt_bench.sweep.on_slurm import Job, Resources, Slurm, _Jobs
from lt_bench.training.options import Options

pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

LtBench = Callable[..., Any]
SWEEP = ("sweep", "digits-lt/ce", *TINY, "--device", "cpu", "--seeds", "0,1")
ASKED = ("--on", "slurm", "--resources", "partition=gpu,time=2h,gpus=1,cpus=8,memory=32")
SCRIPT = """\
#!/bin/bash

# Parameters
#SBATCH --array=0-1%1
#SBATCH --cpus-per-task=8
#SBATCH --error=RUNS/slurm/%A_%a_0_log.err
#SBATCH --gpus-per-node=1
#SBATCH --job-name=lt-bench
#SBATCH --mem=32GB
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output=RUNS/slurm/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --signal=USR2@90
#SBATCH --time=120
#SBATCH --wckey=submitit

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output RUNS/slurm/%A_%a_%t_log.out --error RUNS/slurm/%A_%a_%t_log.err \
PYTHON -u -m submitit.core._submit RUNS/slurm
"""
"""What a lab would write by hand, but for submitit's own ways with logs and signals."""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that stand in for SLURM's; the file has what they were asked for."""
    asked = tmp_path / "asked"
    for command, answer in {"sbatch": "Submitted batch job 7", "scancel": "", "sacct": "", "srun": ""}.items():
        path = tmp_path / "bin" / command
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{command} $@" >> {asked}\necho "{answer}"\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return asked


def test_runs_as_jobs_leave_their_records(lt_bench: LtBench, working_folder: Path) -> None:
    """Here as two processes, with the plug-in of the tiny network loaded anew in each."""
    done = lt_bench(*SWEEP, "--on", "slurm:local")
    assert (done.code, done.out.count(": top-1 ")) == (0, 2), done
    assert "2 runs, 0 already done, 2 to train on SLURM (local), a job each" in done.err
    found = [load_record(path) for path in working_folder.rglob("results/records/**/seed*.json")]
    assert sorted(record.seed for record in found) == [0, 1]
    assert not [*working_folder.rglob(".sweep-*")]
    logs = [path.read_text() for path in working_folder.glob("runs/slurm/*_log.err")]
    assert all("epoch 5/5" in text for text in logs)
    again = lt_bench(*SWEEP, "--on", "slurm:local", "--jobs", "1")
    assert again.out.count("already done") == 2
    assert len([*working_folder.glob("runs/slurm/*_log.err")]) == len(logs) == 2


def test_the_script_is_what_a_lab_would_write_and_ctrl_c_takes_the_jobs_back(
    lt_bench: LtBench, working_folder: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(on_slurm.time, "sleep", interrupted)
    done = lt_bench(*SWEEP, *ASKED, "--jobs", "1")
    assert done.code == 130
    assert "goes on from the last finished epoch" in done.err
    script = (working_folder / "runs" / "slurm" / "7_submission.sh").read_text()
    script = re.sub(r"\S+ -u -m", "PYTHON -u -m", script.replace(str(working_folder / "runs"), "RUNS"))
    assert script.strip() == SCRIPT.strip()
    asked = cluster.read_text().splitlines()
    assert [line for line in asked if line.startswith("scancel")] == ["scancel 7_0", "scancel 7_1"]


def test_what_no_machine_has_begun_is_taken_back_when_the_budget_is_spent(
    lt_bench: LtBench, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count()
    monkeypatch.setattr(plan, "time", SimpleNamespace(monotonic=lambda: 0))
    monkeypatch.setattr(cluster_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(on_slurm.time, "sleep", lambda _: None)
    done = lt_bench(*SWEEP, *ASKED, "--budget", "1s")
    assert (done.code, "2 of 2 runs left" in done.out) == (0, True)
    assert "scancel 7_0" in cluster.read_text()


@pytest.mark.parametrize(
    ("given", "deadline", "minutes"), [({}, None, 1440), ({"time": "90m"}, 0.0, 90), ({}, 3000.0, 60)]
)
def test_the_time_of_a_job(given: dict[str, Any], deadline: float | None, minutes: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(on_slurm.time, "monotonic", lambda: 0.0)
    asked = Slurm(Resources(**given)).parameters(Options(deadline=deadline))
    assert asked == {"name": "lt-bench", "timeout_min": minutes}


def test_a_dry_run_says_where(lt_bench: LtBench, working_folder: Path) -> None:
    done = lt_bench(*SWEEP, *ASKED, "--dry-run", "--jobs", "4")
    assert done.code == 0
    where = "on SLURM, a job each, 4 at once, partition=gpu, time=2h, gpus=1, cpus=8, memory=32"
    assert done.err == f"2 runs, 0 already done: 2 to train {where}\n"
    assert not [*working_folder.rglob("slurm")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("partion=gpu", "did you mean partition?"),
        ("gpus=two", "--resources: job.gpus: should be a valid integer"),
        ("gpu", "expected NAME=VALUE"),
        ("time=2x", "--resources time 2x: expected a time"),
        ("gpus=1", "finds no srun on this machine"),
    ],
)
def test_what_cannot_be_asked_for(
    lt_bench: LtBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, said: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = lt_bench(*SWEEP, "--on", "slurm", "--resources", words)
    assert done.code == 2
    assert said in done.err.splitlines()[-1]


def test_what_sbatch_says_against_it_is_told(lt_bench: LtBench, cluster: Path) -> None:
    (cluster.parent / "bin" / "sbatch").write_text('#!/bin/sh\necho "invalid partition: gpu" >&2\nexit 1\n')
    done = lt_bench(*SWEEP, *ASKED)
    assert done.code == 2
    assert re.search(r"--on slurm: the jobs were not taken: .*invalid partition: gpu", done.err.splitlines()[-1])


def test_a_run_that_is_requeued_leaves_the_machine_and_sends_nothing(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As submitit does it in the handler of the signal, in the middle of a training."""
    job = Job(Sent.of(("ce 0", tiny(), 0), options(working_folder), Home(working_folder, ".none", {})))

    def signalled(*_: Any) -> None:
        again.append(job.checkpoint())
        raise SystemExit(-1)

    again: list[Any] = []
    monkeypatch.setattr(packed, "run", signalled)
    with pytest.raises(SystemExit):
        job()
    monkeypatch.undo()
    assert again[0].result().result.trained


def test_a_run_that_ends_its_process_itself_has_failed(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def left(*_: Any) -> None:
        raise SystemExit(-1)

    monkeypatch.setattr(packed, "run", left)
    job = Job(Sent.of(("ce 0", tiny(), 0), options(working_folder), Home(working_folder, ".none", {})))
    assert isinstance(job().result, RunError)


def test_a_job_that_ends_without_a_result_is_a_failed_run(working_folder: Path) -> None:
    def result() -> None:
        raise RuntimeError("the whole\nlog")

    job = SimpleNamespace(result=result, job_id="7_0", state="OUT_OF_MEMORY", paths=SimpleNamespace(stderr="7_0.err"))
    ended = _Jobs(None, Slurm(Resources())).result(job).result
    assert isinstance(ended, RunError)
    assert str(ended).startswith("its job 7_0 ended without a result (OUT_OF_MEMORY), see 7_0.err; ")
