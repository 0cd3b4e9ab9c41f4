"""One's own records beside those of the shipped board: which rows there are, whose they are, and what is presented."""

from __future__ import annotations

import csv
import io
import shutil
from itertools import product
from pathlib import Path

import pytest
from records_factory import add_record, digest
from rich.console import Console

from lt_bench.errors import UserError
from lt_bench.leaderboard import build, check, compare, frame, per_class_frame, print_tables
from lt_bench.leaderboard.board import plain_tables, render
from lt_bench.leaderboard.sources import read_board
from lt_bench.resources import RECORDS, TABLES
from lt_bench.training.run import Options

TABLE = "tiny-lt-if500-cifar-30ep"
BEST, GOOD, FAIR = (10, 9, 8, 7, 6, 5), (9, 8, 7, 6, 5, 4), (8, 7, 6, 5, 4, 3)
OTHERS = "Tables of the shipped board without records of yours: 1 (lt-bench leaderboard show --board)."


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The records of a shipped board: ce and mixup in one table, ce in another; the working folder is empty."""
    monkeypatch.setattr("lt_bench.leaderboard.sources.shipped_board", lambda: tmp_path / "board")
    monkeypatch.setattr("lt_bench.leaderboard.board.shipped_board", lambda: tmp_path / "board")
    folder = tmp_path / "board" / "records"
    for seed in (0, 1):
        add_record(folder, recipe_name="ce", seed=seed, correct=(*FAIR[:5], seed))
        add_record(folder, recipe_name="mixup", seed=seed, correct=(*BEST[:5], 3 + seed))
    add_record(folder, recipe_name="ce", dataset={"name": "other-lt", "index_sha256": digest("other")})
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


@pytest.fixture
def yours(official: Path) -> Path:
    """Of one's own: the board's ce made again with other luck, and a method of one's own."""
    for seed in (0, 1):
        add_record(RECORDS, recipe_name="ce", seed=seed, correct=(*GOOD[:5], seed), created="2026-06-01T12:00:00Z")
        add_record(RECORDS, recipe_name="mine", seed=seed, correct=(10, 9, 8, 7, 6 + seed, 10))
    return RECORDS


def rows(records: Path | None = None) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render(records)[f"tables/{TABLE}.csv"].decode())))


def test_plain_tables_are_those_that_are_printed_with_the_rows_of_their_files(yours: Path) -> None:
    (table,) = plain_tables(None)
    assert (table["table"], table["title"]) == (TABLE, "tiny-lt, factor 500: cifar-30ep")
    assert table["title"] in printed()
    assert [row["method"] for row in table["rows"]] == [row["method"] for row in rows()]
    assert all(" ".join(remark.split()) in " ".join(printed().split()) for remark in table["remarks"])
    for row, line in zip(table["rows"], rows(), strict=True):
        assert {key: "" if value is None else str(value) for key, value in row.items()} == line


def printed(records: Path | None = None) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_tables(records, console)
    return console.file.getvalue()


# --- rows ---------------------------------------------------------------------------------------------


def test_a_row_is_the_board_s_or_yours(yours: Path) -> None:
    found = rows()
    assert [row["method"] for row in found] == ["mine (yours)", "mixup", "ce (yours)", "ce"]
    assert [row["n"] for row in found] == ["2"] * 4
    assert [float(row["top1"]) for row in found[2:]] == pytest.approx([100 * 35.5 / 60, 100 * 30.5 / 60])
    assert found[2]["recipe_sha256"] == found[3]["recipe_sha256"]


def test_they_are_ranked_together(yours: Path) -> None:
    assert [(row["rank_best"], row["rank_worst"]) for row in rows()] == [("1", "1"), ("2", "2"), ("3", "3"), ("4", "4")]
    assert [(row["rank_best"], row["rank_worst"]) for row in rows(yours)] == [("1", "1"), ("2", "2")]


