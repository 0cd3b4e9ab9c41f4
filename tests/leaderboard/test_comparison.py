from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from records_factory import add_record
from scipy import stats

from lt_bench.data import DataSpec, open_split
from lt_bench.errors import UserError
from lt_bench.leaderboard import compare, compare_all, load_predictions, load_records
from lt_bench.leaderboard.comparison import _Images
from lt_bench.leaderboard.naming import file_names
from lt_bench.leaderboard.sources import read_board

SHIPPED = Path(__file__).parents[2] / "leaderboard" / "v1" / "records"
LUCK = (0, 9, 3)


def add_two(folder: Path, gains: tuple[int, ...] = (2, 3, 2)) -> None:
    """The methods `low` and `high`, whose difference is the same 2 or 3 of 60 images whatever the seed's luck."""
    for seed, (luck, gain) in enumerate(zip(LUCK, gains, strict=True)):
        add_record(folder, recipe_name="low", seed=seed, correct=(luck, 8, 7, 6, 5, 4))
        add_record(folder, recipe_name="high", seed=seed, correct=(luck, 8, 7, 6, 5, 4 + gain))


def test_by_hand(tmp_path: Path) -> None:
    add_two(tmp_path)
    found = compare(tmp_path, "low", "high")
    top1 = found.differences[0]
    assert (found.table, found.seeds) == ("tiny-lt-if500-cifar-30ep", (0, 1, 2))
    assert (top1.score, top1.difference) == ("top1", pytest.approx(100 * 7 / 3 / 60))
    # s = 100 / 60 / sqrt(3), t(0.975, 2) = 4.302653
    assert top1.over_seeds == pytest.approx(4.302653 * 100 / 60 / 3, rel=1e-6)
    assert next(d.difference for d in found.differences if d.score == "few") == pytest.approx(100 * 7 / 3 / 20)
    assert found.verdict == "high has the higher top-1, low the lower: more than seeds explain."
    assert top1.over_images is None
    assert "tiny-lt" in found.without_images


def test_the_other_way_round_only_signs_change(tmp_path: Path) -> None:
    add_two(tmp_path)
    one, other = compare(tmp_path, "low", "high"), compare(tmp_path, "high", "low")
    for d, e in zip(one.differences, other.differences, strict=True):
        assert (d.first, d.second, d.difference, d.over_seeds) == (e.second, e.first, -e.difference, e.over_seeds)
    assert one.verdict == other.verdict


def test_what_seeds_explain_is_no_difference(tmp_path: Path) -> None:
    add_two(tmp_path, gains=(2, -2, 3))
    assert compare(tmp_path, "low", "high").verdict == "low and high cannot be told apart by top-1."


def test_one_seed_says_nothing_about_another_training(tmp_path: Path) -> None:
    for name, correct in (("low", (1,) * 6), ("high", (9,) * 6)):
        add_record(tmp_path, recipe_name=name, correct=correct)
    found = compare(tmp_path, "low", "high")
    assert found.differences[0].over_seeds is None
    assert "another training" in found.verdict


def test_over_images_it_is_the_paired_t_test_of_the_predictions() -> None:
    found = compare(SHIPPED, "digits-lt/ce", "digits-lt/mislas")
    labels = open_split(DataSpec(name="digits-lt")).test.labels
    right = {
        name: np.mean(
            [
                load_predictions(path, record)[0] == labels
                for path, record in load_records(SHIPPED / "digits-lt-if20" / "digits-demo" / name)
            ],
            axis=0,
        )
        for name in ("ce", "mislas")
    }
    low, high = stats.ttest_rel(right["mislas"], right["ce"]).confidence_interval(0.95)
    top1 = found.differences[0]
    assert top1.over_images is not None
    assert found.without_images == ""
    assert found.verdict.endswith("more than seeds and test images explain.")
    assert (top1.difference - top1.over_images, top1.difference + top1.over_images) == pytest.approx(
        (100 * low, 100 * high)
    )


def test_images_that_differ_from_those_of_the_records_say_nothing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        add_record(tmp_path, recipe_name=name, dataset={"name": "digits-lt", "factor": 20.0})
    found = compare(tmp_path, "one", "two")
    assert found.differences[0].over_images is None
    assert "not those that the records were evaluated on" in found.without_images


def test_methods_that_share_several_tables_need_one_named(tmp_path: Path) -> None:
    add_two(tmp_path)
    for name in ("low", "high"):
        add_record(tmp_path, recipe_name=name, protocol={"name": "cifar-200ep"})
    with pytest.raises(UserError, match="stand in 2 tables: choose --table tiny-lt-if500-cifar-200ep, tiny-lt"):
        compare(tmp_path, "low", "tiny-lt/high")
    assert compare(tmp_path, "low", "high", "tiny-lt-if500-cifar-200ep").seeds == (0,)


def test_overrides_may_be_left_out_where_that_names_one_row(tmp_path: Path) -> None:
    add_record(tmp_path, recipe_name="ce")
    for override in ("mix=cmo", "mix=mixup"):
        add_record(tmp_path, recipe_name="ldam", overrides=(override,))
    assert compare(tmp_path, "ldam (mix=cmo)", "ce").first == "ldam (mix=cmo)"
    with pytest.raises(UserError, match=r"^ldam: there are 2 of them, name one: ldam \(mix=cmo\); ldam \(mix=mixup\)$"):
        compare(tmp_path, "ldam", "ce")


