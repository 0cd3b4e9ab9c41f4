"""Records of another folder: all are taken in as they are, or none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from records_factory import add_record

from lt_bench.errors import UserError
from lt_bench.leaderboard import load_predictions, load_record, load_records
from lt_bench.leaderboard.record import to_json
from lt_bench.leaderboard.seal import sealed
from lt_bench.leaderboard.taking_in import take_in


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    for seed in range(2):
        add_record(tmp_path / "theirs", recipe_name="ce", seed=seed)
    add_record(tmp_path / "theirs", recipe_name="cmo")
    return tmp_path / "theirs"


def test_records_keep_their_bytes_and_come_once(theirs: Path, tmp_path: Path) -> None:
    taken = take_in([theirs], tmp_path / "board")
    assert [one.new for one in taken] == [True] * 3
    assert tree(tmp_path / "board") == tree(theirs)
    again = take_in([theirs, *theirs.rglob("seed1*.json")], tmp_path / "board")
    assert [one.new for one in again] == [False] * 4
    assert tree(tmp_path / "board") == tree(theirs)


def test_a_folder_in_any_order_is_put_in_order(theirs: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (theirs / "tiny-lt-if500" / "cifar-30ep" / "ce").iterdir():
        shutil.copy(path, flat)
    take_in([flat], tmp_path / "board")
    assert set(tree(tmp_path / "board")) == {name for name in tree(theirs) if "/ce/" in name}


def test_another_run_of_the_same_identity_becomes_a_revision(theirs: Path, tmp_path: Path) -> None:
    first = add_record(tmp_path / "board", created="2026-01-01T00:00:00+00:00", correct=(1, 1, 1, 1, 1, 1))
    (source,) = (path for path in theirs.rglob("ce/seed0*.json"))
    (taken,) = take_in([source], tmp_path / "board")
    assert taken.path.name == f"{first.stem}.r2.json"
    found = load_record(taken.path)
    assert (found.created, found.selections) == (load_record(source).created, load_record(source).selections)
    assert found.predictions is not None
    assert found.predictions.file == f"{first.stem}.r2.npz"
    load_predictions(taken.path, found)
    assert len(load_records(tmp_path / "board")) == 2


def altered_record(folder: Path) -> str:
    (path,) = folder.rglob("cmo/*.json")
    path.write_text(path.read_text().replace('"threads": 2', '"threads": 3'))
    return f"{path}: sha256: not that of all before it"


def without_side_file(folder: Path) -> str:
    (path,) = folder.rglob("cmo/*.npz")
    path.unlink()
    return f"{path}: not a readable side file"


def nothing(folder: Path) -> str:
    shutil.rmtree(folder)
    folder.mkdir()
    return f"{folder}: there are no records"


@pytest.mark.parametrize("damaged", [altered_record, without_side_file, nothing])
def test_one_that_is_refused_keeps_all_out(damaged: object, theirs: Path, tmp_path: Path) -> None:
    said = damaged(theirs)  # type: ignore[operator]
    with pytest.raises(UserError) as caught:
        take_in([theirs], tmp_path / "board")
    assert str(caught.value).startswith(said)
    assert not (tmp_path / "board").exists()


def test_a_side_file_of_another_name_takes_no_place_of_another_record(theirs: Path, tmp_path: Path) -> None:
    """A record may name any file: here that of the record of seed 1."""
    source, other = (next(theirs.rglob(f"ce/seed{seed}*.json")) for seed in (0, 1))
    record = load_record(source)
    assert record.predictions is not None
    side = record.predictions.model_copy(update={"file": other.with_suffix(".npz").name})
    path = tmp_path / "odd" / source.name
    path.parent.mkdir()
    path.write_text(sealed(to_json(record.model_copy(update={"predictions": side, "sha256": None}))))
    shutil.copy(source.with_suffix(".npz"), path.with_name(side.file))
    take_in([other], tmp_path / "board")
    (taken,) = take_in([path], tmp_path / "board")
    assert load_record(taken.path).predictions == record.predictions
    assert len(load_records(tmp_path / "board")) == 2
