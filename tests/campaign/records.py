"""Damaged records and side files: refused in a line, or what stands on the board is what it was."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import damage
from harness import Trial, Verdict
from processes import Done, here, judged, succeed
from scenarios import HERE, SCENARIOS, SHORT, fill

from lt_bench.leaderboard.seal import sealed

LIMIT_S = 15
ROOT = "records"
BUILD = ("leaderboard", "build", "--records", ROOT, "--out", "board")
COMPARE = ("compare", "ce", "mixup", "--records", ROOT, "--json")
RUN = ("run", "digits-lt/ce", *SHORT, *HERE)

FREE = re.compile(
    r"benchmark_version|created|recipe_name|overrides|recipe\.(name|notes|reported|overrides)|dataset\.class_names"
    r"|environment|timing|curve\.(train_loss|lr)|dataset\.content_kind|predictions|sha256"
)
"""Where a forged record may say something else and still be believed: words, and figures that no table shows."""
SEALED = re.compile(r"curve\.(test|val)_top1|selections\.[a-z-]+\.(correct|calibration)")
"""Figures of tables that nothing but the seal protects, so that who forges it may change them."""


def part(trial: Trial) -> Iterator[Verdict]:
    """Of four runs, two methods with two seeds, one record or side file is damaged."""
    template = trial.scratch / "template"
    fill(SCENARIOS[0], template, trial.scratch)
    succeed("sweep", "digits-lt/ce", "digits-lt/mixup", "--seeds", "0,1", *SHORT, *HERE, folder=template)
    shutil.rmtree(template / "runs")
    truth = Truth(template)
    yield from judged(trial.cases, lambda case, announce: _judge(trial, case, truth, announce), trial.scratch, LIMIT_S)


class Truth:
    """The records as they were, and what commands say of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        succeed(*BUILD, folder=folder)
        self.board = _board(folder)
        self.compared = json.loads(succeed(*COMPARE, folder=folder).out)
        self.done = succeed(*RUN, folder=folder).out
        self.records = {path.relative_to(folder): json.loads(path.read_bytes()) for path in _records(folder)}


def _judge(trial: Trial, case: int, truth: Truth, announce: Callable[[str], None]) -> Verdict:
    rng = trial.rng(case)
    folder = trial.scratch / f"case{case}"
    shutil.copytree(truth.folder, folder)
    here_before = Path.cwd()
    try:
        os.chdir(folder)
        title, target, act = draw(rng, folder)
        announce(title)
        act(rng, target)
        refused, fault = _look(rng, truth, folder, forged="forged" in title)
    finally:
        os.chdir(here_before)
        shutil.rmtree(folder, ignore_errors=True)
    return Verdict(case, title, refused=refused, fault=fault, how=target.name)


def draw(rng: random.Random, folder: Path) -> tuple[str, Path, damage.Damage]:
    """What is done to which file, and its name."""
    record = rng.choice(sorted(_records(folder)))
    side = record.with_suffix(".npz")
    kinds: list[tuple[str, Path, tuple[damage.Damage, ...], int]] = [
        ("record", record, damage.BYTES, 4),
        ("record's field", record, (damage.change_field,), 10),
        ("record in step", record, IN_STEP, 2),
        ("forged record's field", record, (_forged(damage.change_field),), 6),
        ("forged record in step", record, tuple(map(_forged, IN_STEP)), 4),
        ("record", record, (*damage.IRREGULAR, damage.gone, damage.brackets), 1),
        ("side file", side, (*damage.BYTES, *damage.IRREGULAR, damage.gone), 3),
        ("side file of a forged record", side, tuple(map(_confirmed, (*damage.BYTES, *damage.ARRAYS, damage.bomb))), 4),
        ("swapped side file", side, (_swapped,), 1),
        ("swapped side file of a forged record", side, (_confirmed(_swapped),), 1),
    ]
    what, target, acts, _ = rng.choices(kinds, [weight for *_, weight in kinds])[0]
    act = rng.choice(acts)
    return f"{what}: {getattr(act, '__name__', 'damage').strip('_')}", target, act


