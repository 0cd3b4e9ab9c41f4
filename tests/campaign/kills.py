"""Kills at random moments: the same command again ends well, with the very weights, counts and curve, once."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import Trial, Verdict
from processes import Child, Done, kill, run_command_line, session
from scenarios import SCENARIOS, Prepared, Scenario, contents, fill

PATIENCE_S = 20
"""Seconds that processes have to end once nobody waits for them."""
MAX_LEFT = 4
"""Files with temporary names that so many kills may leave: more would grow with every kill."""


def part(trial: Trial) -> Iterator[Verdict]:
    """A case is a command killed once, or three times at the same place, and then left alone."""
    ready: dict[str, tuple[Prepared, list[str]]] = {}
    left: Counter[str] = Counter()
    kills = 0
    for case in trial.cases:
        rng = trial.rng(case)
        scenario = rng.choices(SCENARIOS, [one.weight for one in SCENARIOS])[0]
        if scenario.name not in ready:
            ready[scenario.name] = prepare(scenario, trial.scratch)
        prepared, moves = ready[scenario.name]
        folder = prepared.fresh(trial.scratch / "case")
        killer = _killer(rng, prepared, moves, folder)
        fault, struck = killed(prepared, killer, folder)
        kills += struck
        remains = prepared.leftovers(folder)
        left["files"] = max(left["files"], len(remains))
        left["bytes"] = max(left["bytes"], sum(path.stat().st_size for path in remains))
        if not fault and len(remains) > MAX_LEFT:
            fault = f"{len(remains)} files are left, such as {remains[0].relative_to(folder)}"
        yield Verdict(case, scenario.name, fault=fault, how=str(killer))
    trial.notes.append(
        f"{kills} kills that came before the end; left over at most {left['files']} files, {left['bytes']:,} bytes"
    )


def prepare(scenario: Scenario, scratch: Path) -> tuple[Prepared, list[str]]:
    """The scenario with its reference, and the file operations of an undisturbed call."""
    name = re.sub(r"\W+", "-", scenario.name)
    template, reference, log = scratch / f"{name}-before", scratch / f"{name}-after", scratch / f"{name}-moves"
    fill(scenario, template, scratch)
    shutil.copytree(template, reference)
    log.touch()
    start = time.monotonic()
    done = Child(lambda: _watched(scenario.command, reference, _logging(log)), reference).wait(120)
    seconds = time.monotonic() - start
    if done.code:
        raise RuntimeError(f"{scenario.name} fails undisturbed: {done.err}")
    before, after = contents(template), contents(reference)
    sizes = tuple((reference / one).stat().st_size for one in after.keys() - before.keys())
    return Prepared(scenario, template, before, after, sizes, seconds), log.read_text().splitlines()


class AtMove:
    """SIGKILL of the process by itself, just before it opens, renames or removes a file."""

    def __init__(self, move: str, occurrence: int, times: int) -> None:
        self.move, self.occurrence, self.times = move, occurrence, times

    def __str__(self) -> str:
        return f"before {self.move} ({self.occurrence + 1}) x {self.times}"

    def start(self, command: tuple[str, ...], folder: Path) -> Child:
        left = [self.occurrence]

        def strike(move: str) -> None:
            if move == self.move:
                left[0] -= 1
                if left[0] < 0:
                    kill(os.getpid())

        return Child(lambda: _watched(command, folder, strike), folder)


class AtTime:
    """SIGKILL from outside after a share of the time that an undisturbed call takes."""

    def __init__(self, after_s: float, whom: str, times: int) -> None:
        self.after_s, self.whom, self.times = after_s, whom, times

    def __str__(self) -> str:
        return f"{self.whom} after {self.after_s:.2f} s x {self.times}"

    def start(self, command: tuple[str, ...], folder: Path) -> Child:
        child = Child(lambda: run_command_line(command), folder)
        deadline = time.monotonic() + self.after_s
        while child.running() and time.monotonic() < deadline:
            time.sleep(0.001)
        others = [] if self.whom == "command" else session(child.pid)
        workers = [pid for pid in others if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        for pid in workers[-1:] if self.whom == "worker" else [child.pid, *others]:
            if child.running():
                kill(pid)
        return child


def _killer(rng: random.Random, prepared: Prepared, moves: list[str], folder: Path) -> AtMove | AtTime:
    times = rng.choice((1, 1, 1, 3))
    if "--jobs" in prepared.scenario.command:
        # Its runs are processes of their own, of which the command sees no file operation.
        return AtTime(rng.uniform(0, prepared.seconds), rng.choice(("command", "worker", "group")), 1)
    if rng.random() < 0.4:
        return AtTime(rng.uniform(0, prepared.seconds), "command", times)
    move = rng.choice(moves)
    return AtMove(move, rng.randrange(moves.count(move)), times)


def killed(prepared: Prepared, killer: AtMove | AtTime, folder: Path) -> tuple[str, int]:
    """Kill the command, look, call it again, look. Returns what is wrong, and how often it was killed."""
    children: list[Child] = []
    for struck in range(killer.times):
        children.append(killer.start(prepared.scenario.command, folder))
        done = children[-1].wait(120)
        if done.code != -signal.SIGKILL:
            if done.fault:
                return f"disturbed, it {done.fault}", struck
            break
        if torn := prepared.half_written(folder):
            return f"after the kill {torn}", struck + 1
    again = prepared.call(folder)
    fault = _after(again, prepared, folder) or _orphans([child.pid for child in children])
    return fault, struck + (done.code == -signal.SIGKILL or getattr(killer, "whom", "") == "worker")


def _after(again: Done, prepared: Prepared, folder: Path) -> str:
    if again.fault or again.code != 0:
        return f"the same command again {again.fault or again.complaint}"
    return prepared.difference(folder) or copied_training(folder)


def copied_training(folder: Path) -> str:
    """Records that claim to be different trainings with the time of one."""
    import json

    paths = sorted(folder.glob("records/**/seed*.json"))
    timings = [json.loads(path.read_bytes())["timing"] for path in paths]
    spent = [(timing["wall_s"], timing["train_images_per_s"]) for timing in timings]
    if len(set(spent)) < len(spent):
        return f"{paths[-1].name} is a copy of an earlier record, not a training"
    return ""


def _orphans(leaders: list[int]) -> str:
    """Processes of killed commands that nothing will end; they are ended here."""
    deadline = time.monotonic() + PATIENCE_S
    while (living := [pid for leader in leaders for pid in session(leader)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in living:
        kill(pid)
    return f"{len(living)} processes of the killed command live on" if living else ""


def _watched(command: tuple[str, ...], folder: Path, see: Callable[[str], None]) -> int:
    """The command line, with every change of a file below the folder shown before it is made."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") or (event == "open" and _writes(arguments)):
            try:
                path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 (a hook must not call itself)
            except TypeError:  # A descriptor.
                return
            if path.startswith(f"{folder}/"):
                # Numbers of processes and random names differ from call to call.
                see(f"{event} {re.sub(r'[0-9a-f]{8,}|[.][0-9]+[.]|tmp[^/]*', '#', path[len(str(folder)) + 1 :])}")

    sys.addaudithook(hook)
    return run_command_line(command)


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2] if isinstance(arguments[2], int) else 0
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _logging(log: Path) -> Callable[[str], None]:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    return lambda move: void(os.write(descriptor, f"{move}\n".encode()))


def void(_: object) -> None:
    """A call whose result does not matter."""
