"""Several processes that train one network: what they find is what one process finds."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rank_cases import Ended, command, together
from run_cases import only, record, refused
from safetensors.torch import load_file
from torch import Tensor

from lt_bench import ranks
from lt_bench.data.types import Batch, ClassStats, Epoch, Views, generator
from lt_bench.leaderboard.record import Record, load_record
from lt_bench.methods import Task
from lt_bench.methods.reat import prediction_weights
from lt_bench.methods.trades import cutmix_by_parts
from lt_bench.mixing.cutmix import cutmix_pair
from lt_bench.ranks.batch_norm import SynchronisedBatchNorm
from lt_bench.ranks.division import Division, backwards, for_images, order_of, over_batch, permuted, shared
from lt_bench.recipe import load_recipe
from lt_bench.registry import lookup
from lt_bench.training import loop
from lt_bench.training import run as run_module

RECIPES = ("ce", "cmo-at-once", "dbn-mix", "balpoe", "class-balanced-sampling", "csce")
"""Plain, two streams, partners from the batch, experts, another sampler, a weighted mean."""
CMO = "mix: {name: cmo, probability: 0.9, start_epoch: -1, stop_before_end: 0}\n"
SHORT = (
    "data.n_max=12",
    "data.factor=4",
    "model.backbone=plain",
    "protocol.epochs=2",
    "protocol.batch_size=20",  # of 62 images: the last of an epoch has two
    "protocol.schedule={warmup_epochs: 0}",
)
PLAIN = """
from torch import nn
from lt_bench.models.backbones import Backbone
from lt_bench.registry import Info


class Plain(Backbone):
    name = "plain"
    info = Info("two convolutions, without what draws for itself")
    feature_dim = 8

    def trunk(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())

    def last_stage(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
"""
AT_EXIT = """
import atexit
import os
from pathlib import Path


@atexit.register
def say_threads():
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    left = [name for name in names if "gloo" in name]
    os.write(2, f"left over: {left}\\n".encode())  # at once: several processes share what they write to
"""
ON = ("--plugin", "plain.py", "--device", "cpu", "--precision", "float32", "--compile", "off")


@pytest.fixture(autouse=True, scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "EVALUATION_BATCH", 90)  # of 600 test images, so that each process has some
        patch.setenv("LT_BENCH_CACHE", str(tmp_path_factory.mktemp("decoded")))
        yield


def run_by(count: int, folder: Path, *arguments: str) -> list[Ended]:
    """The command `run` by so many processes, in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cmo-at-once.yaml").write_text(CMO)
    (folder / "plain.py").write_text(PLAIN)

    def work(rank: int) -> None:
        os.chdir(folder)
        command("run", *arguments, *SHORT, *ON, "--work", "runs", "--records", "records")(rank)

    return list(together(count, folder, work))


def lines_of_errors(ended: list[Ended]) -> list[str]:
    return [line for one in ended for line in one.said.splitlines() if line.startswith("lt-bench: ")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where one process and two have trained all recipes."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    for count, folder in ((1, one), (2, two)):
        ended = run_by(count, folder, *(f"digits-lt/{name}" for name in RECIPES))
        assert [each.code for each in ended] == [0] * count, ended[0].said
        assert [bool(each.said) for each in ended] == [rank == 0 for rank in range(count)]
    return one, two


def assert_same(name: str, found: Path, expected: Path) -> Record:
    """Losses and weights but for rounding, counts exactly; the record of what was found."""
    ours, theirs = (load_record(only(folder, f"records/**/{name}/seed*.json")) for folder in (found, expected))
    assert ours.identity == theirs.identity
    np.testing.assert_allclose(ours.curve.train_loss, theirs.curve.train_loss, rtol=2e-5)
    assert ours.selections["last"].correct == theirs.selections["last"].correct
    left, right = (load_file(only(folder, f"runs/**/{name}/**/weights.safetensors")) for folder in (found, expected))
    assert [key for key in left if not torch.allclose(left[key], right[key], rtol=1e-3, atol=1e-3)] == []
    return ours


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_find_what_one_finds(folders: tuple[Path, Path], name: str) -> None:
    one, two = folders
    environment = assert_same(name, two, one).environment
    assert environment is not None
    assert (environment.processes, environment.synchronised_batch_norm) == (2, True)
    assert "processes" not in only(one, f"records/**/{name}/seed*.json").read_text()


def test_mixtures_of_more_images_in_one_process_than_in_another(tmp_path: Path) -> None:
    """A loss that weighs the labels of a batch meets the others once for each: all have to have as many."""
    ended = run_by(2, tmp_path, "digits-lt/csce", "mix=co-mixup", "mix.beta=0.02", "mix.part=10")
    assert [one.code for one in ended] == [0, 0], ended[0].said


def test_the_death_of_one_ends_all_with_a_line_and_others_go_on(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real = run_module.fit

    def fit(job: Any, state: Any, on_step: Any, on_epoch: Any) -> None:
        def then_dies() -> None:
            on_epoch()
            if ranks.rank() == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        real(job, state, on_step, then_dies)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "fit", fit)
        ended = run_by(3, tmp_path / "three", "digits-lt/ce")
    assert [one.code for one in ended] == [1, -signal.SIGKILL, 1]
    (line,) = lines_of_errors(ended)
    assert "one of the 3 processes has ended" in line
    assert "the same command, with as many processes or others, goes on from the last finished epoch" in line
    for count in (1, 2):
        on = tmp_path / f"on-{count}"
        shutil.copytree(tmp_path / "three", on)
        assert run_by(count, on, "digits-lt/ce")[0].code == 0
        timing = assert_same("ce", on, folders[0]).timing
        assert timing is not None
        assert timing.resumed == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits-lt/ce", "protocol.batch_size=2"], "batch_size: a batch of 2 cannot be shared by 3 processes"),
        (["digits-lt/paddles"], "method paddles: looks at whole batches or has an optimizer of its own"),
        (["digits-lt/taet"], "method taet: looks at whole batches or has an optimizer of its own"),
        (["digits-lt/no-such"], "no-such"),
        (["digits-lt/ce", "--dry-run"], "--dry-run: not under torchrun"),
    ],
)
def test_what_cannot_be_shared_is_refused_once(tmp_path: Path, arguments: list[str], said: str) -> None:
    ended = together(3, tmp_path, command("run", *arguments, "--records", tmp_path / "r", "--work", tmp_path / "w"))
    (line,) = lines_of_errors(list(ended))
    assert said in line
    assert {one.code for one in ended} <= {1, 2}
    assert 2 in {one.code for one in ended}