def _look(rng: random.Random, truth: Truth, folder: Path, forged: bool) -> tuple[bool, str]:
    """Whether anything refused the records, and what went wrong."""
    built = here(*BUILD)
    if built.fault:
        return False, f"build {built.fault}"
    changed = _changed(truth, folder) if built.code == 0 else {}
    if forged and any(map(SEALED.match, changed)):
        return False, ""
    if built.code == 0 and (fault := _believed(truth, folder, changed, forged)):
        return False, fault
    compared = here(*COMPARE)
    fault = compared.fault or ("" if compared.code else _compared_otherwise(truth, compared))
    if fault:
        return False, f"compare {fault}"
    again = here(*RUN) if rng.random() < 0.1 else None
    if again is not None and (fault := again.fault or _run_otherwise(truth, again)):
        return False, f"run {fault}"
    return bool(built.code or compared.code), ""


def _changed(truth: Truth, folder: Path) -> dict[str, tuple[Any, Any]]:
    """What records say otherwise than they did, by its place. One that is not there says nothing."""
    there = {path: was for path, was in truth.records.items() if (folder / path).is_file()}
    found = [_differences(was, json.loads((folder / path).read_bytes())) for path, was in there.items()]
    return {place: both for places in found for place, both in places.items()}


def _believed(truth: Truth, folder: Path, changed: dict[str, tuple[Any, Any]], forged: bool) -> str:
    """What a record says, or a board shows, that is not what it was, and nobody noticed."""
    for place, (before, now) in changed.items():
        if not (forged and FREE.match(place)):
            generic = re.sub(r"\.\d+(?=\.|$)", ".#", place)
            return f"accepted with another {generic} ({str(now)[:40]} for {str(before)[:40]})"
    lost = [path for path in truth.records if not (folder / path).is_file()]
    if not lost and _numbers(_board(folder)) != _numbers(truth.board):
        return "the tables show other numbers"
    return ""


def _differences(before: Any, now: Any, place: str = "") -> dict[str, tuple[Any, Any]]:
    """Places at which two trees differ, with what stands there."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = {**before, **now}
        found = [_differences(before.get(key), now.get(key), f"{place}.{key}" if place else key) for key in keys]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        found = [_differences(a, b, f"{place}.{k}") for k, (a, b) in enumerate(zip(before, now, strict=True))]
    else:
        same = before == now and type(before) is type(now)
        return {} if same or (before == now and {type(before), type(now)} <= {int, float}) else {place: (before, now)}
    return {place: both for part in found for place, both in part.items()}


def _compared_otherwise(truth: Truth, done: Done) -> str:
    found = json.loads(done.out)
    for was, now in zip(truth.compared["differences"], found["differences"], strict=True):
        if found["seeds"] == truth.compared["seeds"] and now not in (was, was | {"over_images": None}):
            return f"gives another {was['score']}"
    silent = found["differences"][0]["over_images"] is None
    return "leaves the test images out and does not say why" if silent and not found["without_images"] else ""


def _run_otherwise(truth: Truth, done: Done) -> str:
    if done.code == 2:
        return ""
    said = [re.search(r"top-1 [\d.]+", text) for text in (truth.done, done.out)]
    return "" if said[0] and said[1] and said[0][0] == said[1][0] else f"says {done.out.strip()[:100]}"


# --- changes that a look at one place does not show --------------------------------------------------


def _edit(change: Callable[[random.Random, Any, Path], None]) -> damage.Damage:
    def act(rng: random.Random, path: Path) -> None:
        record = json.loads(path.read_bytes())
        change(rng, record, path)
        path.write_text(json.dumps(record), encoding="utf-8")

    act.__name__ = change.__name__
    return act


def _count_and_bin(rng: random.Random, record: Any, _: Path) -> None:
    """One more right prediction, in its class and in a bin: the curve says otherwise."""
    last = record["selections"]["last"]
    classes = [k for k, (right, total) in enumerate(zip(last["correct"], last["total"], strict=True)) if right < total]
    bins = last["calibration"]
    free = [k for k, (right, count) in enumerate(zip(bins["correct"], bins["count"], strict=True)) if right < count]
    last["correct"][rng.choice(classes)] += 1
    bins["correct"][rng.choice(free)] += 1


def _recipe_and_digest(rng: random.Random, record: Any, _: Path) -> None:
    """Another recipe with its own digest: the identity says otherwise."""
    from lt_bench.recipe import Recipe

    record["recipe"]["protocol"]["optimizer"]["lr"] = rng.choice((0.05, 0.2, 1.0))
    record["recipe_sha256"] = Recipe.read(record["recipe"]).sha256()


def _protocol_and_digest(_: random.Random, record: Any, __: Path) -> None:
    """The protocol of other records: the recipe says otherwise."""
    record["protocol"]["sha256"] = hashlib.sha256(b"another").hexdigest()
    record["protocol"]["modified"] = not record["protocol"]["modified"]


def _identity_of_another(rng: random.Random, record: Any, path: Path) -> None:
    others = [other for other in sorted(_records(path.parents[4])) if other != path]
    record["identity"] = json.loads(rng.choice(others).read_bytes())["identity"]


def _identity_with_same_start(_: random.Random, record: Any, __: Path) -> None:
    """Only its first digits stand in the file's name."""
    record["identity"] = record["identity"][:12] + "0" * 52


