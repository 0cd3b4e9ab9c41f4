"""Notebooks run from top to bottom on the committed records, as which they are stored, and on made ones."""

from __future__ import annotations

import re
import runpy
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import nbformat
import numpy as np
import pytest

from lt_bench.evaluation.predictions import Predictions
from lt_bench.leaderboard import frame, load_records, write_record

ROOT = Path(__file__).parents[1]
STORE = SimpleNamespace(**runpy.run_path(str(ROOT / "notebooks" / "store.py")))
PER_CLASS = ROOT / "notebooks" / "per_class_accuracy.ipynb"
MOST_BYTES = 300_000
METHOD_KEYS = ["dataset", "factor", "profile", "subset_seed", "protocol", "recipe_sha256"]


@pytest.fixture(scope="module")
def made_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tables: cifar10-lt with several seeds of each method, and another set with more methods."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent / "leaderboard")
        from records_factory import add_record, digest, make_predictions, make_record

    folder = tmp_path_factory.mktemp("records")
    cifar = {"dataset": {"name": "cifar10-lt", "index_sha256": digest("cifar")}}
    for seed in range(3):
        add_record(folder, recipe_name="ce", seed=seed, correct=(9, 8, 7, 6 - seed, 5, 4), **cifar)
        add_record(folder, recipe_name="cmo", seed=seed, correct=(9, 9, 8 - seed, 8, 7, 7), **cifar)
        add_record(folder, recipe_name="mixup", seed=seed, correct=(10, 9 - seed, 8, 6, 3, 0), **cifar)
    add_record(folder, recipe_name="cmo", recipe={"mix": {"name": "edited"}}, **cifar)
    add_record(folder, recipe_name="cutmix", protocol={"modified": True}, **cifar)
    for method in ("ce", "cmo", "mixup", "cutmix", "dbn-mix", "ldam-drw"):
        add_record(folder, recipe_name=method)

    record = make_record(recipe_name="reordered", **cifar)
    made = make_predictions(record.selections["last"].correct)
    order = np.random.default_rng(0).permutation(len(made.labels))
    write_record(record, Predictions(made.labels[order], made.predicted[order], made.confidence[order]), folder)
    return folder


