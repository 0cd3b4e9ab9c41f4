"""Attacks on everything that must not break: `python tests/campaign`, or `make campaign`. See docs/reliability.md."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

# Before torch is imported: a forked process would wait for ever for the threads of its parent.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("LT_BENCH_DATA", None)
sys.path.insert(0, str(Path(__file__).parents[2]))

import crowd
import disk
import fuzzing
import inputs
import kills
import memory
import records
from harness import Part, Result, Trial, conduct, into_page, kinds, table
from processes import import_everything

PARTS: dict[str, tuple[Part, int]] = {
    "kills": (kills.part, 200),
    "recipes": (fuzzing.part, 10_000),
    "records": (records.part, 1000),
    "inputs": (inputs.part, 300),
    "disk": (disk.part, 100),
    "crowd": (crowd.part, 3),
    "memory": (memory.part, 4),
}
"""Each with the number of its cases."""


def main() -> int:
    arguments = _arguments()
    scratch = Path(tempfile.mkdtemp(prefix="campaign-"))
    results = []
    try:
        import_everything()
        for name in arguments.parts or PARTS:
            results.append(_conduct(name, arguments, scratch))
            print("\n".join(table([results[-1].row])), flush=True)
    finally:
        if arguments.case is None:
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            print(f"{scratch}: what the case worked on")
    for result in results:
        print("".join(f"{result.part}: {line}\n" for line in kinds(result)), end="")
    if arguments.write is not None:
        into_page(arguments.write, results, list(PARTS), _version())
    return int(any(result.faults for result in results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("campaign", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}. Default: all.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="Share of the cases, at least one of each part.")
    parser.add_argument("--case", type=int, help="This case alone, to repeat a fault.")
    parser.add_argument("--write", type=Path, help="Page whose table gets the rows of this run.")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if arguments.write and (arguments.scale != 1 or arguments.case is not None):
        parser.error("--write is for whole runs")
    return arguments


def _conduct(name: str, arguments: argparse.Namespace, scratch: Path) -> Result:
    part, count = PARTS[name]
    cases = range(max(1, round(count * arguments.scale)))
    if arguments.case is not None:
        cases = range(arguments.case, arguments.case + 1)
    folder = scratch / name
    folder.mkdir()
    return conduct(part, Trial(name, arguments.seed, cases, folder, []))


def _version() -> str:
    """When, of which commit, on what."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    day = datetime.now(UTC).date().isoformat()
    return f"{day}, {commit.stdout.strip() or 'no commit'}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
