"""The oracles of the literature on the real CIFARs. The first run decodes them into the user's cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lt_bench.data import DataSpec, describe, load_card, open_split, verify
from lt_bench.data.noise.confusions import confused_with
from lt_bench.data.noise.human import CLEAN, KEYS, find_file, read_labels
from lt_bench.data.split import class_sizes, draw, index_sha256

pytestmark = pytest.mark.data

LABELS_SHA256 = {
    "cifar10-lt": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "cifar100-lt": "9f11b9f97aad759ba6df0a33e3218b01d8deaf4ed3a14aa1185d69b9ad7ebcb3",
}
INDICES = {
    "cifar10-lt": {
        10: "c06ed1d31500880c026c055d7bd2223623333cfbf7bf06be20e8e1e1089e4fd0",
        50: "2477fffcd09bcacdfe3e1918fc95a6ccfa91c0186f92f9508e766e9dd471805f",
        100: "ca97f03cbf4d69c40e0acdacf758852f25c5cd6bdbc78c5d179cf1d64c69bc3f",
        200: "e830cdf210042784f2dc5e7d8b979e74fa04c03b39d11dfb11c628c1582a8d9c",
    },
    "cifar100-lt": {
        10: "3b58e94c18104966827925bcb779f76407d6f89763d6893328f29ff3850b2d31",
        50: "9ae2c06907a23afb04f1697065a8729b60988b90708df3511cc7f387c7955c85",
        100: "92db61d4d8847a2a1140b271ec8575f002729622531a6595aa6f84211fee79e7",
        200: "74508e2d881b880e27d7e764e8a11e9ef9f7cf8ff6b17718f6d26d1b817d8657",
    },
}
ENDS = {"cifar10-lt": [22925, 613, 16267, 4256, 11918], "cifar100-lt": [34578, 14396, 35560, 35541, 30065]}
GROUPS = {10: (69, 31, 0), 50: (41, 41, 18), 100: (35, 35, 30), 200: (30, 31, 39)}


@pytest.fixture(scope="module", params=sorted(INDICES))
def named_labels(request: pytest.FixtureRequest, data_root: Path) -> tuple[str, np.ndarray]:
    folder, column = {
        "cifar10-lt": ("cifar10/plain_text", "label"),
        "cifar100-lt": ("cifar100/cifar100", "fine_label"),
    }[request.param]
    table = pq.read_table(next((data_root / folder).glob("train-*")), columns=[column])
    return request.param, table.column(column).to_numpy()


def test_labels_stand_in_the_archives_order(named_labels: tuple[str, np.ndarray]) -> None:
    name, labels = named_labels
    assert hashlib.sha256(labels.astype(np.uint8).tobytes()).hexdigest() == LABELS_SHA256[name]


@pytest.mark.parametrize("factor", [10, 50, 100, 200])
def test_the_fields_indices(named_labels: tuple[str, np.ndarray], factor: int) -> None:
    name, labels = named_labels
    card = load_card(name)
    assert card.n_max is not None
    sizes = class_sizes(card.classes, card.n_max, factor, "exponential")
    indices, _ = draw(labels, sizes, 0, 0, [""] * card.classes)
    assert index_sha256(indices) == INDICES[name][factor]
    if factor == 100:
        assert indices[-5:].tolist() == ENDS[name]
    known = card.expected("exponential", float(factor), card.n_max, 0)
    assert known is not None
    assert known.index_sha256 == INDICES[name][factor]


def test_a_card_knows_what_the_released_code_draws(named_labels: tuple[str, np.ndarray]) -> None:
    """Every split on it, by numpy's global state as there, and with its own spelling of the sizes."""
    name, labels = named_labels
    card = load_card(name)
    assert card.n_max is not None
    for known in card.known:
        assert known.factor is not None
        falling = [int(card.n_max * (1 / known.factor) ** (c / (card.classes - 1.0))) for c in range(card.classes)]
        half = card.classes // 2
        step = [card.n_max] * half + [int(card.n_max * (1 / known.factor))] * half
        np.random.seed(0)
        drawn = []
        for c, size in enumerate(step if known.profile == "step" else falling):
            positions = np.where(labels == c)[0]
            np.random.shuffle(positions)
            drawn.append(positions[:size])
        indices = np.concatenate(drawn)
        assert (len(indices), known.index_sha256) == (known.total, index_sha256(indices))


@pytest.mark.parametrize("factor", [10, 50, 100, 200])
def test_cifar100_groups(data_root: Path, factor: int) -> None:
    facts = describe(open_split(DataSpec(name="cifar100-lt", factor=factor), data_root))
    assert tuple(facts["groups"].values()) == GROUPS[factor]
    assert facts["matches_card"] is True


@pytest.mark.parametrize(("factor", "groups"), [(10, (10, 0, 0)), (50, (9, 1, 0)), (100, (8, 2, 0))])
def test_cifar10_groups_and_contents(data_root: Path, factor: int, groups: tuple[int, int, int]) -> None:
    split = open_split(DataSpec(name="cifar10-lt", factor=factor), data_root)
    verify(split)
    assert tuple(describe(split)["groups"].values()) == groups
    assert split.class_names[0] == "airplane"
    assert split.train.labels.tolist() == np.repeat(np.arange(10), split.counts).tolist()
    assert np.bincount(split.test.labels).tolist() == [1000] * 10


def test_cifar10_at_factor_100_holds_the_very_images(data_root: Path) -> None:
    split = open_split(DataSpec(name="cifar10-lt", factor=100), data_root)
    # Computed once from the files themselves, whose pixels and order are the original archive's.
    assert split.content_sha256 == "57e15073801aadc43dbe9100895fcc5ccc594959b08d11d4a5a25112e6946b60"


def test_validation_images_are_unused_ones(data_root: Path) -> None:
    spec = DataSpec(name="cifar10-lt", factor=100, n_max=4900, validation_per_class=100)
    split = open_split(spec, data_root)
    assert not set(split.train_indices) & set(split.validation_indices)
    assert split.validation is not None
    assert np.bincount(split.validation.labels).tolist() == [100] * 10


@pytest.mark.parametrize(
    ("labels", "rate"),
    [("aggregate", 0.0903), ("random1", 0.1723), ("random2", 0.1812), ("random3", 0.1764), ("worst", 0.4021)],
)
def test_human_labels_have_their_published_rates(data_root: Path, labels: str, rate: float) -> None:
    path = find_file(data_root)
    clean, given = (read_labels(path, key) for key in (CLEAN, KEYS[labels]))
    assert (clean != given).mean() == pytest.approx(rate, abs=2.5e-4)


def test_human_labels_of_a_long_tailed_split(data_root: Path) -> None:
    spec = {"name": "cifar10-lt", "factor": 10.0, "noise": {"name": "cifar10n"}}
    facts = describe(open_split(DataSpec.read(spec), data_root))
    assert facts["matches_card"]  # the images are those of the clean split
    assert facts["wrong_labels"] == 8265
    assert facts["given_sha256"] == "26f8339c1a1b6ef36374d5ab9b3449793823914381742df43cd9b23e7def86ed"


def test_the_super_classes_are_those_of_the_data(data_root: Path) -> None:
    file = next((data_root / "cifar100/cifar100").glob("train-*"))
    table = pq.read_table(file, columns=["fine_label", "coarse_label"])
    home = dict(zip(table["fine_label"].to_pylist(), table["coarse_label"].to_pylist(), strict=True))
    goes = confused_with(load_card("cifar100-lt").class_names or ())
    assert all(home[label] == home[int(goes[label])] for label in range(100))
