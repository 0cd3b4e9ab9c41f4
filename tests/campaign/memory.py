"""Memory does not grow over 200 epochs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from harness import Trial, Verdict
from processes import Child, run_command_line
from scenarios import HERE, SCENARIOS, fill

EPOCHS, EARLY, MIDDLE = 200, 20, 110
GROWTH_MIB = 4.0
"""More than this from the middle to the end is a fault: a curve of 200 epochs takes a tenth of a megabyte. Between the
early epochs and the middle a method may begin with something else, such as a mix after its warm-up."""
RECIPES = ("ce", "class-distance-mix-ours", "paco", "ncl")
"""The plain one; one whose mix has a state; one with a queue; one with several networks."""


def part(trial: Trial) -> Iterator[Verdict]:
    for case in trial.cases:
        name = RECIPES[case % len(RECIPES)]
        folder = trial.scratch / name
        fill(SCENARIOS[0], folder, trial.scratch)
        memory, code = _watch(name, folder)
        early, middle, late = (max(memory[epoch] for epoch in memory if epoch <= at) for at in (EARLY, MIDDLE, EPOCHS))
        trial.notes.append(
            f"{name}: {early:.0f} MiB after epoch {EARLY}, {middle:.0f} after {MIDDLE}, {late:.0f} after {EPOCHS}"
        )
        grown = "" if late - middle <= GROWTH_MIB else f"grows from {middle:.1f} to {late:.1f} MiB"
        yield Verdict(case, name, fault=f"ends with code {code}" if code else grown)


def _watch(name: str, folder: Path) -> tuple[dict[int, float], int | None]:
    """Resident memory in MiB by finished epochs, and how the run ended."""
    settings = (f"protocol.epochs={EPOCHS}", "protocol.evaluate_every=10", "data.n_max=20", "data.factor=2")
    child = Child(lambda: run_command_line(["run", f"digits-lt/{name}", *settings, *HERE]), folder)
    memory: dict[int, float] = {}
    deadline = time.monotonic() + 1800
    while child.running() and time.monotonic() < deadline:
        epochs = sum(log.read_text().count("\n") for log in folder.glob("runs/**/log.jsonl"))
        memory[epochs] = _resident_mib(child.pid) or memory.get(epochs, 0.0)
        time.sleep(0.02)
    return memory, child.wait(1).code


def _resident_mib(pid: int) -> float | None:
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None
