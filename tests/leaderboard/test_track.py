"""Records made under another condition stand in tables of their own, under the heading of their track."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records_factory import add_record, make_record, noisy

from lt_bench.errors import UserError
from lt_bench.evaluation.label_noise import auc, highest, histograms, parts
from lt_bench.leaderboard import compare
from lt_bench.leaderboard.aggregate import scores
from lt_bench.leaderboard.belief import believe
from lt_bench.leaderboard.board import render
from lt_bench.leaderboard.frames import frame
from lt_bench.leaderboard.record import load_record, record_folder
from lt_bench.leaderboard.track import condition


def test_noisy_rows_never_stand_beside_clean_ones(tmp_path: Path) -> None:
    add_record(tmp_path)
    clean = render(tmp_path)
    add_record(tmp_path, recipe_name="mixup", **noisy())
    add_record(tmp_path, recipe_name="mixup", **noisy({"name": "symmetric", "rate": 0.2, "seed": 0}))
    both = render(tmp_path)
    tables = {name: text for name, text in clean.items() if name.startswith("tables/")}
    assert {name: both[name] for name in tables} == tables
    new = sorted(name for name in both.keys() - clean.keys() if name.endswith(".md"))
    assert new == [f"tables/tiny-lt-if500-symmetric-{rate}-cifar-30ep.md" for rate in (0.2, 0.4)]
    assert "label noise symmetric 0.4" in both[new[1]].decode()


def test_the_index_has_a_heading_for_the_track(tmp_path: Path) -> None:
    add_record(tmp_path)
    before = render(tmp_path)["README.md"].decode()
    add_record(tmp_path, **noisy())
    after = render(tmp_path)["README.md"].decode()
    assert after.startswith(before)
    assert after[len(before) :].startswith("\n## Label noise\n\nTrained on labels of which some are wrong")
    assert "\n\n\n" not in after


def test_the_command_of_a_noisy_row_asks_for_its_noise() -> None:
    asked = condition(make_record(**noisy({"name": "symmetric", "rate": 0.4, "seed": 3})))
    assert asked.overrides == ("data.noise.name=symmetric", "data.noise.rate=0.4", "data.noise.seed=3")
    assert (asked.title, asked.slug) == ("label noise symmetric 0.4, seed 3", "symmetric-0.4-seed3")
    human = condition(make_record(**noisy({"name": "cifar10n", "labels": "worst"})))
    assert human.overrides == ("data.noise.name=cifar10n", "data.noise.labels=worst")


def test_no_comparison_across_tracks(tmp_path: Path) -> None:
    add_record(tmp_path)
    add_record(tmp_path, recipe_name="mixup", **noisy())
    with pytest.raises(UserError, match="no common table"):
        compare(tmp_path, "ce", "mixup")


def test_a_frame_is_of_one_track(tmp_path: Path) -> None:
    add_record(tmp_path)
    path = add_record(tmp_path, recipe_name="mixup", **noisy())
    assert list(frame(tmp_path)["method"]) == ["ce"]
    assert frame(tmp_path, track="label-noise").loc[0, ["method", "condition"]].tolist() == [
        "mixup",
        "label noise symmetric 0.4",
    ]
    with pytest.raises(UserError, match="track adversarial"):
        frame(tmp_path, track="adversarial")
    assert "symmetric-0.4" in str(record_folder(load_record(path)))


# --- what a record says of wrong labels ---------------------------------------------------------------


def test_scores_by_hand() -> None:
    found = scores(make_record(best=(10, 9, 8, 7, 6, 5), **noisy()))
    assert found["gap"] == pytest.approx(10.0)
    assert found["memorised"] == pytest.approx(100 * 16 / 67)
    assert found["memorised_tail"] == pytest.approx(100 * 2 / 4)  # the last two of six classes
    assert found["loss_auc"] == pytest.approx(80)
    assert found["loss_auc_few"] is None
    assert found["loss_precision"] == pytest.approx(100 * 47 / 67)
    assert found["loss_recall_many"] == pytest.approx(100 * 35 / 50)
    assert found["loss_right_lost"] == pytest.approx(100 * 20 / (741 - 67))
    assert found["loss_right_lost_medium"] == pytest.approx(100 * 5 / (120 - 13))
    assert found["own_recall"] is None


def test_the_optimism_gap_leads_a_noisy_table(tmp_path: Path) -> None:
    add_record(tmp_path, best=(10, 9, 8, 7, 6, 5), **noisy())
    page = render(tmp_path)["tables/tiny-lt-if500-symmetric-0.4-cifar-30ep.md"].decode()
    heads = next(line for line in page.splitlines() if line.startswith("| Rank"))
    assert heads.startswith("| Rank | Method | n | Top-1 ↑ | Best on test − last | Many")
    assert "Memorised ↓ | Memorised, tail ↓ | AUC by loss ↑" in heads
    assert "Own" not in heads  # no method of the table chooses
    assert "Memorised: share of the wrong labels" in page


def test_a_clean_table_has_no_column_of_noise(tmp_path: Path) -> None:
    add_record(tmp_path)
    text = "".join(content.decode() for content in render(tmp_path).values())
    assert "emorised" not in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"memorised": (10, 3, 0, 1, 1, 9)}, "label_noise.memorised"),
        ({"by_loss": {"flagged": (30, 20, 10, 5, 1, 9), "hits": (0,) * 6, "auc": {}}}, "by_loss.flagged"),
        ({"losses": {"all": {"right": (600, 74), "wrong": (8, 60)}}}, "label_noise.losses"),
        ({"losses": {}}, "label_noise.losses"),
        ({"by_method": {"flagged": (30,) + (0,) * 5, "hits": (21,) + (0,) * 5, "auc": {}}}, "by_method.hits"),
    ],
)
def test_counts_that_cannot_be_are_not_believed(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        believe(make_record(**noisy(**changes)))


def test_noise_stands_in_recipe_and_record_alike() -> None:
    believe(make_record(**noisy()))
    with pytest.raises(ValueError, match="label_noise: a record has it where"):
        believe(make_record(**(noisy() | {"label_noise": None})))
    with pytest.raises(ValueError, match=r"dataset\.noise: a record has it where"):
        believe(make_record(**{key: value for key, value in noisy().items() if key != "recipe"}))


def test_an_auc_by_hand() -> None:
    wrong = np.array([False, False, True, True])
    assert auc(np.array([1.0, 2.0, 2.0, 3.0]), wrong) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert auc(np.array([1.0, 1.0, 1.0, 1.0]), wrong) == 0.5
    assert auc(np.array([1.0]), np.array([True])) is None


def test_the_tail_is_the_third_with_the_fewest_images() -> None:
    found = parts([500, 50, 5, 100, 2, 10, 9])
    assert {name: np.flatnonzero(classes).tolist() for name, classes in found.items()} == {
        "all": [0, 1, 2, 3, 4, 5, 6],
        "many": [0],
        "medium": [1, 3],
        "few": [2, 4, 5, 6],
        "head": [0, 3],
        "tail": [2, 4],
    }
    assert parts([3, 1])["tail"].tolist() == [False, True]


def test_classes_of_one_size_have_no_tail() -> None:
    found = parts([500] * 6)
    assert found["all"].all()
    assert not found["head"].any()
    assert not found["tail"].any()


def test_histograms_of_losses() -> None:
    losses = np.array([0.0, 0.24, 0.25, 9.9, 1e9], np.float32)
    given, right = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    of_right, of_wrong = histograms(losses, given, right, [200, 5])["all"]
    assert np.flatnonzero(of_right).tolist() == [0, 1, 39]
    assert (of_wrong[0], of_wrong[39], len(of_wrong)) == (1, 1, 40)
    few = histograms(losses, given, right, [200, 5])["few"]
    assert [int(counts.sum()) for counts in few] == [2, 1]


def test_as_many_as_are_asked_for_have_the_highest_scores() -> None:
    assert highest(np.array([1.0, 3.0, 3.0, 2.0]), 1).tolist() == [False, True, False, False]
    assert not highest(np.array([1.0, 3.0]), 0).any()
