"""Records made under another condition stand in tables of their own, under the heading of their track."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from records_factory import add_record

from lt_bench.errors import UserError
from lt_bench.leaderboard import compare
from lt_bench.leaderboard.board import render
from lt_bench.leaderboard.frames import frame
from lt_bench.leaderboard.record import load_record, record_folder

DATA = {"name": "tiny-lt", "factor": 500.0, "profile": "exponential", "subset_seed": 0} | {
    "n_max": None,
    "validation_per_class": 0,
}


def noisy(noise: dict[str, Any]) -> dict[str, Any]:
    return {"recipe": {"data": DATA | {"noise": noise}}}


SYMMETRIC = noisy({"name": "symmetric", "rate": 0.4, "seed": 0})


def test_noisy_rows_never_stand_beside_clean_ones(tmp_path: Path) -> None:
    add_record(tmp_path)
    clean = render(tmp_path)
    add_record(tmp_path, recipe_name="mixup", **SYMMETRIC)
    add_record(tmp_path, recipe_name="mixup", **noisy({"name": "symmetric", "rate": 0.2, "seed": 0}))
    both = render(tmp_path)
    assert {name: both[name] for name in clean if name != "README.md"} == {
        name: text for name, text in clean.items() if name != "README.md"
    }
    new = sorted(name for name in both.keys() - clean.keys() if name.endswith(".md"))
    assert new == [f"tables/tiny-lt-if500-symmetric-{rate}-cifar-30ep.md" for rate in (0.2, 0.4)]
    assert "label noise symmetric 0.4" in both[new[1]].decode()


def test_the_index_has_a_heading_for_the_track(tmp_path: Path) -> None:
    add_record(tmp_path)
    before = render(tmp_path)["README.md"].decode()
    add_record(tmp_path, **SYMMETRIC)
    after = render(tmp_path)["README.md"].decode()
    assert after.startswith(before)
    assert after[len(before) :].startswith("\n## Label noise\n\nTrained on labels of which some are wrong")
    assert "\n\n\n" not in after


def test_the_command_of_a_noisy_row_asks_for_its_noise(tmp_path: Path) -> None:
    data = {"name": "digits-lt", "factor": 500.0}
    noise = DATA | data | {"noise": {"name": "symmetric", "rate": 0.4, "seed": 3}}
    add_record(tmp_path, dataset=data, recipe={"data": noise})
    table = render(tmp_path)["tables/digits-lt-if500-symmetric-0.4-seed3-cifar-30ep.md"].decode()
    assert "data.noise.name=symmetric data.noise.rate=0.4 data.noise.seed=3" in table


def test_no_comparison_across_tracks(tmp_path: Path) -> None:
    add_record(tmp_path)
    add_record(tmp_path, recipe_name="mixup", **SYMMETRIC)
    with pytest.raises(UserError, match="no common table"):
        compare(tmp_path, "ce", "mixup")


def test_a_frame_is_of_one_track(tmp_path: Path) -> None:
    add_record(tmp_path)
    path = add_record(tmp_path, recipe_name="mixup", **SYMMETRIC)
    assert list(frame(tmp_path)["method"]) == ["ce"]
    assert frame(tmp_path, track="label-noise").loc[0, ["method", "condition"]].tolist() == [
        "mixup",
        "label noise symmetric 0.4",
    ]
    with pytest.raises(UserError, match="track adversarial"):
        frame(tmp_path, track="adversarial")
    assert "symmetric-0.4" in str(record_folder(load_record(path)))
