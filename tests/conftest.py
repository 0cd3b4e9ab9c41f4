"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data sets; a test that uses it carries the mark `data`."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("LT_BENCH_DATA") or beside)
    if not root.is_dir():
        pytest.skip(f"no real data: LT_BENCH_DATA is not set to a folder and {beside} is not there")
    return root


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of decoded data, used by everything in the test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LT_BENCH_CACHE", str(folder))
    return folder
