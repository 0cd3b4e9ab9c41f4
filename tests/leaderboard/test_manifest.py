"""A tree of records with a manifest: what is altered, lost or added by hand is named, what is added is listed."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from records_factory import add_record

from lt_bench.errors import UserError
from lt_bench.leaderboard import build, changes, load_records
from lt_bench.leaderboard.manifest import MANIFEST, begin, check_manifest
from lt_bench.leaderboard.sources import read_board
from lt_bench.leaderboard.taking_in import take_in

WRITERS, EACH, BUILDERS = 8, 4, 2


@pytest.fixture
def records(tmp_path: Path) -> Path:
    for seed in range(2):
        add_record(tmp_path / "records", seed=seed)
    begin(tmp_path / "records")
    return tmp_path / "records"


def test_it_is_a_file_of_sha256sum(records: Path) -> None:
    add_record(records, seed=2)
    assert len((records / MANIFEST).read_text().splitlines()) == 3
    subprocess.run(["sha256sum", "--check", "--strict", MANIFEST], cwd=records, check=True, stdout=subprocess.PIPE)
    read_board(records)


def altered(path: Path) -> str:
    """Sealed anew, so that nothing else finds it."""
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    check_manifest(path.parents[3])  # line ends are no change
    other = add_record(path.parents[3].with_name("other"), seed=1, correct=(9, 9, 9, 9, 9, 9))
    for suffix in (".json", ".npz"):
        shutil.copy(other.with_suffix(suffix), path.with_suffix(suffix))
    return f"altered: its sha256 is not the one in {MANIFEST}"


def lost(path: Path) -> str:
    path.unlink()
    return f"lost: {MANIFEST} lists it"


def added_by_hand(path: Path) -> str:
    manifest = path.parents[3] / MANIFEST
    manifest.write_text("".join(line for line in manifest.read_text().splitlines(True) if path.name not in line))
    return f"not in {MANIFEST}, so it was added by hand"


@pytest.mark.parametrize("done", [altered, lost, added_by_hand])
def test_what_was_done_past_it_is_named(done: Callable[[Path], str], records: Path, tmp_path: Path) -> None:
    (path,) = records.rglob("seed1*.json")
    said = done(path)
    for reads in (read_board, lambda tree: build(tree, tmp_path / "b"), lambda tree: changes(tree, tree)):
        with pytest.raises(UserError) as caught:
            reads(records)
        assert str(caught.value).startswith(f"{path}: {said}")


def test_what_was_added_by_hand_is_listed_once_it_has_been_checked(records: Path) -> None:
    (path,) = records.rglob("seed1*.json")
    added_by_hand(path)
    take_in([path], records)
    check_manifest(records)


def test_a_line_that_is_none_is_refused(records: Path) -> None:
    (records / MANIFEST).write_text("nonsense\n")
    with pytest.raises(UserError, match=f"{MANIFEST}: line 1: expected a sha256, two spaces and the path of a record"):
        check_manifest(records)


# --- many processes at once --------------------------------------------------------------------------


def writes(records: Path, writer: int) -> None:
    for seed in range(EACH):
        add_record(records, recipe_name=f"method{writer}", seed=seed)


def takes_in(records: Path, source: Path) -> None:
    take_in([source], records)


def builds(records: Path, out: Path, enough: Any) -> None:
    while not enough.is_set():
        build(records, out)


def test_eight_add_while_two_build(records: Path, tmp_path: Path) -> None:
    """Half of them as runs do, half from another folder: nothing is lost, nothing is torn, nobody is refused."""
    context = multiprocessing.get_context("fork")
    enough = context.Event()
    for writer in range(WRITERS // 2, WRITERS):
        writes(tmp_path / f"source{writer}", writer)
    adders = [context.Process(target=writes, args=(records, writer)) for writer in range(WRITERS // 2)]
    adders += [
        context.Process(target=takes_in, args=(records, tmp_path / f"source{writer}"))
        for writer in range(WRITERS // 2, WRITERS)
    ]
    builders = [context.Process(target=builds, args=(records, tmp_path / "board", enough)) for _ in range(BUILDERS)]
    for process in (*builders, *adders):
        process.start()
    for process in adders:
        process.join(60)
    enough.set()
    for process in builders:
        process.join(60)
    assert [process.exitcode for process in (*adders, *builders)] == [0] * (WRITERS + BUILDERS)
    check_manifest(records)
    assert len(load_records(records)) == 2 + WRITERS * EACH
    assert len((records / MANIFEST).read_text().splitlines()) == 2 + WRITERS * EACH
    at_rest = {path.name: path.read_bytes() for path in build(records, tmp_path / "alone")}
    assert {path.name: path.read_bytes() for path in build(records, tmp_path / "board")} == at_rest
