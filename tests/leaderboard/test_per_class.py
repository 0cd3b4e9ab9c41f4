from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records_factory import add_record, digest
from run_cases import refused

from lt_bench.data.groups import group_masks
from lt_bench.leaderboard.difference_figure import differences
from lt_bench.leaderboard.per_class import ClassAccuracies, per_class
from lt_bench.leaderboard.record import load_record
from lt_bench.leaderboard.report import shown

LtBench = Callable[..., Any]
LUCK = (0, 9, 3)


def add_two(folder: Path) -> list[Path]:
    paths = [
        add_record(folder, recipe_name="low", seed=seed, correct=(luck, 8, 7, 6, 5, 4))
        for seed, luck in enumerate(LUCK)
    ]
    add_record(folder, recipe_name="high", correct=(9, 9, 9, 9, 9, 9))
    return paths


def test_by_hand(tmp_path: Path) -> None:
    add_two(tmp_path)
    low, high = per_class(tmp_path, ["low", "high"])
    assert (low.method, low.seeds, high.seeds) == ("low", (0, 1, 2), (0,))
    # s = 10 sqrt(21), t(0.975, 2) = 4.302653
    assert low.means()[0] == (pytest.approx(40), pytest.approx(4.302653 * 10 * 21**0.5 / 3**0.5, rel=1e-6))
    assert low.means()[5] == (pytest.approx(40), pytest.approx(0))
    assert high.means() == [(pytest.approx(90), None)] * 6
    assert [row["group"] for row in low.classes] == ["many", "many", "medium", "medium", "few", "few"]


def test_a_class_without_test_images_has_no_accuracy(tmp_path: Path) -> None:
    add_record(tmp_path, correct=(9, 8, 7, 6, 5, 0), total=(10, 10, 10, 10, 10, 0))
    (found,) = per_class(tmp_path, ["ce"])
    assert found.means()[4:] == [(50.0, None), (None, None)]


def test_files_of_records_are_the_same_as_their_method(tmp_path: Path) -> None:
    paths = add_two(tmp_path)
    (named,), (read,) = per_class(tmp_path, ["low"]), per_class(None, [str(path) for path in reversed(paths)])
    assert (read.method, read.seeds, read.classes, read.means()) == ("low", named.seeds, named.classes, named.means())


def test_the_command(lt_bench: LtBench, working_folder: Path) -> None:
    path, *_ = add_two(working_folder / "records")
    told = lt_bench("per-class", "low", "high", "--records", "records")
    assert told.out.startswith("low: seeds 0, 1, 2\nhigh: seed 0\n")
    assert told.out.splitlines()[-1].split()[-7:] == ["few", "1", "10", "40.00", "±", "0.00", "90.00"]
    found = json.loads(lt_bench("per-class", "low", "high", "--records", "records", "--json").out)
    assert (found["unit"], found["seeds"]) == ("percent", {"low": [0, 1, 2], "high": [0]})
    assert found["classes"][5]["accuracy"] == {"low": pytest.approx(40), "high": pytest.approx(90)}
    assert found["classes"][5]["interval"] == {"low": pytest.approx(0), "high": None}
    rows = list(csv.DictReader(lt_bench("per-class", "low", "--records", "records", "--csv").out.splitlines()))
    assert [(row["method"], row["class_index"], row["accuracy"]) for row in rows][1] == ("low", "1", "80.0")
    refused(lt_bench("per-class", "lows", "--records", "records"), "did you mean low?")
    refused(lt_bench("per-class", "low", path), "names of methods or files of records, not both")
    refused(lt_bench("per-class", "absent.json"), "absent.json")


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    long = {"name": "cifar-200ep", "epochs": 30}
    other = {"plugins": {"loss/mine": digest("a file")}}
    paths = [add_record(tmp_path), add_record(tmp_path, protocol=long), add_record(tmp_path, recipe=other)]
    first, second, third = per_class(None, list(map(str, paths)))
    assert second.method == "ce, cifar-200ep"
    digests = [load_record(path).recipe_sha256[:8] for path in paths]
    assert (first.method, third.method) == tuple(f"ce, cifar-30ep [{digests[k]}]" for k in (0, 2))
    assert [one.seeds for one in (first, second, third)] == [(0,)] * 3