@pytest.mark.parametrize(
    ("first", "second", "table", "said"),
    [
        ("low", "hihg", None, "'hihg' is not a known method; did you mean high?"),
        ("low", "high", "tiny", "--table 'tiny' is not a known table"),
        ("low", "low", None, "low: two different methods are needed"),
        ("low", "elsewhere", None, "low and elsewhere stand in no common table"),
        ("low", "late", None, "low and late have no seed in common: they have 0 1 2 and 7"),
    ],
)
def test_mistakes(first: str, second: str, table: str | None, said: str, tmp_path: Path) -> None:
    add_two(tmp_path)
    add_record(tmp_path, recipe_name="elsewhere", dataset={"name": "other-lt"})
    add_record(tmp_path, recipe_name="late", seed=7)
    with pytest.raises(UserError) as caught:
        compare(tmp_path, first, second, table)
    assert said in str(caught.value)


def test_how_many_seeds_tell_a_difference_comes_from_the_spread_of_the_table(tmp_path: Path) -> None:
    add_two(tmp_path, gains=(2, -2, 3))
    found = compare(tmp_path, "low", "high")
    (spread,) = {d.spread for d in found.differences if d.score == "top1"}
    # Squares of the one pair, 14 images of 60, over the median, 2 log 2, of chi-squared with 2 degrees of freedom.
    assert spread == pytest.approx(100 / 60 * np.sqrt(7 / np.log(2)))
    assert found.top1.seeds_needed == 82
    assert found.advice.startswith("To tell these two apart takes about 82 seeds, if the difference is what it seems")
    add_two(tmp_path / "sure")
    assert compare(tmp_path / "sure", "low", "high").advice == ""


def test_one_common_seed_takes_the_spread_of_the_rows_that_have_several(tmp_path: Path) -> None:
    add_two(tmp_path, gains=(2, -2, 3))
    add_record(tmp_path, recipe_name="alone", correct=(0, 8, 7, 6, 6, 4))
    found = compare(tmp_path, "low", "alone")
    assert (found.seeds, found.top1.p_seeds, found.apart) == ((0,), None, False)
    assert found.top1.seeds_needed is not None
    assert "takes about" in found.advice


def test_several_at_once_are_corrected(tmp_path: Path) -> None:
    """p = 0.020 of each alone is 0.041 for the smaller of two; that of the larger is 0.38 twice."""
    add_two(tmp_path)
    for seed, luck in enumerate(LUCK):
        add_record(tmp_path, recipe_name="same", seed=seed, correct=(luck, 8, 7, 6, 5, 4 + (seed == 1)))
    alone = compare(tmp_path, "low", "high")
    first, second = compare_all(tmp_path, ["low", "high", "same"])
    assert alone.top1.p_seeds == pytest.approx(stats.ttest_1samp([2, 3, 2], 0).pvalue)
    assert first.p_values == (pytest.approx(2 * alone.top1.p_seeds), None)
    assert (alone.apart, first.apart, second.apart) == (True, True, False)
    assert second.p_values == (second.top1.p_seeds, None)
    third = compare_all(tmp_path, ["low", "high", "same", "high"])[0]
    assert third.p_values[0] == pytest.approx(3 * alone.top1.p_seeds)
    assert not third.apart
    assert third.verdict == "low and high cannot be told apart by top-1."


def test_as_many_seeds_as_there_are_do_not_suffice_for_what_they_leave_open() -> None:
    """Where Holm's correction leaves two methods together, more seeds are asked for than they have."""
    name = "cifar100-lt-if100-cifar-200ep"
    (rows,) = (table.rows for table in read_board(SHIPPED).tables if file_names([table]) == {table.key: name})
    others = [row.method for row in rows if row.n > 2 and row.method != "ldam-drw"]
    found = compare_all(SHIPPED, ["ldam-drw", *others], name)
    (ce,) = (one for one in found if one.second == "ce")
    assert ce.top1.p_seeds < 0.05 < ce.p_values[0]  # type: ignore[operator]
    for one in found:
        needed = one.top1.seeds_needed
        assert one.apart or needed is None or needed > len(one.seeds), one.second


def test_what_the_images_alone_leave_open_takes_more_of_either(tmp_path: Path) -> None:
    add_two(tmp_path)
    found = compare(tmp_path, "low", "high")
    blurred = replace(found, differences=(replace(found.top1, p_images=0.2), *found.differences[1:]))
    assert not blurred.apart
    assert blurred.advice == "The seeds tell these two apart, the test images do not: it takes more of either."


def test_one_method_alone_is_refused(tmp_path: Path) -> None:
    add_two(tmp_path)
    with pytest.raises(UserError, match="name two methods or more"):
        compare_all(tmp_path, ["low"])


def test_a_last_class_without_test_images_takes_no_part() -> None:
    gains, labels = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    found = _Images(gains, labels, (500, 10, 5), 1).half_width("few")
    assert found == pytest.approx(_Images(gains, labels, (500, 10), 1).half_width("few"))


def test_the_noise_of_a_group_is_larger_than_that_of_all_images() -> None:
    found = compare(SHIPPED, "digits-lt/ce", "digits-lt/mislas")
    by_score = {d.score: d for d in found.differences}
    labels = open_split(DataSpec(name="digits-lt")).test.labels
    folder = SHIPPED / "digits-lt-if20" / "digits-demo"
    right = [
        np.mean([load_predictions(p, r)[0] == labels for p, r in load_records(folder / name)], 0)
        for name in ("ce", "mislas")
    ]
    record = load_records(folder / "ce")[0][1]
    few = np.isin(labels, np.flatnonzero(np.array(record.dataset.train_counts) < 20))
    # All classes have as many test images, so the mean over the classes is one over the images.
    low, high = stats.ttest_rel(right[1][few], right[0][few]).confidence_interval(0.95)
    assert by_score["few"].over_images == pytest.approx(100 * (high - low) / 2)
    assert by_score["few"].spread > by_score["top1"].spread
    assert by_score["ece"].over_images is None
    assert by_score["top1"].p_images < 1e-4
