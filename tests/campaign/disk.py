"""A full disk: one line in words, all that was there intact, and with room again the result of an undisturbed call."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from harness import Trial, Verdict
from kills import prepare
from processes import Done, command
from scenarios import SCENARIOS, Prepared

IN_WORDS = re.compile(r"too large|no space|full|(could not|cannot) be (written|made)", re.IGNORECASE)
NO_WORDS = re.compile(r"enforce fail|: None|inline_container|unexpected pos", re.IGNORECASE)
DRAWN = [one for one in SCENARIOS if "--jobs" not in one.command and one.kernels]
MIB = 2**20


def part(trial: Trial) -> Iterator[Verdict]:
    """Odd cases limit the size of a file, even ones have a small disk of their own, where one can be mounted."""
    disk = trial.scratch / "disk"
    mountable = _mount(disk, 4 * MIB)
    if mountable:
        _unmount(disk)
    else:
        trial.notes.append("no small disk could be mounted here, only the size of files was limited")
    ready: dict[str, Prepared] = {}
    for case in trial.cases:
        rng = trial.rng(case)
        scenario = rng.choices(DRAWN, [one.weight for one in DRAWN])[0]
        prepared = ready.get(scenario.name) or prepare(scenario, trial.scratch)[0]
        ready[scenario.name] = prepared
        if case % 2 == 0 and mountable:
            done, how, fault = _on_small_disk(rng, prepared, disk, trial.scratch / "case")
        else:
            done, how, fault = _with_small_files(rng, prepared, trial.scratch / "case")
        yield Verdict(case, scenario.name, refused=bool(done.code), fault=fault, how=how)


def _with_small_files(rng: random.Random, prepared: Prepared, folder: Path) -> tuple[Done, str, str]:
    """No file may grow beyond a size that is drawn, small ones as often as large ones."""
    prepared.fresh(folder)
    limit = int(2 ** rng.uniform(0, 22))
    done = command(*prepared.scenario.command, folder=folder, limits={resource.RLIMIT_FSIZE: limit})
    return done, f"files of at most {limit} bytes", _look(prepared, done, folder)


def _on_small_disk(rng: random.Random, prepared: Prepared, disk: Path, folder: Path) -> tuple[Done, str, str]:
    """A disk with as much room beside what lies there as is drawn."""
    used = sum(path.stat().st_size + 4096 for path in prepared.template.rglob("*"))
    room = int(2 ** rng.uniform(12, 22.5))
    if not _mount(disk, used + room):
        raise RuntimeError(f"{disk}: a disk could be mounted before, and cannot now")
    try:
        shutil.copytree(prepared.template, disk, dirs_exist_ok=True)
        done = command(*prepared.scenario.command, folder=disk)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(disk, folder)
    finally:
        _unmount(disk)
    return done, f"a disk with room for {room} bytes", _look(prepared, done, folder)


def _look(prepared: Prepared, done: Done, folder: Path) -> str:
    """What is wrong with how the command ended, with what it left, or with its repetition where there is room."""
    if done.fault:
        return done.fault
    # A sweep says why in the line of each run.
    reasons = [line for line in done.out.splitlines() if ": failed: " in line] or [done.complaint]
    vague = [line for line in reasons if not IN_WORDS.search(line) or NO_WORDS.search(line)]
    if done.code and vague:
        return f"not in words: {vague[0][:250]}"
    if torn := prepared.half_written(folder):
        return f"afterwards {torn}"
    again = prepared.call(folder)
    if again.fault or again.code:
        return f"with room again {again.fault or again.complaint}"
    difference = prepared.difference(folder)
    return f"with room again {difference}" if difference else ""


def _mount(folder: Path, size: int) -> bool:
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    call = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return subprocess.run(call, check=False, capture_output=True).returncode == 0


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", str(folder)], check=True)
