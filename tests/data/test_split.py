from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_bench.data.arrays import ArrayPart
from lt_bench.data.cards import load_card
from lt_bench.data.opening import open_split
from lt_bench.data.sources import Pool
from lt_bench.data.spec import DataSpec
from lt_bench.data.split import Split, class_sizes, draw, draw_split
from lt_bench.errors import UserError

CIFAR10 = {
    10: [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500],
    20: [5000, 3584, 2569, 1842, 1320, 946, 678, 486, 348, 250],
    50: [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100],
    100: [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50],
    200: [5000, 2775, 1540, 854, 474, 263, 146, 81, 45, 25],
}
CIFAR100 = {
    10: (
        "500,488,477,466,455,445,434,424,415,405,396,387,378,369,361,352,344,336,328,321,314,306,299,292,286,279,273,266,"
        "260,254,248,243,237,232,226,221,216,211,206,201,197,192,188,183,179,175,171,167,163,159,156,152,149,145,142,139,"
        "135,132,129,126,123,121,118,115,112,110,107,105,102,100,98,95,93,91,89,87,85,83,81,79,77,75,74,72,70,69,67,66,"
        "64,63,61,60,58,57,56,54,53,52,51,50"
    ),
    50: (
        "500,480,462,444,426,410,394,379,364,350,336,323,311,299,287,276,265,255,245,235,226,218,209,201,193,186,178,172,"
        "165,158,152,146,141,135,130,125,120,115,111,107,102,98,95,91,87,84,81,78,75,72,69,66,64,61,59,56,54,52,50,48,46,"
        "44,43,41,39,38,36,35,34,32,31,30,29,27,26,25,24,23,22,22,21,20,19,18,18,17,16,16,15,14,14,13,13,12,12,11,11,10,"
        "10,10"
    ),
    100: (
        "500,477,455,434,415,396,378,361,344,328,314,299,286,273,260,248,237,226,216,206,197,188,179,171,163,156,149,142,"
        "135,129,123,118,112,107,102,98,93,89,85,81,77,74,70,67,64,61,58,56,53,51,48,46,44,42,40,38,36,35,33,32,30,29,27,"
        "26,25,24,23,22,21,20,19,18,17,16,15,15,14,13,13,12,12,11,11,10,10,9,9,8,8,7,7,7,6,6,6,6,5,5,5,5"
    ),
    200: (
        "500,473,449,425,403,382,362,343,325,308,292,277,263,249,236,224,212,201,190,180,171,162,154,146,138,131,124,117,"
        "111,105,100,95,90,85,81,76,72,69,65,62,58,55,52,50,47,44,42,40,38,36,34,32,30,29,27,26,24,23,22,21,20,19,18,17,"
        "16,15,14,13,13,12,11,11,10,10,9,9,8,8,7,7,6,6,6,5,5,5,5,4,4,4,4,3,3,3,3,3,2,2,2,2"
    ),
}
# Largest and smallest class and total for each factor.
CIFAR100_TOTALS = {10: (50, 19573), 20: (25, 15907), 50: (10, 12608), 100: (5, 10847), 200: (2, 9502), 256: (1, 9098)}


@pytest.mark.parametrize("factor", CIFAR10)
def test_cifar10_class_sizes(factor: int) -> None:
    assert class_sizes(10, 5000, factor, "exponential") == CIFAR10[factor]


def test_cifar100_class_sizes() -> None:
    for factor, sizes in CIFAR100.items():
        assert ",".join(map(str, class_sizes(100, 500, factor, "exponential"))) == sizes
    for factor, (smallest, total) in CIFAR100_TOTALS.items():
        found = class_sizes(100, 500, factor, "exponential")
        assert (found[0], found[-1], sum(found)) == (500, smallest, total)


def test_step_class_sizes() -> None:
    assert class_sizes(10, 5000, 100, "step") == [5000] * 5 + [50] * 5
    assert class_sizes(100, 500, 100, "step") == [500] * 50 + [5] * 50
    assert sum(class_sizes(10, 5000, 10, "step")) == sum(class_sizes(100, 500, 10, "step")) == 27500


@pytest.mark.parametrize("name", ["cifar10-lt", "cifar100-lt"])
def test_the_cards_totals_are_what_the_rule_gives(name: str) -> None:
    card = load_card(name)
    assert card.n_max is not None
    assert {k.factor for k in card.known if k.profile == "exponential"} == {10, 20, 50, 100, 200, 256}
    for known in card.known:
        assert known.factor is not None
        assert known.profile is not None
        assert sum(class_sizes(card.classes, card.n_max, known.factor, known.profile)) == known.total


@given(
    classes=st.integers(2, 200),
    n_max=st.integers(1, 6000),
    factor=st.floats(1, 1000),
    profile=st.sampled_from(["exponential", "step"]),
)
def test_class_sizes_fall_from_the_head_to_the_factor(classes: int, n_max: int, factor: float, profile: str) -> None:
    sizes = class_sizes(classes, n_max, factor, profile)  # type: ignore[arg-type]
    assert len(sizes) == classes
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == n_max
    assert sizes[-1] == int(n_max * (1 / factor))
    assert class_sizes(classes, n_max, 1, profile) == [n_max] * classes  # type: ignore[arg-type]


def test_the_legacy_generator_is_the_one_the_splits_are_defined_by() -> None:
    words = np.random.RandomState(0).randint(0, 2**32, 5, dtype=np.uint32)
    assert words.tolist() == [2357136044, 2546248239, 3071714933, 3626093760, 2588848963]
    ten = np.arange(10)
    np.random.RandomState(0).shuffle(ten)
    assert ten.tolist() == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]
    assert np.random.RandomState(0).permutation(10).tolist() == ten.tolist()
    assert np.random.default_rng(0).permutation(10).tolist() != ten.tolist()


