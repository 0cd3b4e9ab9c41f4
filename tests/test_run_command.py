"""`lt-bench run`: what it prints, its exit codes, and one line instead of a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_cases import RUN, TINY, no_space, refused

from lt_bench.leaderboard import record as record_module
from lt_bench.recipe import load_recipe

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

LtBench = Callable[..., Any]


def test_a_run_says_where_its_record_is_and_the_second_that_it_is_done(lt_bench: LtBench, working_folder: Path) -> None:
    first = lt_bench(*RUN, "--seeds", "0,2")
    assert first.code == 0, first.err
    lines = first.out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"digits-lt/ce digits-demo seed {seed}" for seed in (0, 2)]
    assert all((working_folder / line.split()[-1]).is_file() for line in lines)
    assert "epoch 5/5" in first.err
    second = lt_bench(*RUN, "--seeds", "0,2")
    assert second.out.count("already done") == 2
    assert second.err == ""
    assert lt_bench(*RUN, "--force").code == 0
    assert len(list(working_folder.rglob("seed0-*.r2.json"))) == 1


def test_a_dry_run_prints_what_would_be_run(lt_bench: LtBench, working_folder: Path) -> None:
    done = lt_bench(*RUN, "mix=cutmix", "--dry-run")
    assert json.loads(done.out) == load_recipe("digits-lt/ce", [*TINY, "mix=cutmix"]).resolved()
    assert not list(working_folder.iterdir())


def test_seeds_are_run_once_each(lt_bench: LtBench, working_folder: Path) -> None:
    assert lt_bench(*RUN, "--seeds", " 1, 1").code == 0
    assert len(list(working_folder.rglob("seed*.json"))) == 1


@pytest.mark.parametrize(
    "seeds", ["", "a", "1,", "-1", "1.5", "0-2", "²", str(2**53), "9" * 120, f"0,{'9' * 5000}"], ids=range(10)
)
def test_seeds_that_are_none(lt_bench: LtBench, seeds: str) -> None:
    refused(lt_bench(*RUN, f"--seeds={seeds}"), "--seeds", "expected whole numbers from 0 to 2^53 - 1, such as 0,1,2")


def test_the_largest_seed(lt_bench: LtBench, working_folder: Path) -> None:
    done = lt_bench(*RUN, "protocol.epochs=1", "protocol.schedule={warmup_epochs: 0}", f"--seeds={2**53 - 1}")
    assert done.code == 0, done.err
    (path,) = working_folder.rglob("seed*.json")
    assert json.loads(path.read_text())["seed"] == 2**53 - 1
    assert lt_bench("leaderboard", "build").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mix=cm"], "mix: 'cm' is not a known mix; did you mean cmo?"),
        (["data.factor=0.5"], "data.factor: should be greater than or equal to 1"),
        (
            ["data.factor=1000"],
            "digits-lt/ce: data.factor: 1000 leaves the smallest class no image where the largest has 12",
        ),
        (["data.n_max=1000"], "data.n_max: class 0"),
        (["data.validation_per_class=500"], "data.validation_per_class: class 0"),
        (["protocol=cifar-3ep"], "did you mean cifar-30ep?"),
        (["--device", "gpu"], "--device gpu: allowed are auto, cpu, cuda"),
        (["--precision", "fp16"], "--precision"),
        (["--plugin", "absent.py"], "absent.py: not a readable plug-in: No such file"),
        (["digits-lt/cx"], "digits-lt/cx: there is no such file"),
        (["mix.alpha"], "mix.alpha: there is no such file"),
    ],
)
def test_wrong_input_of_a_run(lt_bench: LtBench, working_folder: Path, arguments: list[str], said: str) -> None:
    refused(lt_bench(*RUN, *arguments), said)
    assert not list(working_folder.rglob("*.json"))


def test_records_that_cannot_be_written_are_refused_before_training(lt_bench: LtBench, working_folder: Path) -> None:
    (working_folder / "afile").touch()
    refused(lt_bench(*RUN, "--records", "afile"), "--records afile: cannot be written: ")
    assert not list(working_folder.rglob("checkpoint.pt"))


def test_a_wrong_device_leaves_nothing(lt_bench: LtBench, working_folder: Path) -> None:
    refused(lt_bench(*RUN, "--device", "gpu"), "--device gpu")
    assert not list(working_folder.rglob("*"))


def test_recipes_that_are_none(lt_bench: LtBench, working_folder: Path) -> None:
    (working_folder / "folder").mkdir()
    (working_folder / "broken.yaml").write_text("a: [1\n")
    (working_folder / "twice.yaml").write_text("mix: cmo\nmix: cmo\n")
    for name, said in {
        "folder": "is a directory",
        "broken.yaml": "not readable YAML",
        "twice.yaml": "duplicate key",
    }.items():
        for command in ("run", "validate", "sweep"):
            refused(lt_bench(command, name), f"{name}", said)
    refused(lt_bench("run", "mix=cmo"), "no recipe given")
    refused(lt_bench("validate", "mix=cmo"), "no recipe given")


def test_data_that_is_not_there(lt_bench: LtBench, working_folder: Path) -> None:
    refused(lt_bench("run", "cifar10-lt/ce", "--data-root", "nowhere"), "nowhere")
    refused(lt_bench("data", "describe", "cifar10-lt", "--data-root", "nowhere"), "nowhere")
    refused(lt_bench("data", "describe", "cifar11-lt"), "did you mean cifar10-lt?")
    refused(lt_bench("data", "describe", "digits-lt", "factr=5"), "did you mean factor?")


def test_a_failed_run(lt_bench: LtBench, working_folder: Path) -> None:
    done = lt_bench(*RUN, "protocol.optimizer.lr=1e30")
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("lt-bench: digits-lt/ce digits-demo seed 0: the training loss is ")
    assert "Traceback" not in done.err
    assert not list(working_folder.rglob("seed*.json"))


def test_a_full_disk_while_the_record_is_written(
    lt_bench: LtBench, working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(record_module, "write_all", no_space)
        done = lt_bench(*RUN)
    assert done.code == 2
    assert "the record could not be written: No space left on device" in done.err.splitlines()[-1]
    assert not list(working_folder.rglob("seed*.json"))
    assert lt_bench(*RUN).code == 0


def test_an_interruption(lt_bench: LtBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lt_bench.sweep.packed.run", interrupted)
    done = lt_bench(*RUN)
    refused(done, "interrupted; the same command goes on from the last finished epoch", code=130)
