"""The board's tables: what a row says, who is ranked above whom, and what never shares a table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from board_cases import A, B, C, cells, page, reported, rows, tables
from records_factory import TIMING, add_record, digest
from rich.console import Console

from lt_bench.evaluation.significance import mean_interval
from lt_bench.leaderboard import load_record, print_tables
from lt_bench.leaderboard.board import render


def test_a_row_by_hand(tmp_path: Path) -> None:
    for seed, correct in enumerate([(9, 8, 7, 6, 5, 4), (9, 8, 7, 6, 5, 7)]):
        add_record(tmp_path, seed=seed, correct=correct, best=(9, 9, 7, 6, 5, 7))
    (row,) = rows(tmp_path)
    top1 = [100 * 39 / 60, 100 * 42 / 60]
    expected = {
        "n": 2,
        "top1": sum(top1) / 2,
        "top1_interval": mean_interval(top1)[1],
        "many": 85.0,
        "medium": 65.0,
        "few": (45.0 + 60.0) / 2,
        "worst_class": (40.0 + 50.0) / 2,
        "ece": (75 - top1[0] + 75 - top1[1]) / 2,
        "best_on_test": 100 * 43 / 60,
        "gap": 100 * (4 + 1) / 60 / 2,
    }
    assert {name: float(row[name]) for name in expected} == pytest.approx(expected)
    assert row["best_on_val"] == row["paper_top1"] == row["verified"] == ""
    assert cells(tmp_path, "ce")["Top-1"] == f"67.50 ± {mean_interval(top1)[1]:.2f}"
    assert cells(tmp_path, "ce")["Best on test − last"] == "4.17"


def test_heading_says_what_the_numbers_are_of(tmp_path: Path) -> None:
    add_record(tmp_path, dataset={"name": "cifar10-lt", "factor": 100.0})
    lines = page(tmp_path, "cifar10-lt-if100-cifar-30ep").splitlines()
    assert lines[2] == "# cifar10-lt, factor 100: cifar-30ep"
    for part in (
        "factor 100",
        "exponential",
        digest("index")[:12],
        "cifar-30ep version 9",
        "60 test images",
        "last epoch",
    ):
        assert part in lines[4]


def test_a_balanced_set_has_a_table_of_its_own_without_groups(tmp_path: Path) -> None:
    balanced = {"name": "cifar10", "factor": 1.0, "train_counts": [500] * 6, "index_sha256": digest("balanced")}
    add_record(tmp_path, dataset={"name": "cifar10-lt", "factor": 100.0})
    add_record(tmp_path, dataset=balanced)
    lines = page(tmp_path, "cifar10-if1-cifar-30ep").splitlines()
    assert lines[2] == "# cifar10, balanced: cifar-30ep"
    assert "balanced, 500 to 500 training images a class" in lines[4]
    assert not any(group in "\n".join(lines[:8]) for group in ("Many", "Medium", "Few"))
    assert "Many" in page(tmp_path, "cifar10-lt-if100-cifar-30ep")


def test_ranking_ignores_the_best_epoch_on_test(tmp_path: Path) -> None:
    add_record(tmp_path, recipe_name="steady", correct=B)
    add_record(tmp_path, recipe_name="lucky", correct=C, best=(10,) * 6)
    assert [row["method"] for row in rows(tmp_path)] == ["steady", "lucky"]


def test_one_seed_ranks_nothing(tmp_path: Path) -> None:
    add_record(tmp_path, recipe_name="single", correct=A)
    for seed in range(3):
        add_record(tmp_path, recipe_name="triple", seed=seed, correct=(9, 8, 7, 6, 5, 4 + seed))
    assert cells(tmp_path, "single")["Rank"] == "–"
    assert cells(tmp_path, "single")["Top-1"] == "75.00"
    assert cells(tmp_path, "triple")["Rank"] == "1"
    assert [row["rank_best"] for row in rows(tmp_path)] == ["", "1"]


def test_methods_that_cannot_be_told_apart_share_their_ranks(tmp_path: Path) -> None:
    for seed in range(3):
        add_record(tmp_path, recipe_name="first", seed=seed, correct=(9, 8, 7, 6, 5, 5 + seed))
        add_record(tmp_path, recipe_name="second", seed=seed, correct=(9, 8, 7, 6, 5, 6 - seed))
        add_record(tmp_path, recipe_name="third", seed=seed, correct=(2, 2, 2, 2, 2, 2 + seed))
    assert [cells(tmp_path, name)["Rank"] for name in ("first", "second", "third")] == ["1–2", "1–2", "3"]


def test_luck_of_a_seed_that_all_methods_share_does_not_blur_their_ranks(tmp_path: Path) -> None:
    for seed, luck in enumerate((0, 9, 3)):
        add_record(tmp_path, recipe_name="better", seed=seed, correct=(luck, 8, 7, 6, 5, 6 + seed % 2))
        add_record(tmp_path, recipe_name="worse", seed=seed, correct=(luck, 8, 7, 6, 5, 4))
    better, worse = rows(tmp_path)
    assert float(better["top1"]) - float(worse["top1"]) < float(worse["top1_interval"])  # the intervals overlap
    assert [row["rank_best"] + row["rank_worst"] for row in (better, worse)] == ["11", "22"]


def test_methods_without_common_seeds_are_not_told_apart(tmp_path: Path) -> None:
    for seed in range(2):
        add_record(tmp_path, recipe_name="high", seed=seed, correct=(9, 9, 9, 9, 9, 9 + seed))
        add_record(tmp_path, recipe_name="low", seed=seed + 1, correct=(1, 1, 1, 1, 1, 1 + seed))
    assert [cells(tmp_path, name)["Rank"] for name in ("high", "low")] == ["1–2", "1–2"]


def test_latest_revision_counts_and_a_seed_counts_once(tmp_path: Path) -> None:
    add_record(tmp_path, correct=C)
    add_record(tmp_path, correct=A, created="2026-06-01T00:00:00Z")
    add_record(tmp_path, correct=B, created="2026-04-01T00:00:00Z", dataset={"split_sha256": digest("another flip")})
    (row,) = rows(tmp_path)
    assert (row["n"], float(row["top1"])) == ("1", 75.0)


def test_a_run_by_a_faulty_revision_is_shown_but_not_ranked(tmp_path: Path) -> None:
    figure = {"paper": "A paper", "protocol": "cifar-30ep", "top1": 70.0}
    for seed in range(2):
        for method, correct in ({"name": "glmc"}, A), ({"name": "glmc", "revision": 2}, B):
            add_record(
                tmp_path,
                recipe_name="glmc",
                seed=seed,
                correct=(*correct[:5], seed),
                recipe={"method": method, "reported": [figure]},
            )
        add_record(tmp_path, recipe_name="ce", seed=seed, correct=C)
    assert [row["method"] for row in rows(tmp_path)] == ["glmc (superseded)", "glmc", "ce"]
    assert [row["rank_best"] + row["rank_worst"] for row in rows(tmp_path)] == ["", "11", "22"]
    assert [row["paper_top1"] for row in rows(tmp_path)] == ["", "70.0", ""]
    assert "| – | [glmc (superseded)](https://arxiv.org/abs/2305.08661) |" in page(tmp_path)
    reason = "the CutMix box was one pixel too large where its side is an odd number of pixels"
    line = f"glmc (superseded): not ranked. glmc: {reason} (corrected on 2026-11-28)."
    assert f"- {line}\n" in page(tmp_path)
    console = Console(width=200, record=True)
    print_tables(tmp_path, console)
    assert line in " ".join(console.export_text().split())


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": {"factor": 10.0}},
        {"dataset": {"profile": "step"}},
        {"dataset": {"subset_seed": 1}},
        {"dataset": {"version": 2}},
        {"dataset": {"index_sha256": digest("another split")}},
        {"dataset": {"content_sha256": digest("another order of the archive")}},
        {"dataset": {"test_sha256": digest("another test set")}},
        {"protocol": {"name": "cifar-200ep"}},
        {"protocol": {"version": 2}},
        {"protocol": {"modified": True}},
        {"protocol": {"batch_size": 64}},  # settings changed under one version
    ],
    ids=str,
)
def test_what_cannot_be_compared_never_shares_a_table(change: dict[str, Any], tmp_path: Path) -> None:
    add_record(tmp_path, seed=0)
    add_record(tmp_path, seed=1, **change)
    found = tables(tmp_path)
    assert len(found) == len(set(found)) == 2
    for name in found:
        assert len(rows(tmp_path, Path(name).stem)) == 1
        assert name in render(tmp_path)["README.md"].decode()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dataset": {"content_sha256": digest("other images")}}, f"contents {digest('other images')[:8]}"),
        ({"dataset": {"test_sha256": digest("another")}}, f"test part {digest('another')[:8]}"),
        ({"dataset": {"version": 2}}, "version 2"),
        ({"protocol": {"version": 10, "batch_size": 64}}, "protocol version 10, protocol "),
    ],
    ids=str,
)
def test_tables_of_one_title_say_in_what_they_differ(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    add_record(tmp_path)
    assert "[tiny-lt, factor 500: cifar-30ep](" in render(tmp_path)["README.md"].decode()
    add_record(tmp_path, **change)
    assert rf"[tiny-lt, factor 500: cifar-30ep \[{told}" in render(tmp_path)["README.md"].decode()
    console = Console(width=200, record=True)
    print_tables(tmp_path, console)
    assert f"tiny-lt, factor 500: cifar-30ep [{told}" in console.export_text()


def test_a_modified_protocol_says_so(tmp_path: Path) -> None:
    add_record(tmp_path, protocol={"modified": True}, overrides=("protocol.epochs=5",))
    (name,) = tables(tmp_path)
    assert "-modified-" in name
    assert "# tiny-lt, factor 500: cifar-30ep (modified)" in page(tmp_path, Path(name).stem)


def test_overrides_make_another_method(tmp_path: Path) -> None:
    add_record(tmp_path, recipe_name="cmo", overrides=("mix.probability=0.25", "loss=ldam"), correct=A)
    add_record(tmp_path, recipe_name="cmo", correct=B)
    assert [row["method"] for row in rows(tmp_path)] == ["cmo (mix.probability=0.25, loss=ldam)", "cmo"]


def test_two_recipes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    add_record(tmp_path, correct=A)
    edited = load_record(add_record(tmp_path, correct=B, recipe={"mix": {"name": "edited"}}))
    assert rows(tmp_path)[1]["method"] == f"ce [{edited.recipe_sha256[:8]}]"


def test_paper_figure_of_the_same_protocol_is_compared(tmp_path: Path) -> None:
    figures = [{"paper": "elsewhere", "top1": 99.0, "protocol": "cifar-200ep"}, *reported(factor=500.0)]
    add_record(tmp_path, reported=figures)
    (row,) = rows(tmp_path)
    assert (row["paper"], float(row["paper_top1"]), float(row["difference"])) == ("Someone | 2020", 60, 5.0)
    found = cells(tmp_path, "ce")
    assert (found["Paper"], found["Difference"], found["Figure seen"]) == ("60.00", "+5.00", "yes")
    assert "- ce: Someone \\| 2020" in page(tmp_path)


def test_a_network_that_is_not_that_of_most_rows_is_named(tmp_path: Path) -> None:
    for name in ("ce", "mixup"):
        add_record(tmp_path, recipe_name=name, recipe={"model": {"backbone": "resnet32", "head": {"name": "linear"}}})
    assert "Network" not in cells(tmp_path, "ce")
    wide = {"backbone": {"name": "vit-tiny", "patch_size": 8}, "head": {"name": "experts", "num_experts": 3}}
    add_record(tmp_path, recipe_name="sade", recipe={"model": wide})
    found = {name: cells(tmp_path, name)["Network"] for name in ("ce", "mixup", "sade")}
    assert found == {"ce": "", "mixup": "", "sade": "vit-tiny + experts"}
    assert [row["network"] for row in rows(tmp_path)].count("resnet32") == 2


def test_a_row_says_what_it_cost_on_what_and_of_which_images(tmp_path: Path) -> None:
    records = [
        load_record(add_record(tmp_path, seed=seed, timing=TIMING | {"wall_s": wall_s}))
        for seed, wall_s in enumerate((3.0, 5.0))
    ]
    (row,) = rows(tmp_path)
    (first, timing, made) = (records[0], records[0].timing, records[0].environment)
    assert timing is not None
    assert made is not None
    assert float(row["seconds"]) == 4
    assert (row["devices"], row["precision"]) == (made.cpu if made.device == "cpu" else made.device, made.precision)
    assert (row["index_sha256"], row["content_sha256"]) == (first.dataset.index_sha256, first.dataset.content_sha256)
    assert row["protocol_sha256"] == first.protocol.sha256


@pytest.mark.parametrize(
    "change",
    [
        {"reported": reported(protocol="cifar-200ep")},
        {"reported": [{"paper": "no protocol named", "top1": 60}]},
        {"reported": reported(top1=None)},
        {"reported": reported(top1="60")},
        {"reported": reported(top1=float("nan"))},
        {"reported": "60.0"},
        {"reported": [60.0]},
        {"reported": reported(), "overrides": ("mix.probability=0.25",)},
        {"reported": reported(factor=100.0)},
        {"reported": reported(), "protocol": {"modified": True}},
    ],
    ids=str,
)
def test_any_other_figure_is_not_compared(change: dict[str, Any], tmp_path: Path) -> None:
    add_record(tmp_path, **change)
    (name,) = tables(tmp_path)
    (row,) = rows(tmp_path, Path(name).stem)
    assert row["paper"] == row["paper_top1"] == row["difference"] == row["verified"] == ""


def test_an_empty_group_has_no_column_and_no_value(tmp_path: Path) -> None:
    add_record(tmp_path, dataset={"train_counts": [500, 400, 300, 200, 150, 101]})
    assert rows(tmp_path)[0]["few"] == ""
    assert "Few" not in cells(tmp_path, "ce")


def test_balanced_accuracy_is_shown_where_it_differs(tmp_path: Path) -> None:
    add_record(tmp_path)
    assert "Balanced" not in cells(tmp_path, "ce")
    shutil.rmtree(tmp_path)
    add_record(tmp_path, correct=(30, 0), total=(30, 10))
    assert (cells(tmp_path, "ce")["Top-1"], cells(tmp_path, "ce")["Balanced"]) == ("75.00", "50.00")
