"""Commands that write, each with the folder it starts from and what must lie there when it has ended well."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Done, command, succeed

SHORT = (
    "protocol.epochs=3",
    "protocol.evaluate_every=1",
    "protocol.schedule.warmup_epochs=1",
    "protocol.schedule.milestones=[2]",
    "protocol.schedule.factors=[0.1]",
    "data.n_max=40",
)
"""A training of seconds that has every part of a long one."""
PLACES = ("--work", "runs", "--records", "records")
HERE = ("--device", "cpu", *PLACES)
SPLIT = "split/digits.parquet"

Leaves = dict[str, Any]
"""What files hold, by their path relative to a folder."""


@dataclass(frozen=True)
class Scenario:
    """`command` in a copy of the folder that `prepare` filled."""

    name: str
    command: tuple[str, ...]
    prepare: Callable[[Path], None] = lambda _: None
    weight: int = 1
    """How often it is drawn."""
    adds_records: bool = False
    """Whether each call adds a record although there is one."""
    kernels: bool = True
    """Whether the folder has the compiled kernels already, which take longer than the rest."""


def _run(name: str, *more: str) -> tuple[str, ...]:
    return ("run", f"digits-lt/{name}", *SHORT, *more, *HERE)


def _finished_run(folder: Path) -> None:
    succeed(*_run("ce"), folder=folder)


def _changed_board(folder: Path) -> None:
    """The board of one record, and a second record that it does not show yet."""
    succeed(*_run("ce"), folder=folder)
    succeed("leaderboard", "build", "--records", "records", "--out", "board", folder=folder)
    succeed(*_run("mixup", "protocol.batch_size=64"), folder=folder)
    succeed(*_run("ce", "--seeds", "1"), folder=folder)


def _exported(folder: Path) -> None:
    (folder / "split").mkdir()
    succeed("data", "export", "digits-lt", "factor=10", "-o", SPLIT, folder=folder)


SWEEP = ("sweep", "digits-lt/ce", "digits-lt/mixup", "--seeds", "0,1", *SHORT, *HERE)
SCENARIOS = (
    Scenario("run", _run("ce"), weight=10),
    Scenario("run that compiles", _run("ce"), weight=1, kernels=False),
    Scenario("run with a state", _run("class-distance-mix-ours", "mix.warmup_epochs=1"), weight=6),
    Scenario("run --force", (*_run("ce"), "--force"), _finished_run, weight=3, adds_records=True),
    Scenario("second stage", _run("crt", "second_stage.epochs=2"), weight=8),
    Scenario("sweep", SWEEP, weight=5),
    Scenario("sweep --jobs 2", (*SWEEP, "--jobs", "2"), weight=3),
    Scenario(
        "leaderboard build", ("leaderboard", "build", "--records", "records", "--out", "board"), _changed_board, 5
    ),
    Scenario("data export", ("data", "export", "digits-lt", "-o", SPLIT), _exported, weight=4),
    Scenario("data prepare", ("data", "prepare", "digits-lt", "factor=10", "--data-root", SPLIT), _exported, weight=4),
)


@dataclass(frozen=True)
class Prepared:
    """A scenario with the folder to copy, and the contents before and after an undisturbed call."""

    scenario: Scenario
    template: Path
    before: Leaves
    after: Leaves
    sizes: tuple[int, ...]
    """Of the files that the call wrote, in bytes."""
    seconds: float

    def fresh(self, folder: Path) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(self.template, folder))

    def call(self, folder: Path) -> Done:
        """The command, undisturbed."""
        return command(*self.scenario.command, folder=folder)

    def half_written(self, folder: Path) -> str:
        """What stands under its final name without being whole, after a disturbance."""
        for name, path in _files(folder):
            try:
                held = leaf(path)
            except Exception as error:
                return f"{name} does not load: {' '.join(f'{type(error).__name__}: {error}'.split())[:150]}"
            if _whole_or_nothing(name) and held not in (self.before.get(name), self.after.get(name)):
                return f"{name} is neither what it was nor what it becomes"
        lost = [name for name in self.before if _whole_or_nothing(name) and not (folder / name).exists()]
        return f"{lost[0]} is gone" if set(lost) & self.after.keys() else ""

    def difference(self, folder: Path) -> str:
        """How a folder in which the command ended well differs from that of an undisturbed call."""
        found = contents(folder)
        missing = sorted(self.after.keys() - found.keys())
        if missing:
            return f"{missing[0]} is missing"
        changed = [name for name in self.after if found[name] != self.after[name]]
        if changed:
            return f"{changed[0]} differs from that of an undisturbed call"
        records = [name for name in found.keys() - self.after.keys() if _is_record(name)]
        if records and not self.scenario.adds_records:
            return f"a record too many: {records[0]}"
        return ""

    def leftovers(self, folder: Path) -> list[Path]:
        """Files that an undisturbed call does not leave."""
        extra = [(name, path) for name, path in _files(folder, every=True) if name not in self.after]
        return [path for name, path in extra if not (self.scenario.adds_records and _is_record(name))]


def fill(scenario: Scenario, folder: Path, scratch: Path) -> None:
    """The folder that a scenario starts from."""
    folder.mkdir()
    if scenario.kernels:
        shutil.copytree(kernels(scratch), folder / "cache" / "native")
    scenario.prepare(folder)


def kernels(scratch: Path) -> Path:
    """Compiled kernels as any run leaves them in its cache."""
    folder = scratch / "kernels"
    if not folder.exists():
        folder.mkdir()
        succeed(*_run("ce"), folder=folder)
        (folder / "cache" / "native").mkdir(parents=True, exist_ok=True)  # where there is no compiler
    return folder / "cache" / "native"


def contents(folder: Path) -> Leaves:
    return {name: leaf(path) for name, path in _files(folder)}


def leaf(path: Path) -> Any:
    """What a file holds, without times and places, which two runs never share. Raises an error where it is torn."""
    if path.name.startswith("seed") and path.suffix == ".json":
        return _record(path)
    if path.name == "checkpoint.pt":
        import torch

        return len(torch.load(path, weights_only=True)["curve"])
    read = {".safetensors": _tensors, ".jsonl": _log, ".json": _json, ".npz": _arrays}
    return read.get(path.suffix, Path.read_bytes)(path)


def _record(path: Path) -> Any:
    from lt_bench.leaderboard.seal import check_seal

    check_seal(path.read_bytes())
    record = _json(path)
    (record.get("first_stage") or {}).pop("wall_s", None)
    return {key: record[key] for key in record if key not in ("created", "timing", "environment", "sha256")}


def _log(path: Path) -> Any:
    """The lines of a training; one that is cut short is mended by the next call, so it is no torn file."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines() if line.endswith(b"}")]
    return [{key: line[key] for key in line if key not in ("seconds", "images_per_s")} for line in lines]


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _arrays(path: Path) -> Any:
    import numpy as np

    with np.load(path) as arrays:
        return {name: arrays[name].tobytes() for name in arrays}


def _tensors(path: Path) -> Any:
    """Tensors and text, without the time that a run took and the digest that it is part of, which is checked."""
    from lt_bench.tensor_files import read_tensors

    tensors, text = read_tensors(path)
    if "trained" in text:
        text["trained"] = json.loads(text["trained"])["top1"]
    return text, {name: tensor.contiguous().view(-1).numpy().tobytes() for name, tensor in tensors.items()}


def _files(folder: Path, *, every: bool = False) -> Iterator[tuple[str, Path]]:
    """Files below a folder but locks; those under a temporary name only if asked for."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        temporary = re.search(r"\.(tmp|part|partial)\b|(^|/)\.|(^|/)tmp[^/]*/", name)
        if path.is_file() and not name.endswith(".lock") and (every or not temporary):
            yield name, path


def _whole_or_nothing(name: str) -> bool:
    """All but what an unfinished run keeps of its epochs."""
    return name.startswith(("board/", "split/", "cache/")) or _is_record(name)


def _is_record(name: str) -> bool:
    return bool(re.search(r"(^|/)records/.*\.(json|npz)$", name))