def test_a_method_on_other_images_is_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one recipe, split by the same positions of other images."""
    paths = [add_record(tmp_path), add_record(tmp_path, seed=1, dataset={"content_sha256": digest("others")})]
    for read in (per_class(None, list(map(str, paths))), shown(None, list(map(str, paths)))):
        names = [one.method if isinstance(one, ClassAccuracies) else one.title for one in read]
        assert names == [f"ce [contents {digest(of)[:8]}]" for of in ("content", "others")]
    assert capsys.readouterr().err == ""


def test_a_method_from_other_weights_is_another(tmp_path: Path) -> None:
    weights = {"network": "vit", "source": "a hub", "data": "images", "parameters": 2, "learned": 1}
    paths = [
        add_record(tmp_path, seed=seed, pretrained=weights | {"sha256": digest(f"weights {seed}")}) for seed in (0, 1)
    ]
    first, second = (one.method for one in per_class(None, list(map(str, paths))))
    assert first.startswith("ce [condition ")
    assert second.startswith("ce [condition ")
    assert first != second


def test_of_one_seed_the_newest_counts_and_the_other_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, old = (
        str(add_record(tmp_path, created=f"2026-0{month}-01T00:00:00Z", correct=(month,) * 6)) for month in (5, 4)
    )
    (found,) = per_class(None, [new, old])
    assert (found.seeds, found.means()[0]) == ((0,), (50.0, None))
    assert capsys.readouterr().err == f"{old}: left out: {new} is newer, of the same recipe and seed\n"


def test_other_classes_do_not_compare(tmp_path: Path) -> None:
    one = add_record(tmp_path, recipe_name="one")
    other = add_record(tmp_path, recipe_name="other", dataset={"train_counts": (500, 101, 100, 20, 19, 2)})
    with pytest.raises(Exception, match="one and other are of different classes"):
        per_class(None, [str(one), str(other)])


def test_the_picture_of_a_comparison(lt_bench: LtBench, working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    add_two(working_folder / "records")
    low, high = per_class(working_folder / "records", ["low", "high"])
    # Of the seed that both have, 0: low is right 0 times in the first class.
    assert differences(low, high).tolist() == pytest.approx([90, 10, 20, 30, 40, 50])
    command = ("compare", "low", "high", "--records", "records", "--plot")
    assert (lt_bench(*command, "a.svg").code, Path("a.svg").read_bytes()[:5]) == (0, b"<?xml")
    assert (lt_bench(*command, "made/a.png").code, Path("made/a.png").is_file()) == (0, True)
    refused(lt_bench(*command, "a.svg/a.png"), "a.svg/a.png: the figure cannot be written")
    drawn: list[Any] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    lt_bench(*command, "b.png")
    (axes,) = drawn[0].axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([90, 10, 20, 30, 40, 50])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["many: +50.00", "medium: +25.00", "few: +45.00"]


# --- groups ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "rule", "sizes"),
    [
        *((10, rule, sizes) for rule, sizes in {"oltr": (69, 31, 0), "inclusive": (70, 30, 0)}.items()),
        *((50, rule, sizes) for rule, sizes in {"oltr": (41, 41, 18), "inclusive": (41, 40, 19)}.items()),
        *((100, rule, sizes) for rule, sizes in {"oltr": (35, 35, 30), "inclusive": (35, 34, 31)}.items()),
        *((200, rule, sizes) for rule, sizes in {"oltr": (30, 31, 39), "inclusive": (31, 29, 40)}.items()),
        (100, "thirds", (33, 33, 34)),
    ],
)
def test_the_groups_of_cifar_100_are_the_cards(factor: int, rule: str, sizes: tuple[int, ...]) -> None:
    counts = [int(500 * factor ** (-k / 99)) for k in range(100)]
    masks = group_masks(counts, rule)
    assert tuple(int(mask.sum()) for mask in masks.values()) == sizes
    assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
    mixed = np.random.default_rng(0).permutation(100)  # classes need not stand in the order of their sizes
    for name, mask in group_masks(np.array(counts)[mixed], rule).items():
        assert np.array_equal(mask, masks[name][mixed]) or rule == "thirds"
        assert sorted(np.array(counts)[mixed][mask]) == sorted(np.array(counts)[masks[name]])


def test_groups_are_means_of_their_classes(tmp_path: Path) -> None:
    add_two(tmp_path)
    low, high = per_class(tmp_path, ["low", "high"])
    many, medium, few = low.by_group("thirds").means()
    assert (many[0], medium, few) == (pytest.approx(60), (65.0, pytest.approx(0)), (45.0, pytest.approx(0)))
    assert many[1] == pytest.approx(low.means()[0][1] / 2)  # the seeds differ in one of its two classes
    assert high.by_group("oltr").means() == [(90.0, None)] * 3
    assert [row["classes"] for row in low.by_group("oltr").classes] == [2, 2, 2]


def test_a_group_without_tested_classes_has_no_accuracy(tmp_path: Path) -> None:
    add_record(tmp_path, correct=(9, 8, 7, 6, 0, 0), total=(10, 10, 10, 10, 0, 0))
    (found,) = per_class(tmp_path, ["ce"])
    assert found.by_group("oltr").means()[2] == (None, None)
    assert [row["total"] for row in found.by_group("oltr").classes] == [20, 20, 0]


def test_the_command_tells_groups(lt_bench: LtBench, working_folder: Path) -> None:
    add_two(working_folder / "records")
    told = lt_bench("per-class", "low", "high", "--records", "records", "--groups", "thirds").out.splitlines()
    assert told[2].startswith("thirds: a third of the classes each")
    assert told[4].split() == ["group", "classes", "train", "test", "low", "%", "high", "%"]
    assert told[-1].split()[-4:] == ["45.00", "±", "0.00", "90.00"]
    found = json.loads(lt_bench("per-class", "low", "--records", "records", "--groups", "thirds", "--json").out)
    assert [row["group"] for row in found["groups"]] == ["many", "medium", "few"]
    refused(lt_bench("per-class", "low", "--records", "records", "--groups", "third"), "did you mean thirds?")
