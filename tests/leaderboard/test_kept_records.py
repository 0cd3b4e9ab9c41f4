"""Records as they were written once, of each kind that there is: they load for ever, and say what they said."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_bench.leaderboard import load_predictions, load_record
from lt_bench.leaderboard.aggregate import scores

KEPT = Path(__file__).parent / "kept"
DIGITS = "digits-lt-if20/digits-demo"
SAID = [
    # version, top-1, few, ECE
    (f"{DIGITS}/ce/seed0-1a47ca95f32a", 1, 76.833333, 51.25, 5.648712),
    (f"{DIGITS}/pc-softmax/seed0-c4342dc630bc", 1, 85.833333, 75.833333, 13.648055),  # with a first stage
    (f"{DIGITS}/glmc/seed0-92a84afde8c4", 1, 57.0, 50.0, 21.686785),
    (f"{DIGITS}/glmc/seed0-f7cd608b715f", 1, 58.166667, 54.583333, 24.371234),  # one of the two is superseded
    (f"{DIGITS}/external/seed0-ef0d005009f1", 2, 90.833333, 91.666667, None),
    ("cifar100-lt-if100/cifar-30ep/label-smoothing/seed0-91f549f345f0", 2, 35.11, 20.4, 7.598051),  # with an override
    ("imagenet-mini/imagenet-mini-20ep/nexception/seed0-27754f693b4a", 2, 2.92, 0.0, None),  # modified, of sigmoids
]


def test_none_is_left_out() -> None:
    assert sorted(KEPT.rglob("*.json")) == sorted(KEPT / f"{name}.json" for name, *_ in SAID)
    assert [load_record(KEPT / f"{name}.json").superseded is None for name, *_ in SAID].count(False) == 1


@pytest.mark.parametrize(("name", "version", "top1", "few", "ece"), SAID, ids=[name for name, *_ in SAID])
def test_it_says_what_it_said(name: str, version: int, top1: float, few: float, ece: float | None) -> None:
    path = KEPT / f"{name}.json"
    record = load_record(path)
    found = scores(record)
    assert record.schema_version == version
    assert (found["top1"], found["few"]) == (pytest.approx(top1, abs=1e-6), pytest.approx(few, abs=1e-6))
    assert found["ece"] == (None if ece is None else pytest.approx(ece, abs=1e-6))
    assert len(load_predictions(path, record)[0]) == record.test_images
