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
    web = ROOT / "lt_bench" / "leaderboard" / "page" / "web"
    assert {str(path.relative_to(ROOT)) for path in web.iterdir()} <= inside


def test_wheel_ships_the_board(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    records = [path for path in (ROOT / "leaderboard").rglob("seed*") if path.suffix in (".json", ".npz")]
    assert len(records) > 700
    assert {f"lt_bench/_resources/{path.relative_to(ROOT)}" for path in records} <= inside
    runs = [path for path in records if path.suffix == ".json"]
    assert wheel.stat().st_size < 30_000 * len(runs)  # a board grows by its runs, and by nothing else


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return folder


def test_installed_wheel_runs_from_any_folder(site: Path, tmp_path: Path) -> None:
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


def test_installed_board_is_found_in_any_folder_and_only_read(site: Path, tmp_path: Path) -> None:
    board = site / "lt_bench" / "_resources" / "leaderboard" / "v1"

    def lt_bench(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lt_bench", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(site)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    shown = lt_bench("leaderboard", "show")
    assert shown.returncode == 0, shown.stderr
    assert "digits-lt, factor 20: digits-demo" in shown.stdout
    built = lt_bench("leaderboard", "build", "--records", board / "records", "--out", board)
    assert (built.returncode, built.stdout) == (2, "")
    assert built.stderr.startswith(f"lt-bench: --out {board}: part of the installed package, which is only read")
    assert not list(tmp_path.iterdir())