def test_recipes_of_one_name_are_told_apart_among_yours(yours: Path) -> None:
    add_record(RECORDS, recipe_name="ce", recipe={"mix": {"name": "edited"}}, correct=FAIR)
    titles = [row["method"] for row in rows()]
    assert "ce" in titles
    assert sorted(map(len, titles))[-2:] == [len("ce [01234567] (yours)")] * 2
    assert [row["command"] for row in rows() if "[" in row["method"]] == ["", ""]


def test_a_copy_of_an_official_record_is_the_board_s(official: Path) -> None:
    shutil.copytree(official, RECORDS)
    assert read_board(None) == read_board(None)
    assert read_board(None).yours == ()
    assert len(frame()) == 5
    add_record(RECORDS, recipe_name="ce", seed=2)
    assert [(row["method"], row["seeds"]) for row in rows() if "ce" in row["method"]] == [
        ("ce (yours)", "2"),
        ("ce", "0 1"),
    ]


def test_a_folder_that_is_named_is_read_alone(yours: Path, official: Path) -> None:
    assert [row["method"] for row in rows(yours)] == ["mine", "ce"]
    assert [row["method"] for row in rows(official)] == ["mixup", "ce"]
    assert compare(yours, "ce", "mine").second == "mine"
    assert set(frame(yours).method) == {"ce", "mine"}
    assert "(yours)" not in printed(yours)


# --- tables -------------------------------------------------------------------------------------------


def test_the_tables_with_records_of_yours_are_presented(yours: Path) -> None:
    files = render(None)
    assert sorted(files) == ["README.md", "index.html", f"tables/{TABLE}.csv", f"tables/{TABLE}.md"]
    assert OTHERS in files["README.md"].decode()
    assert "Rows titled (yours) are of your own records" in files[f"tables/{TABLE}.md"].decode()
    assert "other-lt" not in printed()
    assert printed().endswith(f"{OTHERS}\n")


def test_a_table_that_the_board_lacks_is_presented_too(official: Path) -> None:
    add_record(RECORDS, recipe_name="ce", protocol={"modified": True}, created="2026-06-01T12:00:00Z")
    (table,) = read_board(None).shown
    assert [row.method for row in table.rows] == ["ce (yours)"]
    assert read_board(None).others == OTHERS.replace(": 1", ": 2")


def test_without_records_of_yours_the_board_is_shown_and_nothing_is_built(official: Path) -> None:
    for folder in (None, RECORDS):
        if folder is not None:
            folder.mkdir(parents=True)
        assert "other-lt" in printed()
        assert "(yours)" not in printed()
        with pytest.raises(
            UserError, match=r"^results/records: no records of yours to make tables of; lt-bench leader"
        ):
            build(None, TABLES)
    assert [path.name for path in Path().rglob("*")] == ["results", "records"]


def test_what_was_built_is_up_to_date_until_there_is_another_record(yours: Path) -> None:
    built = build(None, TABLES)
    assert check(None, TABLES) == []
    assert built == [TABLES / name for name in ("README.md", "index.html", f"tables/{TABLE}.md", f"tables/{TABLE}.csv")]
    add_record(RECORDS, recipe_name="mine", seed=2)
    assert check(None, TABLES) == built  # the index counts the runs


# --- compare ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "titles"),
    [
        ("ce", "mixup", ("ce (yours)", "mixup")),
        ("ce", "board:ce", ("ce (yours)", "ce")),
        ("board:tiny-lt/ce", "tiny-lt/mine", ("ce", "mine (yours)")),
        ("ce (yours)", "mixup", ("ce (yours)", "mixup")),
    ],
)
def test_yours_is_compared_unless_the_board_s_is_asked_for(
    first: str, second: str, titles: tuple[str, str], yours: Path
) -> None:
    found = compare(None, first, second)
    assert (found.first, found.second) == titles
    assert found.yours == tuple(title.endswith("(yours)") for title in titles)
    assert found.seeds == (0, 1)


def test_predictions_are_read_where_each_record_lies(official: Path) -> None:
    """The same run, with other predictions in each place: over images the two differ."""
    digits = {"name": "digits-lt", "factor": 20.0}
    add_record(official, correct=FAIR, dataset=digits)
    add_record(RECORDS, correct=GOOD, dataset=digits, created="2026-06-01T12:00:00Z")
    from lt_bench.leaderboard.comparison import _predicted

    (table,) = read_board(None).yours
    assert [row.method for row in table.rows] == ["ce (yours)", "ce"]
    own, other = (_predicted(row.runs[0]) for row in table.rows)
    assert (own != other).sum() == sum(GOOD) - sum(FAIR)


