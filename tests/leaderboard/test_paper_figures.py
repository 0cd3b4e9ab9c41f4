"""Figures for a paper: what they show, and that each is drawn in every form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from records_factory import PER_CLASS, add_record

from lt_bench.errors import UserError
from lt_bench.evaluation.metrics import ece
from lt_bench.leaderboard.comparison import rows_of
from lt_bench.leaderboard.report import Shown, shown
from lt_bench.leaderboard.report_figures import (
    FORMATS,
    classes_figure,
    curve_figure,
    draw_report,
    reliability_figure,
    tail_figure,
)
from lt_bench.leaderboard.sources import shipped_records

LtBench = Callable[..., Any]
LABELS = np.repeat(np.arange(6), PER_CLASS)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    for seed in range(2):
        add_record(tmp_path / "records", recipe_name="ce", seed=seed, correct=(9, 8, 7, 6, 5 - seed, 4))
        add_record(tmp_path / "records", recipe_name="cmo", seed=seed, correct=(9, 8, 7, 6, 9, 8))
    return tmp_path / "records"


def test_what_is_shown_by_hand(records: Path) -> None:
    ce, cmo = shown(records, ["ce", "cmo"])
    assert ce.accuracy.tolist() == [90, 80, 70, 60, 45, 40]
    epochs, values = cmo.curve("test_top1")
    assert (epochs, values.tolist()) == ([30], [[47 / 60], [47 / 60]])
    assert ce.curve("train_loss")[0] == list(range(1, 31))
    assert ce.bins is not None
    assert (ce.bins.count.sum(), ce.bins.correct.sum()) == (120, 39 + 38)
    # Class 4 (19 images) is taken for 5 (1), few; class 5 for 0 (500), many.
    assert ce.destinations(LABELS).tolist() == [42.5, 27.5, 0, 30]  # type: ignore[union-attr]
    assert cmo.destinations(LABELS).tolist() == [85, 5, 0, 10]  # type: ignore[union-attr]


def test_a_class_counts_once_however_many_test_images_it_has() -> None:
    labels = np.repeat([0, 1], [90, 10])
    masks = {"many": np.array([False, False, True]), "medium": np.zeros(3, bool), "few": np.array([True, True, False])}
    assert Shown._shares(np.where(labels, 2, 0), labels, masks) == [pytest.approx(50), 0, 0, pytest.approx(50)]


def test_the_calibration_error_is_that_of_the_tables() -> None:
    (one,) = shown(shipped_records(), ["digits-lt/gcl"])
    (row,) = rows_of(shipped_records(), ["digits-lt/gcl"], None)[2]
    assert one.ece == pytest.approx(row.means["ece"])
    assert one.bins is not None
    assert 100 * ece(one.bins) < one.ece - 3


def test_a_second_stage_follows_its_first() -> None:
    (one,) = shown(shipped_records(), ["mislas"], "cifar100-lt-if100-cifar-200ep")
    assert one.curve("train_loss")[0] == list(range(201, 211))


def test_figures_hold_what_they_are_of(records: Path) -> None:
    found = shown(records, ["ce", "cmo"])
    curve, reliability, tail = curve_figure(found), reliability_figure(found), tail_figure(found, LABELS)
    classes = classes_figure(found)
    assert not any(isinstance(one, str) for one in (curve, reliability, tail))
    heights = sorted(bar.get_height() for bar in classes.axes[0].patches)
    assert heights == [40, 45, 60, 70, 80, 90]
    assert [text.get_text() for text in classes.legends[0].get_texts()] == ["many", "medium", "few", "ce"]
    assert [text.get_text() for text in reliability.legends[0].get_texts()] == ["ce (ECE 10.8)", "cmo (ECE 3.3)"]  # type: ignore[union-attr]
    assert [label.get_text() for label in tail.axes[0].get_yticklabels()] == ["ce", "cmo"]  # type: ignore[union-attr]


def test_pictures_are_as_wide_as_asked(records: Path, tmp_path: Path) -> None:
    written, left_out = draw_report(shown(records, ["ce"]), None, tmp_path / "figures", ["png"], width=2)
    assert [path.name for path in written] == ["curve.png", "classes.png", "reliability.png"]
    assert left_out == ["tail: no test labels"]
    assert {Image.open(path).width for path in written} == {600}


def test_too_many_methods_are_refused(records: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="8 methods, and at most 7 can be told apart"):
        draw_report(shown(records, ["ce"]) * 8, None, tmp_path)


def test_the_command(lt_bench: LtBench) -> None:
    done = lt_bench("report", "digits-lt/ce", "digits-lt/mislas", "--records", shipped_records(), "--out", "figures")
    assert done.code == 0, done.err
    names = [f"figures/{name}.{suffix}" for name in ("curve", "classes", "reliability", "tail") for suffix in FORMATS]
    assert done.out.splitlines() == names
    assert Path("figures/curve.pdf").read_bytes().startswith(b"%PDF")
    assert "<svg" in Path("figures/tail.svg").read_text()[:1000]
    for words, said in (
        (("digits-lt/ce", "--format", "pdf,gif"), "--format 'gif' is not a known format"),
        (("nonsense",), "'nonsense' is not a known method"),
        (("digits-lt/ce", "absent.json"), "not both"),
        (("absent.json",), "absent.json: not a readable record"),
    ):
        refused = lt_bench("report", *words, "--records", shipped_records(), "--out", "refused")
        assert (refused.code, said in refused.err) == (2, True), refused
    assert not Path("refused").exists()


def test_a_run_is_named_by_its_folder(lt_bench: LtBench) -> None:
    record = add_record(Path("results/records"), overrides=("a.very.long.setting=with-a-value",))
    folder = Path("runs/tiny-lt/cifar-30ep/ce") / record.stem
    folder.mkdir(parents=True)
    done = lt_bench("report", folder, "--format", "png")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 4
    assert done.out.splitlines()[-1].startswith("left out, tail: no test labels ('tiny-lt' is not a known data set")
    refused = lt_bench("report", folder, "--records", "absent")
    assert (refused.code, "there is no record of this run in absent" in refused.err) == (2, True)
