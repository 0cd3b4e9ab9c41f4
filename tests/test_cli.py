"""The command line: its help, its small commands, and one's own records beside the shipped board."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from run_cases import RUN, refused
from typer.main import get_command

from lt_bench import __version__
from lt_bench.cli import app
from lt_bench.cli.examples import EXAMPLES
from lt_bench.recipe import load_recipe

pytestmark = pytest.mark.usefixtures("working_folder", "tiny_backbone")

LtBench = Callable[..., Any]

ROOT = Path(__file__).parents[1]


# --- help ----------------------------------------------------------------------------------------------


def test_help_waits_for_no_library() -> None:
    """Half a second is only possible without them."""
    heavy = ("torch", "torchvision", "numpy", "pandas", "pyarrow", "pydantic", "yaml", "matplotlib", "sklearn")
    code = f"import sys, lt_bench.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("command", ["show digits-lt/ce", "list protocols"])
def test_an_output_that_takes_nothing_is_one_line(command: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lt_bench", *command.split()],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (2, "lt-bench: the output: No space left on device\n")


def test_the_installed_command_is_this_one() -> None:
    (script,) = entry_points(group="console_scripts", name="lt-bench")
    assert script.value == "lt_bench.cli:main"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], ["run", "sweep", "list", "validate", "evaluate", "compare", "diagnostics", "data", "leaderboard"]),
        (
            ["run"],
            ["--seeds", "--device", "--no-resume", "--dry-run", "--plugin", "--data-root", "--force", "KEY=VALUE"],
        ),
        (["sweep"], ["--missing", "--budget", "--seeds"]),
        (["data"], ["prepare", "verify", "describe", "export"]),
        (["leaderboard"], ["build", "check", "show"]),
    ],
)
def test_help_names_everything(lt_bench: LtBench, arguments: list[str], named: list[str]) -> None:
    done = lt_bench(*arguments, "--help")
    assert done.code == 0
    assert all(name in done.out for name in named)


def test_version(lt_bench: LtBench) -> None:
    assert lt_bench("--version").out == f"{__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["data"], ["leaderboard"]], ids=" ".join)
def test_the_list_of_commands_cuts_no_sentence(lt_bench: LtBench, arguments: list[str]) -> None:
    said = lt_bench(*arguments, "-h").out
    assert said == lt_bench(*arguments, "--help").out
    assert "..." not in said.split("Commands:")[1]


def test_a_command_without_arguments_shows_its_help(lt_bench: LtBench) -> None:
    assert lt_bench("data").err == lt_bench("data", "--help").out


@pytest.mark.parametrize("line", EXAMPLES.splitlines())
def test_the_examples_of_the_help_are_commands(lt_bench: LtBench, working_folder: Path, line: str) -> None:
    """Read as the command line reads them, without doing what they say; the help shows each under its command."""
    (working_folder / "runs" / "FOLDER").mkdir(parents=True)
    (working_folder / "runs" / "FOLDER" / "weights.safetensors").touch()
    command, *words = get_command(app), *shlex.split(line)[1:]
    path = []
    while hasattr(command, "commands"):
        path.append(words.pop(0))
        command = command.commands[path[-1]]
    command.make_context(path[-1], words)
    assert f"  {line}\n" in lt_bench(*path, "--help").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_had(lt_bench: LtBench, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # tests may have no shell above them
    done = lt_bench("--show-completion", shell)
    assert done.code == 0
    assert "_LT_BENCH_COMPLETE" in done.out


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("run cifar100-lt/ldam", ["cifar100-lt/ldam", "cifar100-lt/ldam-drw"]),
        ("show my-birds/lda", ["my-birds/ldam", "my-birds/ldam-drw"]),
        ("sweep digits-lt/ce protocol=imagenet-lt-9", ["protocol=imagenet-lt-90ep", "protocol=imagenet-lt-90ep-bcl"]),
        ("validate digits-lt/ce protocol.optimizer.w", ["protocol.optimizer.weight_decay="]),
        ("data describe my", ["my-birds"]),
        ("list met", ["methods"]),
        ("leaderboard bu", ["build"]),
        ("run digits-lt/ce --see", ["--seeds"]),
    ],
)
def test_what_the_shell_offers(
    lt_bench: LtBench, working_folder: Path, monkeypatch: pytest.MonkeyPatch, words: str, offered: list[str]
) -> None:
    (working_folder / "my-birds").mkdir()
    for name in ("setting.yaml", "card.yaml"):
        (working_folder / "my-birds" / name).touch()
    line = f"lt-bench {words}"
    variables = {"_LT_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert sorted(lt_bench().out.split()) == offered


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "'rnu' is not a known command; did you mean run? (allowed: attack, cite, compare, "),
        (["data", "prepar"], "'prepar' is not a known command; did you mean prepare?"),
        (["--vrsion"], "No such option: --vrsion (Possible options: --version); see lt-bench --help"),
        (
            ["run", "digits-lt/ce", "--sede", "1"],
            "No such option: --sede (Possible options: --seeds); see lt-bench run ",
        ),
        (["run"], "Missing argument 'RECIPE... [KEY=VALUE...]'; see lt-bench run --help"),
        (["run", "digits-lt/ce", "--workers", "-1"], "Invalid value for '--workers'"),
        (["run", "digits-lt/ce", "--workers", "two"], "Invalid value for '--workers'"),
        (["data", "describe", "--plot"], "Option '--plot' requires an argument; see lt-bench"),
    ],
)
def test_usage_errors(lt_bench: LtBench, arguments: list[str], said: str) -> None:
    refused(lt_bench(*arguments), said)


# --- compare --------------------------------------------------------------------------------------------


def test_compare_two_methods(lt_bench: LtBench, working_folder: Path) -> None:
    assert lt_bench(*RUN, "digits-lt/mixup", "--seeds", "0,1").code == 0
    done = lt_bench("compare", "ce", "digits-lt/mixup", "--records", "results/records")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("digits-lt-if4-digits-demo-modified-")
    assert lines[0].endswith(", seeds 0, 1")
    assert lines[2].startswith("score")
    assert lines[3].startswith("top1")
    assert lines[3].count("±") == 2
    beside = lt_bench("compare", "ce", "mixup").out.splitlines()
    assert re.fullmatch(r"ce \(.+\) \(yours\): your records; mixup \(.+\) \(yours\): your records", beside[1])
    ends = next(index for index, line in enumerate(lines) if not line and index > 2)
    assert [line.split() for line in beside[4 : ends + 1]] == [line.split() for line in lines[3:ends]]
    found = json.loads(lt_bench("compare", "ce", "mixup", "--records", "results/records", "--json").out)
    assert found["differences"][0]["score"] == "top1"
    assert found["verdict"] == lines[ends + 1]
    assert lines[ends + 2].startswith("Top-1: p ")
    refused(lt_bench("compare", "ce"), "compare: name two methods or more")
    refused(lt_bench("compare", "ce", "nonsense"), "'nonsense' is not a known method")
    refused(lt_bench("compare", "ce", "mixup", "--records", "nowhere"), "nowhere: there is no such folder of records")


def test_what_new_records_do_to_the_board(lt_bench: LtBench, tmp_path: Path) -> None:
    shipped = ROOT / "leaderboard" / "v1" / "records" / "digits-lt-if20" / "digits-demo" / "ce"
    folders = {name: tmp_path / name for name in ("before", "after")}
    for name, pattern in (("before", "seed0-*"), ("after", "seed*")):
        folders[name].mkdir()
        for path in shipped.glob(pattern):
            shutil.copy(path, folders[name])
    command = ("leaderboard", "diff", str(folders["before"]), "--records", str(folders["after"]))
    done = lt_bench(*command)
    assert done.code == 0, done.err
    table, *_, row, _, last = done.out.splitlines()
    assert table == "digits-lt-if20-digits-demo"
    assert row.split()[:5] == ["ce", "0", "0,", "1,", "2"]
    assert last.endswith("before: 1")
    (found,) = json.loads(lt_bench(*command, "--json").out)
    assert found["difference"] == found["top1_after"] - found["top1_before"]
    refused(lt_bench("leaderboard", "diff", "nowhere"), "nowhere: there is no such folder of records")


# --- your records and the shipped board -----------------------------------------------------------------


def test_yours_stand_beside_the_shipped_board(
    lt_bench: LtBench, working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same runs on the board and in the working folder."""
    lt_bench(*RUN, "--seeds", "0,1")
    shutil.move("results/records", "board/records")
    monkeypatch.setattr("lt_bench.leaderboard.sources.shipped_board", lambda: working_folder / "board")
    refused(lt_bench("leaderboard", "build"), "results/records: no records of yours to make tables of")
    assert "(yours)" not in lt_bench("leaderboard", "show").out
    again = lt_bench(*RUN, "--seeds", "0,1")
    assert "already done" not in again.out
    assert again.out.count("results/records/") == 2
    built = lt_bench("leaderboard", "build").out
    assert built == "results/README.md: the board, 4 files from the records in results/records\n"
    assert lt_bench("leaderboard", "check").code == 0
    shown = lt_bench("leaderboard", "show")
    assert (shown.out.count(" ce "), shown.out.count("(yours)")) == (2, 1)
    assert "(yours)" not in lt_bench("leaderboard", "show", "--board").out
    compared = lt_bench("compare", "ce", "board:ce").out.splitlines()
    assert re.fullmatch(r"ce \(.+\) \(yours\): your records; ce \(.+\): the shipped board", compared[1])
    assert compared[4].split()[:5] == ["top1", "↑", *compared[4].split()[2:3] * 2, "+0.00"]
    refused(lt_bench("leaderboard", "show", "--board", "--records", "board/records"), "--board and --records")
    assert sorted(path.name for path in working_folder.iterdir()) == ["board", "results", "runs"]


