"""Runs on copies of one data set whose test images stand in different orders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records_factory import add_record, digest, make_data, make_record

from lt_bench.data import DataSpec, open_split
from lt_bench.data.cards import load_card
from lt_bench.leaderboard import compare, load_records, report
from lt_bench.leaderboard.agreement import NOTHING, squares
from lt_bench.leaderboard.belief import believe
from lt_bench.leaderboard.comparison import DIFFERENT_ORDERS
from lt_bench.leaderboard.sources import read_board
from lt_bench.leaderboard.test_parts import FIRST_RECORDED
from lt_bench.robustness.board import Key
from lt_bench.robustness.record import RobustRecord

SHIPPED = Path(__file__).parents[2] / "leaderboard" / "v1" / "records"
FINGERPRINT = digest("test images in any order")


def archive() -> dict[str, Any]:
    """The digits with their test part in another order, as an archive may have it."""
    return open_split(DataSpec(name="digits-lt")).facts() | {"test_sha256": digest("archive"), "split_sha256": None}


def of_digits(folder: Path, name: str, dataset: dict[str, Any]) -> None:
    facts = {key: value for key, value in dataset.items() if key != "split_sha256"}
    add_record(folder, recipe_name=name, correct=(20,) * 10, total=(60,) * 10, dataset=facts)


def test_they_share_a_table(tmp_path: Path) -> None:
    for name in ("copy", "archive"):
        add_record(tmp_path, recipe_name=name, dataset={"test_sha256": digest(name), "test_fingerprint": FINGERPRINT})
    (table,) = read_board(tmp_path).tables
    assert {row.method for row in table.rows} == {"copy", "archive"}
    assert squares(table.rows) == [NOTHING]


def test_they_share_it_with_records_from_before_there_were_fingerprints(tmp_path: Path) -> None:
    facts = open_split(DataSpec(name="digits-lt")).facts()
    of_digits(tmp_path, "recorded", {key: value for key, value in facts.items() if key != "test_fingerprint"})
    of_digits(tmp_path, "now", facts)
    of_digits(tmp_path, "archive", archive())
    (table,) = read_board(tmp_path).tables
    assert {row.method for row in table.rows} == {"recorded", "now", "archive"}


def test_they_are_not_compared_image_by_image(tmp_path: Path) -> None:
    of_digits(tmp_path, "copy", open_split(DataSpec(name="digits-lt")).facts())
    of_digits(tmp_path, "archive", archive())
    found = compare(tmp_path, "copy", "archive")
    assert (found.top1.over_images, found.without_images) == (None, DIFFERENT_ORDERS)
    assert "stand in another order than those" in compare(tmp_path, "archive", "copy").without_images
    assert report.test_labels(report.shown(tmp_path, ["copy", "archive"]), None) == (None, DIFFERENT_ORDERS)
    labels, why = report.test_labels(report.shown(tmp_path, ["copy"]), None)
    assert (np.bincount(labels).tolist() if labels is not None else why) == [60] * 10


def test_a_fingerprint_that_is_not_the_cards_is_not_believed() -> None:
    facts = {key: value for key, value in archive().items() if key != "split_sha256"}
    believe(make_record(correct=(20,) * 10, total=(60,) * 10, dataset=facts))
    with pytest.raises(ValueError, match=r"^dataset\.test_fingerprint: "):
        wrong = facts | {"test_fingerprint": FINGERPRINT}
        believe(make_record(correct=(20,) * 10, total=(60,) * 10, dataset=wrong))


@pytest.mark.parametrize("name", ["digits-lt", "cifar10-lt", "cifar100-lt", "cifar10", "cifar100"])
def test_the_fingerprints_of_what_was_first_recorded(name: str, data_root: Path) -> None:
    split = open_split(DataSpec(name=name), data_root)
    assert FIRST_RECORDED[split.test_sha256] == split.test.fingerprint() == load_card(name).test_fingerprint


def test_every_shipped_record_of_a_card_with_a_fingerprint_has_one() -> None:
    found = {record.dataset.name: record.dataset.test_part for _, record in load_records(SHIPPED)}
    fingerprints = {name: load_card(name).test_fingerprint for name in found}
    assert {name: found[name] for name, known in fingerprints.items() if known} == {
        name: known for name, known in fingerprints.items() if known
    }


def attacked(order: str, sample: int | None) -> RobustRecord:
    counts = {"total": (10,) * 6, "clean": (9,) * 6, "worst": (9,) * 6, "sample": sample}
    weights = {"weights_sha256": digest("weights"), "wall_s": 1.0, "norm": "linf", "radius": 8.0, "results": ()}
    data = make_data(dataset={"name": "digits-lt", "test_sha256": digest(order), "test_fingerprint": FINGERPRINT})
    known = {key: value for key, value in data.items() if key in RobustRecord.model_fields}
    return RobustRecord.read(known | counts | weights | {"schema_version": 1})


def test_under_attack_the_first_images_of_each_class_are_others_in_another_order() -> None:
    assert Key.of(attacked("copy", None)) == Key.of(attacked("archive", None))
    assert Key.of(attacked("copy", 10)) != Key.of(attacked("archive", 10))
