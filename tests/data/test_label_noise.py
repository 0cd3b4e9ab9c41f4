"""Wrong labels: laws, rates, what depends on which seed, and what a training gets to see of them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lt_bench.data import describe, long_tailed, open_split
from lt_bench.data.arrays import ArrayPart
from lt_bench.data.cards import load_card
from lt_bench.data.export import export_split
from lt_bench.data.noise import Cifar10N, words
from lt_bench.data.noise.confusions import CIFAR10, SUPER_CLASSES, confused_with
from lt_bench.data.noise.drawing import by_instance, draw_labels, transition, truncated_normal, with_noise
from lt_bench.data.noise.human import KEYS, SHA256, find_file, human_labels, read_labels
from lt_bench.data.spec import DataSpec
from lt_bench.data.split import Split
from lt_bench.errors import MissingDataError, UserError
from lt_bench.recipe import data_spec, load_recipe

NAMES10 = load_card("cifar10-lt").class_names or ()
NAMES100 = load_card("cifar100-lt").class_names or ()


def noise(**settings: Any) -> Any:
    return DataSpec.read({"name": "digits-lt", "noise": settings}).noise


def split(**settings: Any) -> Split:
    return open_split(DataSpec.read({"name": "digits-lt", **settings}))


def wrong_rate(name: str, rate: float, classes: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(classes), 200_000 // classes)
    law = transition(noise(name=name, rate=rate), [str(k) for k in range(classes)])
    return labels, draw_labels(labels, law, np.random.default_rng(0))


# --- laws ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "rate", "expected"),
    [(10, 0.2, 0.18), (10, 0.5, 0.45), (10, 0.8, 0.72), (100, 0.2, 0.198), (100, 0.5, 0.495), (100, 0.8, 0.792)],
)
def test_symmetric_noise_includes_the_right_label(classes: int, rate: float, expected: float) -> None:
    labels, given = wrong_rate("symmetric", rate, classes)
    assert (given != labels).mean() == pytest.approx(expected, abs=0.004)
    law = transition(noise(name="symmetric", rate=rate), [""] * classes)
    assert 1 - law.diagonal() == pytest.approx(expected)


def test_exclusive_noise_has_its_nominal_rate() -> None:
    labels, given = wrong_rate("symmetric-exclusive", 0.4, 10)
    assert (given != labels).mean() == pytest.approx(0.4, abs=0.004)
    assert np.bincount(given[labels == 3], minlength=10)[4] == pytest.approx(0.4 / 9 * 20_000, rel=0.1)


def test_a_pair_flip_is_to_the_next_class() -> None:
    labels, given = wrong_rate("pair-flip", 0.45, 10)
    changed = given != labels
    assert changed.mean() == pytest.approx(0.45, abs=0.004)
    assert (given[changed] == (labels[changed] + 1) % 10).all()


def test_cifar10_has_its_fixed_map() -> None:
    goes = dict(zip(NAMES10, np.array(NAMES10)[confused_with(NAMES10)], strict=True))
    assert {name: to for name, to in goes.items() if name != to} == CIFAR10
    law = transition(noise(name="asymmetric", rate=0.4), NAMES10)
    assert law[NAMES10.index("cat"), NAMES10.index("dog")] == pytest.approx(0.4)
    assert law[NAMES10.index("frog"), NAMES10.index("frog")] == 1


def test_cifar100_stays_inside_of_real_super_classes() -> None:
    home = {name: k for k, group in enumerate(SUPER_CLASSES) for name in group.split()}
    goes = confused_with(NAMES100)
    assert sorted(home) == sorted(NAMES100)
    assert sorted(goes) == list(range(100))  # a permutation, without a fixed point
    assert (goes != np.arange(100)).all()
    assert all(home[NAMES100[a]] == home[NAMES100[b]] for a, b in enumerate(goes))


def test_instance_dependent_noise_is_of_its_rate_and_of_the_pixels() -> None:
    rng = np.random.default_rng(1)
    two = rng.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    part = ArrayPart(two[np.repeat([0, 1], 4000)], np.zeros(8000, np.int64))
    given = by_instance(part, 10, 0.3, np.random.default_rng(0))
    assert (given != 0).mean() == pytest.approx(0.3, abs=0.02)
    # Scores of raw pixels are far apart, so that all copies of an image get one and the same wrong label.
    for images in (given[:4000], given[4000:]):
        counts = np.bincount(images, minlength=10)[1:]
        assert counts.max() / counts.sum() > 0.95
    assert truncated_normal(0.05, 0.1, np.array([0.0, 0.5, 1 - 1e-12])) == pytest.approx([0, 0.0886, 0.75], abs=0.03)


# --- what depends on what -----------------------------------------------------------------------------


def test_noise_comes_after_the_draw_and_changes_no_image() -> None:
    clean, noisy = split(), split(noise={"name": "symmetric", "rate": 0.4})
    assert (noisy.train_indices == clean.train_indices).all()
    assert noisy.content_sha256 == clean.content_sha256
    assert (noisy.counts == clean.counts).all()  # the groups are those of the right labels
    assert (noisy.train.labels == clean.train.labels).all()
    assert noisy.given is not None
    assert (noisy.training.labels == noisy.given).all()
    assert (noisy.given != clean.train.labels).any()
    assert noisy.digest != clean.digest
    assert noisy.test_sha256 == clean.test_sha256


def test_noise_has_a_seed_of_its_own() -> None:
    def given(**settings: Any) -> np.ndarray:
        found = split(noise={"name": "symmetric", "rate": 0.4} | settings).given
        assert found is not None
        return found

    assert (given() == given(seed=0)).all()
    assert (given() != given(seed=1)).any()


def test_validation_labels_are_noisy_too_and_leave_the_training_ones_alone() -> None:
    spec = {"noise": {"name": "symmetric", "rate": 0.5}, "n_max": 60}
    without, beside = split(**spec), split(**spec, validation_per_class=9)
    assert (without.given == beside.given).all()
    assert beside.validation is not None
    right = split(n_max=60, validation_per_class=9).validation
    assert right is not None
    assert 0.2 < (beside.validation.labels != right.labels).mean() < 0.7


def test_a_class_without_a_label_is_refused() -> None:
    with pytest.raises(UserError, match=r"no training image labelled as class \d"):
        for seed in range(50):
            split(n_max=8, factor=8, noise={"name": "symmetric", "rate": 0.9, "seed": seed})


def test_a_class_may_lose_all_its_right_labels() -> None:
    """And be filled from nothing but others: what counts is that there is something to learn."""
    facts = describe(split(n_max=60, factor=20, noise={"name": "symmetric-exclusive", "rate": 0.9, "seed": 4}))
    assert facts["counts"][9] == 3
    assert facts["wrong_share_of_class"][9] == 1
    assert facts["given_counts"][9] > 0
    assert facts["wrong_labels"] == round(facts["wrong_share"] * facts["total"])


def test_the_clean_spec_is_as_it_was() -> None:
    recipe = load_recipe("digits-lt/ce")
    assert "noise" not in recipe.resolved()["data"]
    noisy = load_recipe("digits-lt/ce", ["data.noise.name=symmetric", "data.noise.rate=0.4"])
    assert noisy.resolved()["data"]["noise"] == {"name": "symmetric", "rate": 0.4, "seed": 0}
    assert noisy.sha256() != recipe.sha256()
    assert noisy.overrides == ()  # tables say it by themselves
    same = load_recipe("digits-lt/ce", ["data.noise={name: symmetric, rate: 0.4}"])
    assert same.sha256() == noisy.sha256()


def test_published_figures_of_clean_labels_are_not_those_of_noisy_ones(tmp_path: Path) -> None:
    ce = ["protocol=cifar-200ep", "data.factor=10"]
    assert load_recipe("cifar10-lt/ce", ce).reported
    assert not load_recipe("cifar10-lt/ce", [*ce, "data.noise={name: symmetric, rate: 0.4}"]).reported
    own = tmp_path / "own.yaml"
    own.write_text(
        "extends: cifar10-lt/ce\nreported:\n"
        '  - {noise: symmetric 0.4, top1: 70.0, paper: "X"}\n  - {noise: symmetric 0.2, top1: 80.0, paper: "X"}\n'
    )
    assert [f.top1 for f in load_recipe(own, ["data.noise={name: symmetric, rate: 0.4}"]).reported] == [70.0]
    assert load_recipe(own).reported == ()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("noise.name=symmetrc", "did you mean symmetric"),
        ("noise={rate: 0.3}", "data.noise.name: this field is required"),
        ("noise={name: pair-flip}", "data.noise.rate: this field is required"),
        ("noise={name: pair-flip, rate: 1.5}", "data.noise.rate: should be less than 1"),
        ("noise={name: cifar10n, labels: worse}", "'worst'"),
        ("noise={name: cifar10n, rate: 0.4}", "data.noise.rate"),
    ],
)
def test_a_mistake_is_told_in_a_line(settings: str, said: str) -> None:
    with pytest.raises(UserError, match=r"data\.noise") as error:
        data_spec("digits-lt", [settings])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_has_no_such_noise_says_so() -> None:
    with pytest.raises(UserError, match="known for the classes of CIFAR-10 and CIFAR-100"):
        split(noise={"name": "asymmetric", "rate": 0.4})
    with pytest.raises(UserError, match="not of digits-lt"):
        split(noise={"name": "cifar10n"})


def test_a_noisy_split_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.noise"):
        export_split(split(noise={"name": "pair-flip", "rate": 0.2}), tmp_path / "split.parquet")


def test_a_library_user_gets_the_given_labels() -> None:
    data = long_tailed("digits-lt", noise={"name": "pair-flip", "rate": 0.3})
    assert data[0][1] == data.labels[0]
    assert (data.labels != data.split.train.labels).mean() == pytest.approx(0.3, abs=0.1)
    assert (
        long_tailed("digits-lt", "test", noise={"name": "pair-flip", "rate": 0.3}).labels == data.split.test.labels
    ).all()


def test_noise_in_words() -> None:
    assert words(noise(name="symmetric", rate=0.4)) == "symmetric 0.4"
    assert words(Cifar10N()) == "cifar10n worst"


# --- CIFAR-10N ----------------------------------------------------------------------------------------


def human_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, suffix: str = ".npz"
) -> tuple[Path, dict[str, np.ndarray]]:
    """A file of ten images in the layout of the real one, and what it holds."""
    labels = {key: (np.arange(10) + k) % 10 for k, key in enumerate(SHA256)}
    (folder / "cifar10n").mkdir()
    if suffix == ".npz":
        path = folder / "cifar10n" / "cifar10n.npz"
        np.savez(path, **{key: value.astype(np.uint8) for key, value in labels.items()})
    else:
        path = folder / "cifar10n" / "CIFAR-10_human.pt"
        torch.save(labels, path)
    digests = {key: hashlib.sha256(value.astype(np.uint8).tobytes()).hexdigest() for key, value in labels.items()}
    monkeypatch.setattr("lt_bench.data.noise.human.SHA256", digests)
    return path, labels


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_human_labels_of_chosen_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    _, labels = human_file(tmp_path, monkeypatch, suffix)
    card, chosen = load_card("cifar10-lt"), np.array([7, 2])
    for which, key in KEYS.items():
        found = human_labels(card, Cifar10N.read({"labels": which}), chosen, chosen, tmp_path)
        assert found.tolist() == labels[key][chosen].tolist()
    with pytest.raises(UserError, match="order of the original archive"):
        human_labels(card, Cifar10N(), np.array([2, 7]), chosen, tmp_path)


def test_a_file_of_an_older_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the authors' own is: its arrays begin by a function that has moved since."""
    path, labels = human_file(tmp_path, monkeypatch, ".pt")
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    old = {name: data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray") for name, data in files.items()}
    assert old != files
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in old.items():
            archive.writestr(name, data)
    assert read_labels(path, "worse_label").tolist() == labels["worse_label"].tolist()


def test_a_missing_file_of_human_labels(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"CIFAR-10_human.pt .*cifar-10-100n"):
        find_file(tmp_path)


def test_an_altered_or_foreign_file_of_human_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, labels = human_file(tmp_path, monkeypatch)
    buffer = io.BytesIO()
    np.savez(buffer, **(labels | {"worse_label": labels["worse_label"][::-1]}))
    path.write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="altered: worse_label"):
        read_labels(path, "worse_label")
    buffer = io.BytesIO()
    np.savez(buffer, worse_label=np.array([Path()], dtype=object))  # a pickle
    path.write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="not the labels of CIFAR-10N"):
        read_labels(path, "worse_label")


def test_a_pickle_that_would_act_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "CIFAR-10_human.pt"
    torch.save({"worse_label": _Acts(tmp_path / "acted")}, path)
    with pytest.raises(UserError, match="not the labels of CIFAR-10N"):
        read_labels(path, "worse_label")
    assert not (tmp_path / "acted").exists()


class _Acts:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_the_noise_of_a_validation_part_reads_its_own_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, labels = human_file(tmp_path, monkeypatch)
    clean = split()
    part = ArrayPart(np.zeros((10, 32, 32, 3), np.uint8), np.arange(10))
    cifar = replace(
        clean,
        card=load_card("cifar10-lt"),
        train=part,
        train_indices=np.arange(10),
        validation=part.take(np.array([3, 4])),
        validation_indices=np.array([3, 4]),
    )
    noisy = with_noise(cifar, Cifar10N(), tmp_path)
    assert noisy.validation is not None
    assert noisy.validation.labels.tolist() == labels["worse_label"][[3, 4]].tolist()