def _another_seed(rng: random.Random, record: Any, _: Path) -> None:
    record["seed"] = rng.randrange(2, 9)


def _selection_of_another_epoch(_: random.Random, record: Any, __: Path) -> None:
    best = record["selections"].get("best-on-test")
    record["selections"]["last"] = dict(best or record["selections"]["last"], epoch=0)


def _another_data_set(_: random.Random, record: Any, __: Path) -> None:
    record["dataset"]["name"] = "cifar10-lt"


def _factor_of_another(_: random.Random, record: Any, __: Path) -> None:
    record["dataset"]["factor"] = 100.0


def _longer_curve(_: random.Random, record: Any, __: Path) -> None:
    record["curve"] = {name: column * 2 for name, column in record["curve"].items()}


def _side_file_of_another(rng: random.Random, record: Any, path: Path) -> None:
    others = [other for other in sorted(_records(path.parents[4])) if other != path]
    record["predictions"] = json.loads(rng.choice(others).read_bytes())["predictions"]


IN_STEP = tuple(
    map(
        _edit,
        (
            *(_count_and_bin, _recipe_and_digest, _protocol_and_digest, _identity_of_another, _another_seed),
            *(_identity_with_same_start, _selection_of_another_epoch, _another_data_set, _factor_of_another),
            *(_longer_curve, _side_file_of_another),
        ),
    )
)


def _sealed(path: Path) -> None:
    """Seal a record as it is now."""
    record = json.loads(path.read_bytes())
    if isinstance(record, dict):
        record.pop("sha256", None)
    path.write_text(sealed(json.dumps(record, indent=1) + "\n"), encoding="utf-8")


def _forged(act: damage.Damage) -> damage.Damage:
    """The change to a record under a seal that fits."""

    def forged(rng: random.Random, path: Path) -> None:
        act(rng, path)
        _sealed(path)

    forged.__name__ = act.__name__
    return forged


def _confirmed(act: damage.Damage) -> damage.Damage:
    """The damage to a side file with the digest in its record made to fit."""

    def confirmed(rng: random.Random, side: Path) -> None:
        act(rng, side)
        record = side.with_suffix(".json")
        data = json.loads(record.read_bytes())
        data["predictions"]["sha256"] = hashlib.sha256(side.read_bytes()).hexdigest()
        record.write_text(json.dumps(data), encoding="utf-8")
        _sealed(record)

    confirmed.__name__ = act.__name__
    return confirmed


def _swapped(rng: random.Random, side: Path) -> None:
    others = [path.with_suffix(".npz") for path in sorted(_records(side.parents[4])) if path.stem != side.stem]
    shutil.copy(rng.choice(others), side)


def _records(folder: Path) -> list[Path]:
    return list((folder / ROOT).rglob("seed*.json") if (folder / ROOT).is_dir() else folder.rglob("seed*.json"))


def _board(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((folder / "board").rglob("*.csv"))}


def _numbers(board: dict[str, str]) -> list[str]:
    """Cells that are numbers, whatever the tables and methods are called."""
    cells = [cell for text in board.values() for line in text.splitlines()[1:] for cell in line.split(",")]
    return sorted(cell for cell in cells if re.fullmatch(r"-?[\d. ]+", cell))
