"""The notebook on mixing and the tail: on the records that ship, on a few, and where there are none."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import nbformat
import pytest
from matplotlib import pyplot as plt

from lt_bench.leaderboard import frame
from lt_bench.recipe import load_recipe

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "leaderboard" / "v1" / "records"
NOTEBOOK = ROOT / "notebooks" / "which_mixing_helps_the_tail.ipynb"
STORE = SimpleNamespace(**runpy.run_path(str(ROOT / "notebooks" / "store.py")))


def executed(records: Path) -> dict[str, Any]:
    """All of its names after the last cell, run in this process on the records of a folder."""
    names: dict[str, Any] = {}
    with mpl.rc_context({"backend": "Agg"}), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LT_BENCH_RECORDS", str(records))
        for cell in STORE.code_cells(nbformat.read(NOTEBOOK, as_version=4)):
            exec(cell.source, names)
    plt.close("all")
    return names


@pytest.fixture(scope="module")
def shipped() -> dict[str, Any]:
    return executed(RECORDS)


def test_stored_as_the_shipped_records_show_it(tmp_path: Path) -> None:
    stored = nbformat.read(NOTEBOOK, as_version=4)
    assert STORE.told(stored) == STORE.told(STORE.executed(NOTEBOOK, tmp_path)), "shows other records: make notebooks"


@pytest.mark.parametrize(
    ("recipe", "overrides", "mix", "loss"),
    [
        ("ce", [], "none", "cross-entropy"),
        ("cutmix", ["loss=balanced-softmax"], "cutmix", "balanced-softmax"),
        ("cmo-ldam-drw", [], "cmo", "ldam-drw"),
        ("cutout", [], "cutout", "cross-entropy"),
        ("class-distance-mix-ours-cutmix", [], "class-distance-mix-ours of cutmix", "cross-entropy"),
        ("ce-drw", [], "none", "cross-entropy-drw"),
        ("csce", [], "none", "cross-entropy-weighted"),
        ("rand-augment", [], None, None),
        ("class-balanced-sampling", ["mix=mixup"], None, None),
        ("crt-mixup", [], None, None),
        ("dbn-mix", [], None, None),
        ("dropout", [], None, None),
        ("mixup", ["model.backbone=resnet20"], None, None),
        ("mixup", ["augment={cutout: {side: 8}}"], None, None),
    ],
)
def test_what_stands_alone_between_data_and_network(
    shipped: dict[str, Any], recipe: str, overrides: list[str], mix: str | None, loss: str | None
) -> None:
    found = load_recipe(f"cifar100-lt/{recipe}", ["protocol=cifar-30ep", *overrides]).model_dump(mode="json")
    assert shipped["mixing"](found) == mix
    assert mix is None or shipped["loss"](found) == loss


def test_a_difference_is_that_of_common_seeds(shipped: dict[str, Any]) -> None:
    runs = frame(RECORDS)
    table = runs[
        (runs.dataset == "cifar100-lt") & (runs.factor == 100) & (runs.protocol == "cifar-30ep") & ~runs.modified
    ]
    few = {name: table[table.method == name].set_index("seed").few for name in ("ce", "resizemix")}
    found = shipped["GAINS"]["cifar-30ep", "cross-entropy"].loc["resizemix"]
    assert (few["ce"].size, few["resizemix"].size, found.seeds) == (3, 1, 1)
    assert found.few == pytest.approx(few["resizemix"][0] - few["ce"][0])


def test_where_there_is_no_record_it_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests" / "leaderboard")
        from records_factory import add_record

    add_record(tmp_path, recipe_name="ce")
    assert executed(tmp_path)["GAINS"] == {}
    told = capsys.readouterr().out
    assert "lt-bench sweep cifar100-lt/ce" in told
    assert "No two losses" in told
