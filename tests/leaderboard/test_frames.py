from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from records_factory import add_record, digest

from lt_bench.errors import UserError
from lt_bench.leaderboard import frame, load_record, per_class_frame


def test_frame_has_a_row_per_run(tmp_path: Path) -> None:
    add_record(tmp_path, recipe_name="ce", seed=0, best=(9, 9, 7, 6, 5, 4))
    add_record(tmp_path, recipe_name="cmo", seed=1, overrides=("mix.probability=0.25",), dataset={"factor": None})
    add_record(tmp_path, recipe_name="ce", seed=0, correct=(10,) * 6, best=(10,) * 6)
    found = frame(tmp_path).set_index("method")
    assert len(found) == 2
    assert found.loc["ce", ["seed", "top1", "best_on_test", "gap", "few"]].tolist() == [0, 100.0, 100.0, 0.0, 100.0]
    assert found.loc["cmo (mix.probability=0.25)", ["top1", "many"]].tolist() == pytest.approx([65.0, 85.0])
    assert found.protocol.tolist() == ["cifar-30ep", "cifar-30ep"]
    assert found.loc["cmo (mix.probability=0.25)", ["factor", "best_on_val", "gap"]].isna().all()
    assert found.dtypes[["factor", "best_on_val", "top1"]].eq(float).all()


def test_per_class_frame_has_a_row_per_run_and_class(tmp_path: Path) -> None:
    add_record(tmp_path)
    found = per_class_frame(tmp_path)
    assert found.class_name.tolist() == [f"class {k}" for k in range(6)]
    assert found.train_count.tolist() == [500, 101, 100, 20, 19, 1]
    assert found.group.tolist() == ["many", "many", "medium", "medium", "few", "few"]
    assert found.accuracy.tolist() == pytest.approx([90, 80, 70, 60, 50, 40])


def test_two_recipes_of_one_name_are_two_methods(tmp_path: Path) -> None:
    paths = [
        add_record(tmp_path, recipe={"plugins": {"loss/mine": digest(which)}}, seed=seed)
        for which, seed in (("one", 0), ("one", 1), ("another", 0))
    ]
    expected = [f"ce [{load_record(path).recipe_sha256[:8]}]" for path in paths]
    assert sorted(frame(tmp_path).method) == sorted(expected)
    assert set(per_class_frame(tmp_path).method) == set(expected)
    add_record(tmp_path, protocol={"name": "cifar-200ep"})
    assert "ce" in set(frame(tmp_path).method)  # alone in its table


def test_no_records_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are no records"):
        frame(tmp_path)


def test_a_board_needs_neither_torch_nor_pandas(tmp_path: Path) -> None:
    add_record(tmp_path)
    code = (
        "import io, sys; from pathlib import Path; from rich.console import Console; "
        "from lt_bench.leaderboard import build, print_tables; "
        f"build(Path({str(tmp_path)!r}), Path({str(tmp_path / 'out')!r})); "
        "print_tables(None, Console(file=io.StringIO())); "
        "print(sorted({'torch', 'pandas'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
