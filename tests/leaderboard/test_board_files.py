"""The board as files: the same from the same records, whole whatever ends a build, with commands that repeat rows."""

from __future__ import annotations

import csv
import errno
import os
import shlex
import shutil
from pathlib import Path

import pytest
from board_cases import reported, tables
from records_factory import add_record

from lt_bench.errors import UserError
from lt_bench.leaderboard import build, check
from lt_bench.leaderboard.board import MARK, render
from lt_bench.recipe import load_recipe
from lt_bench.recipe.overrides import split_arguments

SHIPPED = Path(__file__).parents[2] / "leaderboard" / "v1"


def fill(folder: Path, order: list[int]) -> None:
    for i in order:
        add_record(
            folder, recipe_name=f"method-{i % 4}", seed=i // 4, correct=(9, 8, 7, 6, 5, i % 8), reported=reported()
        )


def test_board_is_a_pure_function_of_the_records(tmp_path: Path) -> None:
    fill(tmp_path / "a", list(range(12)))
    fill(tmp_path / "b", list(range(11, -1, -1)))
    assert render(tmp_path / "a") == render(tmp_path / "b")
    # Where a record lies does not matter to the tables either; the page tells it.
    for path in sorted((tmp_path / "b").rglob("seed*")):
        path.rename(tmp_path / "b" / path.name)
    one, other = render(tmp_path / "a"), render(tmp_path / "b")
    assert {name for name in one if one[name] != other[name]} == {"index.html"}
    first, second = (build(tmp_path / "a", tmp_path / out) for out in ("one", "two"))
    assert [path.relative_to(tmp_path / "one") for path in first] == [p.relative_to(tmp_path / "two") for p in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert not any(b"\r" in path.read_bytes() for path in first)


def test_check_names_what_build_would_change(tmp_path: Path) -> None:
    records, out = tmp_path / "records", tmp_path / "out"
    add_record(records)
    add_record(records, protocol={"name": "cifar-200ep"})
    built = build(records, out)
    assert check(records, out) == []
    add_record(records, recipe_name="another")
    changed = check(records, out)
    assert {path.name for path in changed} == {
        "README.md",
        "index.html",
        "tiny-lt-if500-cifar-30ep.md",
        "tiny-lt-if500-cifar-30ep.csv",
    }
    assert set(changed) < set(built)
    build(records, out)
    assert check(records, out) == []


def test_a_table_without_records_goes_and_other_files_stay(tmp_path: Path) -> None:
    records, out = tmp_path / "records", tmp_path / "out"
    add_record(records)
    gone = add_record(records, protocol={"name": "cifar-200ep"})
    build(records, out)
    (out / "tables" / "notes.md").write_text("written by hand")
    shutil.rmtree(gone.parents[1])
    stale = [out / "tables" / f"tiny-lt-if500-cifar-200ep.{kind}" for kind in ("md", "csv")]
    assert set(stale) < set(check(records, out))
    build(records, out)
    assert not any(path.exists() for path in stale)
    assert (out / "tables" / "notes.md").exists()
    assert check(records, out) == []


@pytest.mark.parametrize("name", ["README.md", "index.html"])
def test_a_page_of_somebody_else_is_not_overwritten(name: str, tmp_path: Path) -> None:
    add_record(tmp_path / "records")
    (tmp_path / name).write_text("# My project\n")
    with pytest.raises(UserError, match="not made by this command"):
        build(tmp_path / "records", tmp_path)
    assert (tmp_path / name).read_text() == "# My project\n"


@pytest.mark.parametrize("cut", [0, 1, 40, len(MARK)])
@pytest.mark.parametrize("name", ["README.md", "index.html"])
def test_a_page_that_was_cut_is_made_again(name: str, cut: int, tmp_path: Path) -> None:
    add_record(tmp_path / "records")
    build(tmp_path / "records", tmp_path)
    page = tmp_path / name
    whole = page.read_bytes()
    page.write_bytes(whole[:cut])
    assert check(tmp_path / "records", tmp_path) == [page]
    build(tmp_path / "records", tmp_path)
    assert page.read_bytes() == whole


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_a_full_disk_leaves_the_board_that_was_there(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the four files it is that finds no room."""
    records, out = tmp_path / "records", tmp_path / "out"
    add_record(records)
    before = {path: path.read_bytes() for path in build(records, out)}
    add_record(records, recipe_name="another")
    written = []

    def fsync(file: int) -> None:
        written.append(file)
        if len(written) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(UserError) as error:
            build(records, out)
    assert str(error.value) == f"{out}: the board could not be written: No space left on device"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != ".lock"} == before
    build(records, out)
    assert check(records, out) == []


def test_what_has_not_changed_is_not_written(tmp_path: Path) -> None:
    records, out = tmp_path / "records", tmp_path / "out"
    add_record(records)
    before = {path: path.stat().st_ino for path in build(records, out)}
    assert {path: path.stat().st_ino for path in build(records, out)} == before


def test_no_records_is_an_empty_board(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    index, page = build(tmp_path / "records", tmp_path / "out")
    assert "no records yet" in index.read_text()
    assert '"rows":[]' in page.read_text()


def test_a_folder_without_records_takes_no_tables_away(tmp_path: Path) -> None:
    add_record(tmp_path / "records")
    board = tmp_path / "board"
    build(tmp_path / "records", board)
    before = {path: path.read_bytes() for path in board.rglob("*") if path.is_file()}
    (tmp_path / "mistyped").mkdir()
    with pytest.raises(UserError, match=r"mistyped: there are no records of runs; the tables in .*tables stay$"):
        build(tmp_path / "mistyped", board)
    assert {path: path.read_bytes() for path in board.rglob("*") if path.is_file()} == before


def test_what_a_killed_build_left_goes_with_the_next(tmp_path: Path) -> None:
    add_record(tmp_path / "records")
    board = tmp_path / "board"
    build(tmp_path / "records", board)
    left = [board / ".0123456789abcdef.tmp", board / "tables" / ".0123456789abcdef.tmp"]
    for path in left:
        path.write_text("half a table", encoding="utf-8")
    build(tmp_path / "records", board)
    assert not any(path.exists() for path in left)


# --- back from a row to the command ------------------------------------------------------------------


def test_the_command_of_a_row_gives_its_recipe() -> None:
    """Every command of the shipped board leads to the recipe that the row's records have.

    But for those that name a teacher's weights, which somebody has to train first.
    """
    commands = 0
    for page in sorted((SHIPPED / "tables").glob("*.csv")):
        with page.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["command"] and "mix.teacher=" not in row["command"]:
                    words = shlex.split(row["command"])
                    assert words[:2] == ["lt-bench", "run"]
                    assert words[-2:] == ["--seeds", row["seeds"].replace(" ", ",")]
                    (name,), overrides = split_arguments(words[2:-2])
                    assert load_recipe(name, overrides).sha256() == row["recipe_sha256"], row["command"]
                    commands += 1
    assert commands > 100


def test_what_no_command_repeats_says_so(tmp_path: Path) -> None:
    add_record(tmp_path, protocol={"modified": True})
    (name,) = tables(tmp_path)
    assert ": its records" in render(tmp_path)[name].decode()
