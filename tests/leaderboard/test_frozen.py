"""What a frozen board stands for may grow, and must not change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from records_factory import add_record

from lt_bench.leaderboard import frozen
from lt_bench.protocol import shipped_protocol

LtBench = Callable[..., Any]
PLACES = ("--records", "records", "--out", "board")


@pytest.fixture
def board(lt_bench: LtBench, working_folder: Path) -> LtBench:
    add_record(Path("records"), dataset={"name": "digits-lt", "factor": 20.0})
    assert lt_bench("leaderboard", "build", *PLACES).code == 0
    done = lt_bench("leaderboard", "freeze", *PLACES)
    assert (done.code, done.out) == (
        0,
        "board/frozen.json: frozen; new rows may come, what is in it must not change\n",
    )
    return lt_bench


def test_it_holds_protocols_data_sets_and_metrics(board: LtBench) -> None:
    found = json.loads(Path("board/frozen.json").read_text())
    shipped = shipped_protocol("cifar-30ep")
    assert shipped is not None
    assert found["protocols"] == {"cifar-30ep": {"version": shipped.version, "sha256": shipped.sha256()}}
    assert list(found["datasets"]) == ["digits-lt"]
    assert found["metrics"]["top1"] == 38 / 60
    assert found["metrics"]["few"] == 0.4
    assert (Path("records") / "manifest.sha256").is_file()


def test_new_rows_may_come(board: LtBench) -> None:
    add_record(Path("records"), recipe_name="cmo", dataset={"name": "digits-lt", "factor": 20.0})
    assert board("leaderboard", "build", *PLACES).code == 0
    assert board("leaderboard", "check", *PLACES).code == 0
    again = board("leaderboard", "freeze", *PLACES)
    assert (again.code, "board/frozen.json: frozen already" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("part", "name"),
    [("_protocol", "protocol cifar-30ep"), ("_dataset", "data set digits-lt"), ("_example", "metric top1")],
)
def test_what_changes_is_named(part: str, name: str, board: LtBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, part, lambda *_: {})
    done = board("leaderboard", "check", *PLACES)
    assert (done.code, done.err.startswith(f"lt-bench: board/frozen.json: {name} is not what it was")) == (2, True)


def test_another_file_of_that_name_is_refused(board: LtBench) -> None:
    Path("board/frozen.json").write_text("[]")
    done = board("leaderboard", "check", *PLACES)
    assert (done.code, "board/frozen.json: not what lt-bench leaderboard freeze has written" in done.err) == (2, True)