def test_the_installed_board_is_not_written(
    lt_bench: LtBench, working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lt_bench.resources._INSTALLED", working_folder / "installed")
    refused(
        lt_bench(*RUN, "--records", "installed/leaderboard"), "--records installed/leaderboard: part of the installed"
    )
    refused(lt_bench("sweep", *RUN[1:], "--records", "installed"), "--records installed: part of the installed")
    (working_folder / "records").mkdir()
    refused(lt_bench("leaderboard", "build", "--records", "records", "--out", "installed"), "--out installed: part of")
    assert [path.name for path in working_folder.iterdir()] == ["records"]


# --- the other commands --------------------------------------------------------------------------------


def test_validate(lt_bench: LtBench) -> None:
    done = lt_bench("validate", "digits-lt/ce", "cifar10-lt/ldam-drw", "protocol=cifar-30ep")
    digests = [
        load_recipe(name, ["protocol=cifar-30ep"]).sha256()[:12] for name in ("digits-lt/ce", "cifar10-lt/ldam-drw")
    ]
    assert done.out.splitlines() == [
        f"digits-lt/ce: valid, recipe sha256 {digests[0]}",
        f"cifar10-lt/ldam-drw: valid, recipe sha256 {digests[1]}",
    ]


@pytest.mark.parametrize("command", ["validate", "sweep"])
def test_a_head_that_does_not_fit_its_backbone(lt_bench: LtBench, command: str) -> None:
    done = lt_bench(command, "cifar100-lt/ce", "cifar100-lt/ride", "model.backbone=preact-resnet18")
    refused(done, "cifar100-lt/ride: ", "preact-resnet18")


@pytest.mark.parametrize("what", ["methods", "mixes", "losses", "samplers", "heads", "models", "datasets", "recipes"])
def test_list(lt_bench: LtBench, what: str) -> None:
    rows = json.loads(lt_bench("list", what, "--json").out)
    plain = lt_bench("list", what).out
    assert all(row["name"].split("/")[-1][:12] in plain for row in rows)


def test_a_list_of_nothing(lt_bench: LtBench) -> None:
    refused(lt_bench("list", "mixs"), "did you mean mixes?")


def test_from_runs_to_a_table(lt_bench: LtBench, working_folder: Path) -> None:
    lt_bench(*RUN, "--seeds", "0,1")
    refused(lt_bench("leaderboard", "check"), "lt-bench leaderboard build", code=1)
    assert lt_bench("leaderboard", "build").code == 0
    assert lt_bench("leaderboard", "check").code == 0
    shown = lt_bench("leaderboard", "show")
    assert (shown.code, "ce" in shown.out) == (0, True)
    refused(lt_bench("leaderboard", "build", "--records", "nowhere"), "nowhere")
