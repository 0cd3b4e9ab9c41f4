"""The notebook on label noise: on the records that ship, on made ones, and where there are none."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import nbformat
import pytest
from matplotlib import pyplot as plt

from lt_bench.methods.beta_mixture import BetaMixture

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "noise_and_the_tail.ipynb"
STORE = SimpleNamespace(**runpy.run_path(str(ROOT / "notebooks" / "store.py")))
AUC = {"all": 0.8, "many": 0.9, "medium": 0.7, "few": None, "head": 0.9, "tail": 0.6}
SPREAD = {"right": (600, 74), "wrong": (7, 60)}
LOSSES = {"all": SPREAD, "head": {"right": (500, 51), "wrong": (0, 50)}, "tail": {"right": (6, 10), "wrong": (1, 3)}}
OWN = {"flagged": (40, 30, 0, 0, 14, 2), "hits": (10, 30, 0, 0, 2, 2), "auc": AUC}


def executed(records: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """All of its names after the last cell, run in this process on the records of a folder."""
    monkeypatch.setenv("LT_BENCH_RECORDS", str(records))
    monkeypatch.setenv("LT_BENCH_FIGURES", str(records / "figures"))
    names: dict[str, Any] = {}
    with mpl.rc_context({"backend": "Agg"}):
        for cell in STORE.code_cells(nbformat.read(NOTEBOOK, as_version=4)):
            exec(cell.source, names)
    plt.close("all")
    return names


def test_stored_as_the_shipped_records_show_it(tmp_path: Path) -> None:
    notebook = STORE.executed(NOTEBOOK, tmp_path)
    stored = nbformat.read(NOTEBOOK, as_version=4)
    assert STORE.told(stored) == STORE.told(notebook), "shows other records: run make notebooks"


def test_it_says_what_to_run_where_there_is_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert executed(tmp_path, monkeypatch)["METHODS"] == []
    told = capsys.readouterr().out
    assert "lt-bench sweep cifar10-lt-noisy/ce" in told
    assert told.count("No run is left") == 4


def test_what_detection_costs_the_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of six classes the first two are the head, with 551 right labels, the last two the tail, with 16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests" / "leaderboard")
        from records_factory import add_record, noisy

    add_record(tmp_path, recipe_name="ce", best=(10, 9, 8, 7, 6, 5), **noisy(losses=LOSSES))
    add_record(tmp_path, recipe_name="jocor", **noisy(losses=LOSSES, by_method=OWN))
    add_record(tmp_path, recipe_name="mixup")  # of another track
    found = executed(tmp_path, monkeypatch)
    assert sorted(found["METHODS"]) == ["ce", "jocor"]
    assert found["CHOOSING"] == ["jocor"]
    lost = found["counted"][["head: right", "head: lost", "tail: right", "tail: lost"]]
    assert lost.loc["ce", "by loss"].tolist() == [551, 15, 16, 0]
    assert lost.loc["jocor", "own"].tolist() == [551, 30, 16, 12]
    assert found["ends"].gap["ce"] == pytest.approx(10)
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"losses", "cost", "gap"}
    assert found["losses_of"]([2, 0, 1]).tolist() == [0.0625, 0.1875, 0.625]
    # At the start of its fit the chance that a label is wrong is x itself: even in the middle.
    assert found["threshold"](BetaMixture()) == pytest.approx(0.5, abs=0.002)
