"""The benchmarks start, are listed, and their verdicts follow from their figures. Nothing is timed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.name != "plain.py")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_it_starts_and_the_readme_names_it(path: Path) -> None:
    done = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"python benchmarks/{path.name}" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_ratios_are_taken_round_by_round(script: Any) -> None:
    assert script("train_step").ratio([2.0, 6.0, 8.0], [1.0, 2.0, 2.0]) == (3.0, 2.0, 4.0)


def test_a_verdict_of_equivalence(script: Any) -> None:
    equivalence = script("equivalence")
    plain = {seed: {"top-1": 60.0 + seed, "few": 30.0 + seed} for seed in range(5)}
    near = {seed: {"top-1": 60.0 + seed + 0.1 * (-1) ** seed, "few": 33.0 + seed + 0.1 * seed} for seed in range(5)}
    lines = equivalence.verdict(
        equivalence.Side("float32", plain), equivalence.Side("bf16", near), "a recipe"
    ).splitlines()
    top1, few = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[-2:])
    assert (top1[0], top1[-1]) == ("top-1", "yes")
    assert (few[0], few[-1]) == ("few", "not shown")  # three points off
    assert few[3].startswith("+3.20")


def test_seeds_that_only_one_side_has_are_left_out(script: Any) -> None:
    equivalence = script("equivalence")
    plain = equivalence.Side("float32", {seed: {"top-1": 60.0} for seed in range(3)})
    other = equivalence.Side("bf16", {seed: {"top-1": 60.5} for seed in range(1, 5)})
    assert "seeds 1, 2;" in equivalence.verdict(plain, other, "a recipe")
