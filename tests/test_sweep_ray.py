"""A sweep on a real Ray cluster of two nodes, both on this machine, that loses a worker on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from run_cases import TINY

from lt_bench.errors import RunError, UserError
from lt_bench.leaderboard.record import load_record
from lt_bench.plugins import load_plugin
from lt_bench.sweep.on_ray import Ray, Resources, _Tasks
from lt_bench.training.options import Options

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

LtBench = Callable[..., Any]
DYING = """
import os, signal
from pathlib import Path
from lt_bench.losses.cross_entropy import CrossEntropy
from lt_bench.registry import Info

class Dying(CrossEntropy):
    name = "dying"
    info = Info("cross entropy that kills its process once, in the second epoch of a run")

    def per_sample(self, logits, labels):
        if [*Path().glob("runs/*/*/dying/*/checkpoint.pt")] and not Path("killed").exists():
            with Path("killed").open("x") as file:
                file.write(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().per_sample(logits, labels)
"""


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of two nodes with a CPU each. They take ten seconds to start, so all tests share them."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    try:
        started = Cluster(initialize_head=True, head_node_args=node)
        started.add_node(**node)
    except Exception as error:  # Ray gives its processes half a minute
        pytest.skip(f"Ray could not start on this machine: {' '.join(str(error).split())[:200]}")
    yield started.address
    started.shutdown()


def test_six_runs_and_a_lost_worker_end_with_six_records(lt_bench: LtBench, working_folder: Path, cluster: str) -> None:
    Path("dying.py").write_text(DYING)
    load_plugin(Path("dying.py"))
    Path("dying.yaml").write_text("loss: dying\n")
    sweep = ("sweep", "digits-lt/ce", "digits-lt/dying", *TINY, "--device", "cpu", "--on", f"ray:{cluster}")
    done = lt_bench(*sweep, "--seeds", "0,1,2")
    assert (done.code, done.out.count(": top-1 ")) == (0, 6), done
    assert int(Path("killed").read_text()) != os.getpid()
    found = [load_record(path) for path in working_folder.rglob("results/records/**/seed*.json")]
    names = [(record.recipe_name, record.seed) for record in found]
    assert sorted(names) == [(name, seed) for name in ("ce", "dying") for seed in (0, 1, 2)]
    assert sum(record.timing.resumed for record in found) == 1  # the one whose worker was lost, from its first epoch on
    assert not [*working_folder.rglob(".sweep-*")]
    again = lt_bench(*sweep, "--seeds", "0,1,2")
    assert again.out.count("already done") == 6


def test_a_spent_budget_begins_nothing(lt_bench: LtBench, working_folder: Path, cluster: str) -> None:
    done = lt_bench("sweep", "digits-lt/ce", *TINY, "--on", f"ray:{cluster}", "--budget", "0s")
    assert (done.code, "3 of 3 runs left" in done.out) == (0, True)
    assert not [*working_folder.rglob("seed*")]


def test_what_cannot_be_asked_for(lt_bench: LtBench) -> None:
    sweep = ("sweep", "digits-lt/ce", *TINY, "--on", "ray", "--resources")
    assert (
        "job.gpus: should be a share of one GPU or a number of whole ones, found 1.5"
        in lt_bench(*sweep, "gpus=1.5").err
    )
    assert "did you mean memory?" in lt_bench(*sweep, "memry=2").err
    where = "3 to train on a Ray cluster of this machine, a task each, gpus=0.5, cpus=2"
    assert lt_bench(*sweep, "gpus=0.5,cpus=2", "--dry-run").err == f"3 runs, 0 already done: {where}\n"


def task(device: str, there: float, **given: Any) -> tuple[dict[str, Any], str]:
    """What a run asks of a cluster with so many GPUs, and the device that it is told."""
    ray = SimpleNamespace(cluster_resources=lambda: {"GPU": there}, remote=lambda **asked: lambda _: asked)
    asked, options = Ray(Resources(**given)).task(ray, Options(device=device))
    return asked, options.device


def test_a_run_without_gpus_uses_none_although_it_would_see_all() -> None:
    usual = {"num_cpus": 1, "max_retries": 3}
    assert task("auto", 8) == (usual | {"num_gpus": 1}, "auto")
    assert task("auto", 0) == (usual | {"num_gpus": 0}, "cpu")
    assert task("cpu", 8) == (usual | {"num_gpus": 0}, "cpu")
    assert task("auto", 8, gpus=0.0) == (usual | {"num_gpus": 0}, "cpu")
    shared = {"num_cpus": 4, "num_gpus": 0.5, "max_retries": 3, "memory": 2**34}
    assert task("cuda", 8, gpus=0.5, cpus=4, memory=16) == (shared, "cuda")
    with pytest.raises(UserError, match="add --resources gpus=1"):
        task("cuda", 8, gpus=0.0)


def test_a_worker_that_is_lost_for_good_is_a_failed_run() -> None:
    def get(_: Any) -> None:
        raise RuntimeError("the worker\ndied")

    lost = _Tasks(SimpleNamespace(get=get), None, Ray(Resources())).result("a run")
    assert isinstance(lost.result, RunError)
    assert str(lost.result).endswith("(RuntimeError: the worker died); the same command goes on from here")
