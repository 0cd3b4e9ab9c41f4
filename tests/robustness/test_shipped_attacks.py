"""The records of attacks that ship: their page is what they give, and each is of a run on the board."""

from __future__ import annotations

import pytest

from lt_bench.leaderboard import load_records
from lt_bench.resources import shipped_board, shipped_robustness
from lt_bench.robustness.board import _rows, as_page, notes, tables
from lt_bench.robustness.record import RobustRecord, every

ATTACKS = [pytest.param(record, id=path.stem) for path, record in every(shipped_robustness())]


def test_the_page_is_what_the_records_give() -> None:
    page = shipped_robustness().parent / "README.md"
    assert page.read_text(encoding="utf-8") == as_page(tables(shipped_robustness()))


def test_a_cell_is_of_the_network_that_the_others_of_its_seed_are_of() -> None:
    _, record = next(every(shipped_robustness()))
    newer = record.model_copy(update={"results": record.results[:1]})
    older = record.model_copy(update={"created": "2000-01-01T00:00:00Z"})
    dropped = record.results[1].trial.name
    (row,) = _rows([newer, older])
    assert dropped in row.scores
    (row,) = _rows([newer, older.model_copy(update={"weights_sha256": "0" * 64})])
    assert dropped not in row.scores


def test_a_row_of_what_has_been_corrected_since_says_so_and_comes_last() -> None:
    found = [row for rows in tables(shipped_robustness()).values() for row in rows[-1:] if row.superseded]
    assert {row.method for row in found} == {"trades-cutmix-wa (superseded)"}
    assert all(note.startswith("trades-cutmix-wa (superseded): trades-cutmix-wa: each of the") for note in notes(found))
    assert all(f"\n{note}\n" in as_page(tables(shipped_robustness())).replace("\\", "") for note in notes(found))


@pytest.fixture(scope="module")
def clean() -> dict[str, float]:
    """Accuracy on all test images as they are, by identity, of the runs against an adversary."""
    folders = (shipped_board() / "records").glob("*-adversarial")
    found = (record for folder in folders for _, record in load_records(folder))
    return {record.identity: record.selections["last"].top1 for record in found}


@pytest.mark.parametrize("record", ATTACKS)
def test_each_is_of_a_run_on_the_board(record: RobustRecord, clean: dict[str, float]) -> None:
    share = sum(record.clean) / sum(record.total)
    # In float32, where the run has evaluated in bf16; of a sample, within three standard errors.
    room = 0.002 if record.sample is None else 3 * (share * (1 - share) / sum(record.total)) ** 0.5
    assert share == pytest.approx(clean[record.identity], abs=room)
