"""What a command imports: nothing that it does not use. What that saves is measured in benchmarks/startup.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HEAVY = {"torch", "torchvision", "torch._dynamo", "pandas", "pyarrow", "scipy", "sklearn", "matplotlib", "timm"}
RECORDS = ["--records", str(Path(__file__).parents[1] / "leaderboard" / "v1" / "records")]
EXTERNAL = ["--method", "ours", "--by", "us"]
LIGHT = [
    ["run", "digits-lt/cee"],
    ["run", "digit-lt/ce"],
    ["run", "absent.yaml"],
    ["run", "digits-lt/*xyz"],
    ["run", "digits-lt/ce", "--seeds", "one"],
    ["run", "digits-lt/ce", "--device", "gpu"],
    ["run", "digits-lt/ce", "--precision", "half"],
    ["run", "digits-lt/ce", "--plugin", "absent.py"],
    ["sweep", "digits-lt/ce", "--budget", "3x"],
    ["sweep", "digits-lt/ce", "--on", "slrum"],
    ["sweep", "digits-lt/ce", "--on", "slurm", "--resources", "partion=gpu"],
    ["sweep", "digits-lt/ce", "--on", "ray", "--resources", "gpus=all"],
    ["run", "digits-lt/ce", "--track", "wanbd"],
    ["validate", "digits-lt/ce", "data.name=digit-lt"],
    ["validate", "digits-lt/ce", "data.factr=10"],
    ["validate", "digits-lt/ce", "protocol.epoch=2"],
    ["validate", "digits-lt/ce", "mix=mixupp"],
    ["validate", "digits-lt/ce", "model.backbone=resnet33"],
    ["validate", "digits-lt/crt", "second_stage.sampler=clas-balanced"],
    ["validate", "digits-lt/ldam-drw", "phases=[{until: 100%, loss: {name: ldamm}}]"],
    ["validate", "digits-lt/ce", "nosuch=1"],
    ["validate", "digits-lt/ce", "data.epochs=1"],
    ["validate", "digits-lt/ce", "mix.alpha=1"],
    ["validate", "digits-lt/crt", "epochs=1"],
    ["validate", "digits-lt/ldam-drw", "loss.max_margn=1"],
    ["show", "digits-lt/ce", "epochs=1"],
    ["validate", "digits-lt/pgd-at", "radus=4"],
    ["evaluate", "absent.safetensors"],
    ["attack", "absent.safetensors"],
    ["data", "describe", "digit-lt"],
    ["list", "method"],
    ["leaderboard", "check", "--records", "absent", "--out", "absent"],
    ["leaderboard", "robust", "--records", "absent"],
    ["leaderboard", "diff", "absent", "--records", "absent"],
    ["leaderboard", "add", "absent"],
    ["leaderboard", "add", "absent.npz"],
    ["leaderboard", "add", "absent.npz", *EXTERNAL, "--on", "digit-lt", "--protocol", "digits-demo"],
    ["leaderboard", "add", "absent.npz", *EXTERNAL, "--on", "digits-lt", "--protocol", "digits"],
    ["leaderboard", "add", "absent.npz", *EXTERNAL, "--on", "digits-lt", "--protocol", "digits-demo"],
    ["compare", "ce", "cee", "--records", "absent"],
    ["report", "absent.json"],
    ["report", "ce", "--records", "absent"],
]
"""Refusals, and what reads no component."""
WITH_TORCH = [
    ["list", "methods"],
    ["list", "backbones"],
    ["show", "cifar100-lt/crt"],
    ["validate", "digits-lt/crt"],
    ["show", "digits-lt/dbn-mix"],
]
COMMANDS = """
import contextlib, io, json, sys
from typer.testing import CliRunner
from lt_bench.cli import app

sys.stdin = io.StringIO()
found = []
for command in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, command)
    found.append([command, result.exit_code, sorted(set(json.loads(sys.argv[2])) & set(sys.modules))])
print(json.dumps(found))
"""


def imported(commands: list[list[str]], folder: Path) -> list[tuple[list[str], int, set[str]]]:
    """Commands one after the other in a fresh process: each with its exit code and the heavy modules in there since."""
    words = [sys.executable, "-c", COMMANDS, json.dumps(commands), json.dumps(sorted(HEAVY))]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [(command, code, set(heavy)) for command, code, heavy in json.loads(done.stdout)]


def test_refusals_import_nothing_large(working_folder: Path) -> None:
    for command, code, heavy in imported(LIGHT, working_folder):
        assert code == 2, command
        assert not heavy, command


def test_lists_of_files_and_the_board_need_no_torch(working_folder: Path) -> None:
    lists = [["list", what] for what in ("datasets", "recipes", "settings", "protocols")]
    described = ["data", "describe", "digits-lt"]
    board = [["leaderboard", "show", *RECORDS], ["compare", "cifar100-lt/ce", "cifar100-lt/cmo", *RECORDS]]
    for command, code, heavy in imported([*lists, described, *board], working_folder):
        assert code == 0, command
        assert heavy <= {"scipy"}, command


def test_components_bring_torch_and_nothing_else(working_folder: Path) -> None:
    short = ["protocol.epochs=1", "protocol.schedule={}", "protocol.schedule.warmup_epochs=0"]
    training = ["run", "digits-lt/ce", "model.backbone=resnet8", *short, "--device", "cpu"]
    for command, code, heavy in imported([*WITH_TORCH, training], working_folder):
        assert code == 0, command
        # Torch's optimizers import its compiler.
        assert heavy == ({"torch", "torch._dynamo"} if command[-1] == "cpu" else {"torch"}), command
