"""Eight processes write records into one folder while two build the board of it: nothing lost, nothing torn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from harness import Trial, Verdict
from processes import Child, Done, run_command_line, succeed
from scenarios import PLACES, SCENARIOS, SHORT, contents, fill, leaf

WRITERS, SEEDS, BUILDERS = 8, 3, 2
LIMIT_S = 600
QUICK = (*SHORT, "data.n_max=20", "data.factor=2")


def part(trial: Trial) -> Iterator[Verdict]:
    """A case: processes with seeds of their own, or, with `--force`, all with the same ones, into one folder."""
    for case in trial.cases:
        folder = trial.scratch / f"case{case}"
        fill(SCENARIOS[0], folder, trial.scratch)
        forced = case % 2 == 1
        fault = _crowd(folder, forced)
        trial.notes.append(f"{len(list(folder.rglob('seed*.json')))} records")
        yield Verdict(case, "the same runs" if forced else "runs of their own", fault=fault)


def _crowd(folder: Path, forced: bool) -> str:
    succeed(*_command(0, forced=True), folder=folder)
    writers = [Child(lambda k=k: run_command_line(_command(k + 1, forced)), folder) for k in range(WRITERS)]
    builders = [Child(lambda: _build_on(folder), folder) for _ in range(BUILDERS)]
    written = [child.wait(LIMIT_S) for child in writers]
    (folder / "enough").touch()
    built = [child.wait(60) for child in builders]
    failed = [done for done in [*written, *built] if done.fault or done.code]
    if failed:
        return f"{failed[0].fault or failed[0].complaint}"
    expected = 1 + WRITERS * SEEDS
    return _incomplete(folder, expected) or _board(folder)


def _command(writer: int, forced: bool) -> tuple[str, ...]:
    """Work folders of their own: the records alone are shared."""
    seeds = range(SEEDS) if forced else range(writer * SEEDS, (writer + 1) * SEEDS)
    given = ",".join(map(str, seeds)) if writer else "1000"
    places = (*PLACES, "--work", f"work{writer}", "--device", "cpu", "--seeds", given)
    return ("run", "digits-lt/ce", *QUICK, *places, *(["--force"] if forced else []))


def _build_on(folder: Path) -> int:
    """Build the same board again and again, until all is written."""
    code = 0
    while code == 0 and not (folder / "enough").exists():
        code = run_command_line(["leaderboard", "build", "--records", "records", "--out", "board"])
    return code


def _incomplete(folder: Path, expected: int) -> str:
    records = sorted((folder / "records").rglob("seed*.json"))
    if len(records) != expected:
        return f"{len(records)} records of {expected} runs"
    for path in records:
        side = path.with_name(json.loads(path.read_bytes())["predictions"]["file"])
        if not leaf(side):
            return f"{side.name} is empty"
    sides = {json.loads(path.read_bytes())["predictions"]["file"] for path in records}
    return "" if len(sides) == expected else "two records share a side file"


def _board(folder: Path) -> str:
    """Whether one more build by itself changes anything that it should not, and the result agrees with the records."""
    succeed("leaderboard", "build", "--records", "records", "--out", "board", folder=folder)
    checked: Done = succeed("leaderboard", "check", "--records", "records", "--out", "board", folder=folder)
    left = [name for name in contents(folder) if name.startswith("board") and not name.endswith((".md", ".csv"))]
    return f"{left[0]} is left over" if left else checked.fault
