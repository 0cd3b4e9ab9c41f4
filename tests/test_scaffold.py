"""`lt-bench new`: what it writes runs, passes the project's own checks, and destroys nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_cases import STRANGER

from lt_bench.leaderboard.record import load_record
from lt_bench.templates import COMPONENTS

pytestmark = pytest.mark.usefixtures("working_folder", "registry")

LtBench = Callable[..., Any]
PROJECT = Path(__file__).parents[1]


@pytest.mark.parametrize("family", COMPONENTS)
def test_what_is_written_trains(lt_bench: LtBench, working_folder: Path, family: str) -> None:
    written = lt_bench("new", family, "my-first-one")
    assert written.code == 0, written.err
    recipe, plugin = "digits-lt/my-first-one", "my_first_one.py"
    assert written.out.splitlines()[-1] == f"lt-bench run {recipe} --plugin {plugin}"
    done = lt_bench("run", recipe, *STRANGER, "--plugin", plugin, "--device", "cpu")
    assert done.code == 0, done.err
    records = [load_record(path).recipe for path in (working_folder / "results").rglob("seed0-*.json")]
    (found,) = [one for one in records if one["name"] == "my-first-one"]  # a second stage has a first one
    assert list(found["plugins"]) == [f"{family}/my-first-one"]
    assert lt_bench("validate", "cifar100-lt/my-first-one", "--plugin", plugin).code == 0


@pytest.mark.parametrize("family", COMPONENTS)
def test_what_is_written_passes_the_project_s_checks(lt_bench: LtBench, working_folder: Path, family: str) -> None:
    assert lt_bench("new", family, "tail").code == 0
    # As in the repository, where ruff would see by itself that lt_bench is no library.
    settings = ["--config", str(PROJECT / "pyproject.toml"), "--config", "lint.isort.known-first-party=['lt_bench']"]
    for check in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, *settings, "tail.py"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["mixx", "tail"],
            "mean mix? (allowed: backbone, head, loss, method, mix, regularise, sampler, stage)",
        ),
        (["mix", "cutmix"], "the mix 'cutmix' already exists in lt_bench.mixing.cutmix"),
        (["mix", "Tail Mix"], "'Tail Mix' is no name of a mix"),
        (["mix", "../tail"], "'../tail' is no name of a mix"),
        (["mix", "1mix"], "'1mix' is no name of a mix"),
        (["mix", "a" * 300], "of at most 60 letters"),
        (["mix", "ce"], "'ce' is no name of a mix: its recipe, ce.yaml, would have that of a shipped one"),
        (["mix", "true"], "'true' is no name of a mix: a recipe would read it as True"),
        (["mix", "null"], "a recipe would read it as None"),
        (["loss", "none"], "Python needs None or none for something else"),
        (["loss", "import"], "Python needs Import or import"),
        (["loss", "loss"], "Python needs Loss or loss"),
        (["loss", "tensor"], "Python needs Tensor or tensor"),
        (["mix", "json"], "its file, json.py, would hide Python's json"),
        (["sampler", "torch"], "its file, torch.py, would hide Python's torch"),
        (["sampler", "numpy"], "its file, numpy.py, would hide Python's numpy"),
        (["method", "lt-bench"], "would hide Python's lt_bench"),
        (["mix", "tail", "--out", "nowhere"], "--out nowhere: cannot be written: No such file or directory"),
    ],
)
def test_bad_input_is_one_line(lt_bench: LtBench, working_folder: Path, arguments: list[str], said: str) -> None:
    done = lt_bench("new", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not list(working_folder.iterdir())


@pytest.mark.parametrize("existing", ["tail.py", "tail.yaml"])
def test_no_file_is_overwritten(lt_bench: LtBench, working_folder: Path, existing: str) -> None:
    (working_folder / existing).write_text("mine")
    done = lt_bench("new", "loss", "tail")
    assert done.code == 2
    assert done.err == f"lt-bench: {existing}: exists already; nothing was written\n"
    assert [path.name for path in working_folder.iterdir()] == [existing]
    assert (working_folder / existing).read_text() == "mine"
