from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from records_factory import add_record, digest
from run_cases import refused

from lt_bench.leaderboard.difference_figure import differences
from lt_bench.leaderboard.per_class import per_class
from lt_bench.leaderboard.record import load_record

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