def sorted_labels(classes: int, each: int) -> np.ndarray:
    return np.repeat(np.arange(classes), each)


def names(classes: int) -> list[str]:
    return [f"c{c}" for c in range(classes)]


def test_first_positions_within_a_class() -> None:
    # In a list sorted by class the position within a class is the remainder: the draw does not look at the labels.
    train, _ = draw(sorted_labels(10, 5000), [10] * 10, 0, 0, names(10))
    assert (train.reshape(10, 10) % 5000)[:3].tolist() == [
        [398, 3833, 4836, 4572, 636, 2545, 1161, 2230, 148, 2530],
        [597, 332, 521, 3935, 4800, 1102, 4304, 1826, 4282, 2746],
        [3488, 1136, 3494, 2945, 4518, 4011, 1334, 2833, 4044, 4279],
    ]
    train, _ = draw(sorted_labels(100, 500), [10] * 100, 0, 0, names(100))
    assert (train.reshape(100, 10) % 500)[:3].tolist() == [
        [90, 254, 283, 445, 461, 15, 316, 489, 159, 153],
        [277, 307, 436, 88, 261, 57, 413, 459, 398, 201],
        [52, 34, 347, 492, 196, 233, 487, 246, 457, 199],
    ]


def test_splits_of_one_seed_are_nested_and_those_of_two_seeds_differ() -> None:
    labels = sorted_labels(10, 500)
    by_factor = {f: draw(labels, class_sizes(10, 500, f, "exponential"), 0, 0, names(10))[0] for f in (10, 50, 100)}
    assert set(by_factor[100]) < set(by_factor[50]) < set(by_factor[10])
    other, _ = draw(labels, class_sizes(10, 500, 100, "exponential"), 0, 1, names(10))
    assert set(other) != set(by_factor[100])


@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=6), validation=st.integers(0, 8), seed=st.integers(0, 99)
)
def test_a_split_takes_each_image_once_and_validation_goes_on_in_the_list(
    sizes: list[int], validation: int, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(sorted_labels(len(sizes), 20))
    train, held_out = draw(labels, sizes, validation, seed, names(len(sizes)))
    assert np.bincount(labels[train], minlength=len(sizes)).tolist() == sizes
    assert np.bincount(labels[held_out], minlength=len(sizes)).tolist() == [validation] * len(sizes)
    assert len({*train, *held_out}) == len(train) + len(held_out)
    larger, _ = draw(labels, [n + validation for n in sizes], 0, seed, names(len(sizes)))
    assert set(larger) == {*train, *held_out}


@pytest.mark.parametrize(
    ("sizes", "validation", "message"),
    [
        ([5, 0], 0, r"class 1 \(c1\) would get 0 training images"),
        ([21, 1], 0, r"data.n_max: class 0 \(c0\) has 20 training images, the split asks for 21"),
        ([15, 3], 6, r"class 0 \(c0\) has 5 unused training images, 6 are asked for$"),
    ],
)
def test_a_class_that_is_too_small_is_named(sizes: list[int], validation: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw(sorted_labels(2, 20), sizes, validation, 0, names(2))


def toy_split(validation: int = 0, brightness: int = 0) -> Split:
    labels = sorted_labels(10, 20)
    images = np.arange(200, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    images[0] += np.uint8(brightness)
    part = ArrayPart(images, labels)
    card = load_card("cifar10-lt").model_copy(update={"n_max": 20, "factor": 10.0})
    spec = DataSpec(name="cifar10-lt", validation_per_class=validation, n_max=20 - validation).resolve(card)
    return draw_split(card, spec, Pool(part, part, tuple(names(10)), "toy"))


def test_digests_are_of_int32_indices_and_of_pixels_in_split_order() -> None:
    split = toy_split()
    positions = b"".join(int(i).to_bytes(4, "little") for i in split.train_indices)
    pixels = b"".join(bytes([int(i)] * 12) for i in split.train_indices)
    assert split.index_sha256 == hashlib.sha256(positions).hexdigest()
    assert split.content_sha256 == hashlib.sha256(pixels).hexdigest()
    assert split.train.labels.tolist() == sorted(split.train.labels.tolist())
    assert split.counts.tolist() == class_sizes(10, 20, 10, "exponential")


def test_the_digest_tells_contents_and_validation_apart() -> None:
    split, brighter = toy_split(), toy_split(brightness=1)
    assert split.index_sha256 == brighter.index_sha256
    assert len({split.digest, brighter.digest, toy_split(validation=2).digest}) == 3
    assert split.validation is None
    assert split.validation_sha256 is None


def test_the_digest_stands_for_all_that_the_card_and_the_parts_decide(cache: Path) -> None:
    split = open_split(DataSpec(name="digits-lt"))
    changed_test = replace(split, test=ArrayPart(255 - split.test.images, split.test.labels))
    cards = [{"mean": (0.0, 0.0, 0.0)}, {"std": (1.0, 1.0, 1.0)}, {"flip": True}, {"version": 2}]
    others = [replace(split, card=split.card.model_copy(update=change)) for change in cards]
    assert len({split.digest, changed_test.digest, *(other.digest for other in others)}) == 6


def test_positions_that_are_not_those_on_the_card_are_refused_as_soon_as_it_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def drawn(*arguments: Any) -> tuple[np.ndarray, np.ndarray]:
        train, validation = draw(*arguments)
        return train[::-1], validation

    monkeypatch.setattr("lt_bench.data.split.draw", drawn)
    with pytest.raises(UserError, match=r"index_sha256 of digits-lt is \w+, its card says 40da2e4a"):
        open_split(DataSpec(name="digits-lt"))
    open_split(DataSpec(name="digits-lt", factor=7))  # of which the card knows nothing
