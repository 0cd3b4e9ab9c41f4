from __future__ import annotations

from pathlib import Path

import pytest
from records_factory import add_record

from lt_bench.errors import UserError
from lt_bench.leaderboard import Change, changes
from lt_bench.leaderboard.changes import write_changelog

TABLE = "tiny-lt-if500-cifar-30ep"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with the same two runs."""
    before, after = tmp_path / "before", tmp_path / "after"
    for folder in (before, after):
        add_record(folder, recipe_name="ce", correct=(9, 8, 7, 6, 5, 4))
        add_record(folder, recipe_name="mixup", correct=(9, 9, 6, 4, 2, 0))
    return before, after


def test_the_same_runs_are_no_change(folders: tuple[Path, Path]) -> None:
    assert changes(*folders) == []


def test_rows_that_come_go_and_move(folders: tuple[Path, Path]) -> None:
    before, after = folders
    add_record(after, recipe_name="ce", seed=1, correct=(9, 8, 7, 6, 5, 1))
    add_record(after, recipe_name="cmo", correct=(9, 9, 8, 8, 8, 6))
    add_record(before, recipe_name="cutmix", correct=(9, 9, 9, 0, 0, 0))
    assert changes(before, after) == [
        Change(TABLE, "cmo", (), (0,), None, pytest.approx(80.0)),
        Change(TABLE, "ce", (0,), (0, 1), pytest.approx(65.0), pytest.approx(62.5)),
        Change(TABLE, "cutmix", (0,), (), pytest.approx(45.0), None),
    ]
    assert [one.difference for one in changes(before, after)] == [None, pytest.approx(-2.5), None]


def test_a_recipe_that_was_edited_under_its_name_goes_and_comes(folders: tuple[Path, Path]) -> None:
    before, after = folders
    add_record(before, recipe_name="cmo")
    add_record(after, recipe_name="cmo", recipe={"mix": {"name": "edited"}})
    found = changes(before, after)
    assert [(one.method, one.seeds_before, one.seeds_after) for one in found] == [("cmo", (), (0,)), ("cmo", (0,), ())]


def test_a_run_that_was_made_again_is_a_change_though_its_score_is_the_same(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    add_record(before, created="2026-01-01T00:00:00+00:00")
    add_record(after, created="2026-01-02T00:00:00+00:00")
    (found,) = changes(before, after)
    assert found.difference == 0


def test_tables_are_told_apart_by_their_key(folders: tuple[Path, Path]) -> None:
    before, after = folders
    add_record(after, recipe_name="ce", protocol={"name": "cifar-200ep"})
    (found,) = changes(before, after)
    assert (found.table, found.seeds_before) == ("tiny-lt-if500-cifar-200ep", ())


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    add_record(tmp_path)
    with pytest.raises(UserError, match="nowhere: there is no such folder of records"):
        changes(tmp_path / "nowhere", tmp_path)


def test_a_page_of_changes_grows_at_its_top(folders: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = folders
    add_record(after, recipe_name="ce", seed=1, correct=(9, 8, 7, 6, 5, 1))
    add_record(after, recipe_name="a|b", correct=(9, 9, 8, 8, 8, 6))
    page = tmp_path / "CHANGELOG.md"
    write_changelog([], "1.0", page)
    write_changelog(changes(before, after), "1.1", page)
    told = page.read_text()
    assert told.index("## 1.1") < told.index("## 1.0\n\nNo row differs.\n")
    assert f"## 1.1\n\n### {TABLE}\n\n| Method | Seeds | Top-1 |" in told
    assert "| a\\|b | 1 (new) | 80.00 (new) |\n| ce | 1 → 2 | 65.00 → 62.50 |" in told
    with pytest.raises(UserError, match=r"has changes titled '1\.1' already"):
        write_changelog([], "1.1", page)
    assert page.read_text() == told
    page.write_text("mine")
    with pytest.raises(UserError, match="was not made by this command"):
        write_changelog([], "1.2", page)