def test_a_sweep_is_refused_and_so_is_a_place_that_cannot_be(lt_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    refused(lt_bench("sweep", "digits-lt/ce"), "sweep: not under torchrun")
    monkeypatch.setenv("RANK", "2")
    refused(lt_bench("run", "digits-lt/ce"), "RANK=2 WORLD_SIZE=2")


def test_a_port_that_is_taken_is_said(lt_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        refused(lt_bench("run", "digits-lt/ce"), f"MASTER_ADDR=127.0.0.1 MASTER_PORT={port}: the processes cannot meet")


def test_as_torchrun_starts_it(tmp_path: Path) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lt_bench"]
    asked = [*start, "run", "digits-lt/ce", *SHORT, *ON, "--work", "runs", "--records", "records"]
    (tmp_path / "plain.py").write_text(PLAIN + AT_EXIT)
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr.count("left over: []") == 2, done.stderr  # threads that outlive the run can abort its end
    environment = record(tmp_path).environment
    assert environment is not None
    assert environment.processes == 2


# --- the parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("total", "count"), [(20, 1), (20, 2), (20, 3), (14, 4), (4, 4), (3, 4), (1, 4)])
def test_the_rows_of_all_processes_are_the_batch(total: int, count: int) -> None:
    parts = [Division(total, rank, count) for rank in range(count)]
    rows = [np.arange(total)[part.rows].tolist() for part in parts]
    expected = [[*range(total)]] if total >= count else [[*range(total)]] * count
    assert sum(rows, []) == sum(expected, [])  # noqa: RUF017 (short lists)
    assert max(map(len, rows)) - min(map(len, rows)) <= 1
    assert sum(part.share for part in parts) == pytest.approx(1)


def whole_batch(size: int) -> Batch:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((size, 3, 2, 2), np.float32))
    boxes = torch.from_numpy(rng.random((size, 4), np.float32))
    return Batch(images, torch.arange(size), Views(torch.arange(size), boxes, torch.arange(size) % 2 == 0))


def normalised(x: Tensor, dy: Tensor) -> list[Tensor]:
    """What batch normalisation gives, its running statistics, and the gradients of what goes in and is learned."""
    x, weight, bias = (one.clone().requires_grad_() for one in (x, torch.full((3,), 2.0), torch.ones(3)))
    mean, variance = torch.zeros(3), torch.ones(3)
    y = F.batch_norm(x, mean, variance, weight, bias, training=True)
    y.backward(dy)
    return [one.detach() for one in (y, x.grad, mean, variance, weight.grad, bias.grad) if one is not None]


def _parts_work(rank: int) -> None:
    """In each of three processes, with seven rows: two have two of them."""
    with ranks.joined():
        batch, division = whole_batch(7), Division(7, rank, 3)
        own = batch[division.rows]
        with shared(division):
            found, last_first = permuted(own, generator(0, "order")), backwards(own)
            drawn = for_images(len(own.labels), lambda size: generator(0, "draw").random((size, 2)))
            views = for_images(2 * len(own.labels), generator(0, "draw").random)
            inside = order_of(len(own.labels), generator(0, "order"))
            total = over_batch(own.labels.sum().float())
            after, alone = generator(0, "parts"), generator(0, "parts")
            cutmix_by_parts(own, 1.0, 3, after)  # one process has three images to a part, the others too few
        order = generator(0, "order").permutation(7)
        expected = batch[torch.from_numpy(order)][division.rows]
        assert torch.equal(found.images, expected.images)
        assert torch.equal(found.labels, expected.labels)
        assert torch.equal(last_first.labels, batch.labels.flip(0)[division.rows])
        assert torch.equal(last_first.images, batch.images.flip(0)[division.rows])
        assert found.views is not None and expected.views is not None
        assert torch.equal(found.views.boxes, expected.views.boxes)
        assert torch.equal(found.views.mirrored, expected.views.mirrored)
        assert np.array_equal(drawn, generator(0, "draw").random((7, 2))[division.rows])
        assert np.array_equal(views, generator(0, "draw").random(14).reshape(2, 7)[:, division.rows].ravel())
        assert sorted(inside) == [*range(len(own.labels))]
        assert total.item() == pytest.approx(21 * len(own.labels) / 7)
        alone.permutation(7)
        cutmix_pair(batch, batch, 1.0, alone)
        assert after.random() == alone.random()
        dy = torch.from_numpy(np.random.default_rng(1).random((7, 3, 2, 2), np.float32))
        with SynchronisedBatchNorm():
            y, dx, mean, variance, dweight, dbias = normalised(own.images, dy[division.rows])
        alone = normalised(batch.images, dy)
        torch.distributed.all_reduce(dweight)
        torch.distributed.all_reduce(dbias)
        ours = [y, dx, mean, variance, dweight, dbias]
        theirs = [alone[0][division.rows], alone[1][division.rows], *alone[2:]]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def _predictions_work(rank: int) -> None:
    """In each of two processes, which have seen other classes predicted."""
    with ranks.joined():
        counts = torch.tensor([20, 6, 2])
        labels = np.repeat(np.arange(3), counts)
        phases = load_recipe("digits-lt/reat-without-tail").phase_choices()
        method = lookup("method", "reat")(Task(labels, ClassStats.of(labels, 3), phases))
        method.predictions.copy_(torch.tensor([[5, 1, 0], [2, 0, 3]])[rank])
        method.end_epoch(Epoch(0, 2, 0), lambda images: images, lambda: iter(()))
        torch.testing.assert_close(method.weights, prediction_weights(counts, torch.tensor([7, 1, 3])))


def test_predictions_of_all_processes_weigh_the_classes(tmp_path: Path) -> None:
    ended = together(2, tmp_path, _predictions_work)
    assert [one.code for one in ended] == [0] * 2, "".join(one.said for one in ended)


def test_what_takes_the_whole_batch_is_what_one_process_has(tmp_path: Path) -> None:
    ended = together(3, tmp_path, _parts_work)
    assert [one.code for one in ended] == [0] * 3, "".join(one.said for one in ended)
