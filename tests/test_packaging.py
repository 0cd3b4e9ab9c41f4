"""The wheel holds what a user needs far from the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(out.glob("*.whl"))


def test_wheel_ships_every_recipe_and_card(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("recipes", "datasets"):
        files = [path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.yaml")]
        assert files
        assert {f"lt_bench/_resources/{path}" for path in files} <= inside
    assert "lt_bench/_resources/CITATION.cff" in inside
    assert not [name for name in inside if name.startswith(("tests/", "leaderboard/", "notebooks/"))]
    assert "lt_bench/py.typed" in inside


def test_installed_wheel_runs_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "lt_bench", "validate", "digits-lt/ce", "cifar10-lt/dbn-mix"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("valid") == 2
    where = [sys.executable, "-c", "import lt_bench; print(lt_bench.__file__)"]
    found = subprocess.run(
        where, cwd=elsewhere, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=True
    )
    assert str(site) in found.stdout  # not the editable installation of the checkout
