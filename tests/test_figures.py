"""Pictures as files: drawn over drawings, and over nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from lt_bench.errors import UserError
from lt_bench.evaluation.saving import check_place
from lt_bench.figures import save_figure


@pytest.mark.parametrize("name", ["a.png", "a.pdf", "a.svg", "a"])
def test_a_drawing_is_overwritten_and_a_photograph_is_not(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    save_figure(Figure(), path)
    first = path.read_bytes()
    save_figure(Figure(figsize=(1, 1)), path)
    assert path.read_bytes() != first
    path.write_bytes(b"a photograph")
    with pytest.raises(UserError, match="is no drawing of this suite, so it is not overwritten"):
        save_figure(Figure(), path)
    assert path.read_bytes() == b"a photograph"


def test_the_formats_are_those_that_the_help_names(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"a\.gif: the figure cannot be written: the suffix should be \.png, \.pdf or \.svg"
    ):
        save_figure(Figure(), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_predictions_are_not_written_over_those_of_a_record(tmp_path: Path) -> None:
    check_place(tmp_path / "seed0.npz")
    (tmp_path / "seed0.json").write_text("{}")
    with pytest.raises(UserError, match=r"seed0\.npz: belongs to the record beside it"):
        check_place(tmp_path / "seed0.npz")
    check_place(tmp_path / "seed0.csv")