def test_tables_with_more_rows_of_yours_come_first(yours: Path) -> None:
    for name in ("ce", "mine"):
        add_record(RECORDS, recipe_name=name, protocol={"name": "cifar-200ep"})
    assert compare(None, "ce", "board:ce").table == TABLE
    with pytest.raises(UserError, match="stand in 2 tables"):
        compare(None, "ce", "mine")
    with pytest.raises(UserError, match=r"^ce: two different methods are needed; the shipped board's is board:ce$"):
        compare(None, "ce", "ce", TABLE)
    same = "mixup: two different methods are needed, and board:mixup is the same row: no record of yours is of this"
    with pytest.raises(UserError, match=same):
        compare(None, "mixup", "board:mixup", TABLE)


def test_rows_of_other_images_have_a_table_of_their_own_and_the_board_s_keeps_its_name(official: Path) -> None:
    for seed, name in product((0, 1), ("ce", "mixup")):
        there = {"content_sha256": digest("in the order of the archive")}
        add_record(RECORDS, seed=seed, recipe_name=name, dataset=there)
    assert compare(None, "board:mixup", "board:ce").table == TABLE
    apart = rf"^ce and board:ce stand in no common table, .*: {TABLE}(-\w+)? and {TABLE}(-\w+)? differ by contents$"
    with pytest.raises(UserError, match=apart):
        compare(None, "ce", "board:ce")
    with pytest.raises(UserError, match=r"no record of yours is of this method in this table$"):
        compare(None, "ce", "board:ce", TABLE)
    (csv_file,) = (path for path in build(None, Path("out")) if path.suffix == ".csv")
    assert compare(None, "ce (yours)", "mixup (yours)", csv_file.stem).table == csv_file.stem != TABLE


def test_a_row_by_two_names_is_one_method(yours: Path) -> None:
    for name in ("tiny-lt/ce", "ce (yours)"):
        with pytest.raises(UserError, match=r"^ce: two different methods are needed; the shipped board's is board:ce$"):
            compare(None, "ce", name, TABLE)
        with pytest.raises(UserError, match=r"^ce: two different methods are needed; the shipped board's is board:ce$"):
            compare(None, "ce", name)


def test_the_board_is_not_read_beside_a_folder_that_is_named(yours: Path) -> None:
    with pytest.raises(UserError, match=r"^board:ce: the shipped board is not read where --records names a folder$"):
        compare(yours, "ce", "board:ce")


# --- frames -------------------------------------------------------------------------------------------


def test_frames_tell_whose_a_run_is_and_where_it_lies(yours: Path) -> None:
    found = frame()
    assert sorted(found.method[found.yours]) == ["ce (yours)", "ce (yours)", "mine (yours)", "mine (yours)"]
    assert len(found) == 9
    assert found.record.is_unique
    assert all(Path(path).is_file() for path in found.record)
    classes = per_class_frame()
    assert set(classes.record) == set(found.record)


# --- where nothing is written -------------------------------------------------------------------------


def test_the_installed_board_is_only_read(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_bench.resources._INSTALLED", official.parent)
    Path("link").symlink_to(official.parent)
    for place in (official, Path("link/records")):
        with pytest.raises(UserError, match=f"^--records {place}: part of the installed package, which is only read"):
            Options(records=place)
    with pytest.raises(UserError, match=r"^--out link: part of the installed package"):
        build(official, Path("link"))
    assert [path.name for path in official.parent.iterdir()] == ["records"]


def test_the_official_tables_are_not_overwritten_by_yours(yours: Path, official: Path) -> None:
    with pytest.raises(
        UserError, match="the official tables, of the official records alone: name those with --records"
    ):
        build(None, official.parent)
    assert build(official, official.parent)[0] == official.parent / "README.md"
