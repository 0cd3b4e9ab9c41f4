"""What a command costs before it does anything: processor and wall seconds, and the large libraries that it imports.

Every command is a process of its own, started once before it counts, so that files are at hand and kernels compiled.
`run` ends at its first optimizer step.

    python benchmarks/startup.py [--times 5] [WORD ...]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

BOARD = Path(__file__).parents[1] / "leaderboard" / "v1"
ON_BOARD = ["--records", str(BOARD / "records")]
COMMANDS = {
    0.5: [["--help"], ["run", "--help"]],
    1.0: [
        ["run", "digits-lt/cee"],
        ["run", "digit-lt/ce"],
        ["run", "absent.yaml"],
        ["run", "digits-lt/ce", "--seeds", "one"],
        ["run", "digits-lt/ce", "--device", "gpu"],
        ["run", "digits-lt/ce", "--sedes", "1"],
        ["validate", "digits-lt/ce", "data.name=digit-lt"],
        ["validate", "digits-lt/ce", "mix=mixupp"],
        ["validate", "digits-lt/ce", "protocol.epoch=2"],
        ["validate", "digits-lt/ce", "nosuch=1"],
        ["validate", "digits-lt/ce", "data.epochs=2"],
        ["validate", "digits-lt/ce", "mix.alpha=1"],
        ["validate", "digits-lt/crt", "lr=0.1"],
        ["evaluate", "absent.safetensors"],
        ["data", "describe", "digit-lt"],
        ["list", "method"],
        ["leaderboard", "check", *ON_BOARD, "--out", str(BOARD)],
        ["leaderboard", "show", *ON_BOARD],
        ["leaderboard", "diff", str(BOARD / "records"), *ON_BOARD],
        ["compare", "ce", "cee", *ON_BOARD],
        ["compare", "cifar100-lt/ce", "cifar100-lt/cmo", *ON_BOARD],
    ],
    2.5: [
        ["list", "settings"],
        ["list", "methods"],
        ["list", "backbones"],
        ["show", "digits-lt/ce"],
        ["validate", "digits-lt/ce"],
        ["data", "describe", "digits-lt"],
        ["new", "mix", "tail-mix"],
    ],
    4.0: [["run", "digits-lt/ce"]],
}
"""By the processor seconds that they may take: help; refusals and the board; lists and validation; a first step."""
OF_NOTE = [
    "numpy", "pydantic", "rich", "scipy", "sklearn", "pandas", "pyarrow", "matplotlib", "torch", "torch._dynamo",
    "torchvision", "timm",
]  # fmt: skip
CHILD = """
import atexit, os, sys
from pathlib import Path

@atexit.register
def told():
    Path(os.environ["TOLD"]).write_text(" ".join(name for name in sys.modules))

if sys.argv[1] == "run" and "--help" not in sys.argv:
    from lt_bench.training.progress import Progress

    def stop(*_):
        raise KeyboardInterrupt

    Progress.step = stop

from lt_bench.cli import main
main()
"""


@dataclass(frozen=True)
class Start:
    """One process from its start to its end."""

    cpu_s: float
    """User and system time of all its threads and children."""
    wall_s: float
    modules: frozenset[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="Only commands with one of these words in them.")
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    wanted = set(arguments.words)
    print("| command | CPU s | target | least | wall s | imports |\n| :-- | --: | :-- | --: | --: | :-- |")
    for target, commands in COMMANDS.items():
        for command in commands:
            if not wanted or wanted & set(command):
                print(row(command, target, arguments.times), flush=True)


def row(command: list[str], target: float, times: int) -> str:
    """A line of the table: medians, and the least processor time, which other processes lengthen least."""
    with TemporaryDirectory() as folder:
        starts = [started(command, Path(folder)) for _ in range(times + 1)][1:]
    cpu, wall = [one.cpu_s for one in starts], [one.wall_s for one in starts]
    words = " ".join(word.replace(str(BOARD), "BOARD") for word in command)
    met = "met" if median(cpu) < target else "missed"
    imports = ", ".join(name for name in OF_NOTE if name in starts[-1].modules)
    return f"| `{words}` | {median(cpu):.2f} | < {target:g}: {met} | {min(cpu):.2f} | {median(wall):.2f} | {imports} |"


def started(command: list[str], folder: Path) -> Start:
    """Run a command in a folder of its own, whatever it comes to."""
    told = folder / "told"
    before, start = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", CHILD, *command],
        cwd=folder, env={**os.environ, "TOLD": str(told)}, check=False, capture_output=True,
    )  # fmt: skip
    wall_s, after = time.perf_counter() - start, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Start(used, wall_s, frozenset(told.read_text().split()))


if __name__ == "__main__":
    main()
