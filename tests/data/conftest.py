"""Fixtures shared by the tests of data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_data import SIZES, picture


@pytest.fixture
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_bench.data.cards._named", {})


@pytest.fixture
def photos(working_folder: Path) -> Path:
    """62 images of 48x40 pixels in six class folders."""
    root, rng = working_folder / "photos", np.random.default_rng(0)
    for name, size in SIZES.items():
        for k in range(size):
            picture(root / name / f"{k:02}.jpg", rng.integers(0, 256, (40, 48, 3), dtype=np.uint8))
    return root