@pytest.fixture(scope="module")
def on_made_records(made_records: Path, tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    return STORE.executed(PER_CLASS, PER_CLASS.parent, LT_BENCH_RECORDS=made_records)


@pytest.mark.parametrize("path", STORE.NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_small_and_without_a_trace_of_the_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = STORE.code_cells(notebook)
    assert cells
    assert not [cell.id for cell in cells if cell.execution_count is not None or cell.metadata]
    assert {*notebook.metadata} == {"kernelspec", "language_info", "code_sha256"}
    assert path.stat().st_size < MOST_BYTES
    said = str(STORE.told(notebook))
    assert not [place for place in (ROOT, Path.home(), tempfile.gettempdir()) if str(place) in said]
    assert notebook.metadata.code_sha256 == STORE.code_sha256(notebook), "pictures of other code: run make notebooks"


def test_stored_as_the_shipped_records_show_it(tmp_path: Path) -> None:
    notebook = STORE.executed(PER_CLASS, tmp_path, LT_BENCH_FIGURES=tmp_path / "figures")
    runs = frame(ROOT / "leaderboard" / "v1" / "records")
    assert _table_rows(notebook, "records") == len(runs[~runs.modified].groupby(METHOD_KEYS, dropna=False))
    assert _figures(notebook) == 4
    assert len(list((tmp_path / "figures").glob("*.pdf"))) == 4
    assert "left out" not in _printed(notebook, "destination")
    stored = nbformat.read(PER_CLASS, as_version=4)
    assert STORE.told(stored) == STORE.told(notebook), "shows other records: run make notebooks"


@pytest.mark.parametrize("name", ["anatomy_of_a_split", "compare_two_methods"])
def test_stored_as_they_are_executed(name: str, tmp_path: Path) -> None:
    path = PER_CLASS.with_name(f"{name}.ipynb")
    notebook = STORE.executed(path, tmp_path)
    stored = nbformat.read(path, as_version=4)
    assert STORE.told(stored) == STORE.told(notebook), "shows something else: run make notebooks"
    assert _figures(notebook) == {"anatomy_of_a_split": 3, "compare_two_methods": 2}[name]


def test_a_method_of_ones_own_is_trained_and_put_beside_the_others(tmp_path: Path) -> None:
    """One seed of the three; what it reaches depends on the processor's rounding."""
    path = PER_CLASS.with_name("your_own_method.ipynb")
    notebook = STORE.executed(path, tmp_path, LT_BENCH_SEEDS=0)
    (record,) = load_records(tmp_path / "results" / "records")
    assert (record[1].recipe_name, [*record[1].recipe["plugins"]]) == ("stripes", ["mix/stripes"])
    assert re.fullmatch(r"seed 0: top-1 \d+\.\d\d %\n", _printed(notebook, "train"))
    assert _table_rows(notebook, "beside") == 5
    assert "<th>stripes (yours)</th>" in _data(notebook, "beside", "text/html")
    assert _printed(notebook, "compare").count("One common seed says nothing about another training.") == 4
    assert _figures(notebook) == 2
    stored = nbformat.read(path, as_version=4)
    assert _printed(stored, "train").count("top-1") == 3
    assert [*STORE.told(stored)] == [*STORE.told(notebook)]


def test_ones_own_records_beside_the_shipped_ones(
    made_records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another table, and copies, which count as the shipped ones."""
    shipped = ROOT / "leaderboard" / "v1" / "records"
    shutil.copytree(shipped / "cifar100-lt-if100" / "cifar-200ep" / "ce", tmp_path / "results" / "records" / "copy")
    shutil.copytree(made_records / "tiny-lt-if500", tmp_path / "results" / "records" / "tiny-lt-if500")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LT_BENCH_RECORDS", raising=False)
    shown: dict[str, Any] = {}
    with mpl.rc_context():
        for cell in STORE.code_cells(nbformat.read(PER_CLASS, as_version=4))[:3]:
            exec(cell.source, shown)
    assert cell.id == "records"
    rows = [f"{table} {method}" for table, method in shown["overview"].index]
    stored = _table_rows(nbformat.read(PER_CLASS, as_version=4), "records")
    assert (len(rows), sum(row.endswith("(yours)") for row in rows)) == (stored + 6, 6)


def test_tables_and_edited_recipes_stay_apart(on_made_records: nbformat.NotebookNode) -> None:
    assert "1 of them changed their protocol" in _printed(on_made_records, "records")
    assert _table_rows(on_made_records, "records") == 5 + 6
    names = set(re.findall(r"<th>(cmo[^<]*)</th>", _data(on_made_records, "records", "text/html")))
    assert sorted(map(len, names)) == [len("cmo"), len("cmo [01234567]"), len("cmo [01234567]")]


def test_cifar_is_shown_before_a_larger_table(on_made_records: nbformat.NotebookNode) -> None:
    shown = _printed(on_made_records, "choice")
    assert "Shown: cifar10-lt, factor 500, cifar-30ep. 5 methods, 11 runs, baseline ce." in shown
    assert "One seed" not in shown
    assert [line.split(":")[0] for line in shown.splitlines()[-3:]] == ["many", "medium", "few"]
    assert _figures(on_made_records) == 4


def test_destinations_need_labels_that_fit(on_made_records: nbformat.NotebookNode) -> None:
    left_out = _printed(on_made_records, "destination")
    assert left_out.startswith("1 of 11 runs are left out")
    assert "reordered" in left_out
    # Of ce, 4 of 10 images of the rarest class are right, and the others are taken for the first class.
    assert re.search(r"class 5 +40\.0 +class 0 +60\.0", _data(on_made_records, "mistaken", "text/plain"))


def _outputs(notebook: nbformat.NotebookNode, cell_id: str) -> list[nbformat.NotebookNode]:
    return next(cell.outputs for cell in notebook.cells if cell.id == cell_id)


def _printed(notebook: nbformat.NotebookNode, cell_id: str) -> str:
    return "".join(o.text for o in _outputs(notebook, cell_id) if o.output_type == "stream" and o.name == "stdout")


def _data(notebook: nbformat.NotebookNode, cell_id: str, kind: str) -> str:
    return next(o.data[kind] for o in _outputs(notebook, cell_id) if kind in o.get("data", {}))


def _table_rows(notebook: nbformat.NotebookNode, cell_id: str) -> int:
    return _data(notebook, cell_id, "text/html").partition("<tbody>")[2].count("<tr>")


def _figures(notebook: nbformat.NotebookNode) -> int:
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    return sum("image/png" in o.get("data", {}) for o in outputs)
