"""A data set of one's own in use: its long tail is drawn, it is found by name and path, run and tabled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_cases import refused

from lt_bench.data import open_split
from lt_bench.data.cards import card_names, load_card, remember, remembered
from lt_bench.data.folder import FilePart
from lt_bench.data.new_set import new_from_folder
from lt_bench.data.spec import DataSpec
from lt_bench.data.split import class_sizes, draw
from lt_bench.errors import UserError
from lt_bench.leaderboard.aggregate import table_key
from lt_bench.leaderboard.belief import believe
from lt_bench.leaderboard.by_card import looks_of
from lt_bench.leaderboard.record import load_record
from lt_bench.recipe import load_recipe
from lt_bench.recipe.files import SETTINGS, shipped
from lt_bench.sweep import Packed
from lt_bench.training.options import Options, Outcome

pytestmark = pytest.mark.usefixtures("nothing_remembered")

LtBench = Callable[..., Any]
SHORT = (
    "protocol.epochs=1",
    "protocol.evaluate_every=1",
    "protocol.augmentation.size=32",
    "protocol.augmentation.test_resize=32",
)


# a long tail that is drawn


def test_a_factor_draws_as_for_cifar(photos: Path, lt_bench: LtBench) -> None:
    new_from_folder("my-birds", photos, test_per_class=1)
    card = load_card("my-birds")
    natural = open_split(DataSpec(name="my-birds").resolve(card))
    spec = DataSpec(name="my-birds", factor=4, n_max=10, subset_seed=3, validation_per_class=1).resolve(card)
    split = open_split(spec)
    sizes = class_sizes(6, 10, 4, "exponential")
    indices, held_out = draw(natural.train.labels, sizes, 1, 3, card.class_names or ())
    assert split.counts.tolist() == sizes
    assert split.train_indices.tolist() == indices.tolist()
    assert split.validation_indices.tolist() == held_out.tolist()
    assert isinstance(split.train, FilePart)
    assert isinstance(natural.train, FilePart)
    assert split.train.files == tuple(natural.train.files[k] for k in indices)
    assert len({split.index_sha256, natural.index_sha256}) == 2
    assert split.content_sha256 == split.train.sha256() != natural.content_sha256
    assert lt_bench("data", "describe", "my-birds", "factor=4", "n_max=9", "profile=step").code == 0
    assert lt_bench("data", "describe", "my-birds", "data.factor=4", "data.n_max=9").code == 0


def test_a_long_tail_that_the_classes_cannot_serve(photos: Path) -> None:
    new_from_folder("my-birds", photos, test_per_class=1)
    card = load_card("my-birds")
    with pytest.raises(UserError, match=r"class 1 \(Great Tit, male\) has 13 .* \(with factor 2 data.n_max can be 7\)"):
        open_split(DataSpec(name="my-birds", factor=2).resolve(card))
    open_split(DataSpec(name="my-birds", factor=2, n_max=7).resolve(card))
    with pytest.raises(
        UserError, match=r"data.factor: 500 leaves the smallest class no image where the largest has 19"
    ):
        DataSpec(name="my-birds", factor=500).resolve(card)
    with pytest.raises(UserError, match=r"\(no data.n_max can give factor 500\)"):
        open_split(DataSpec(name="my-birds", factor=500, n_max=600).resolve(card))
    for setting in ({"n_max": 4}, {"profile": "step"}, {"subset_seed": 1}, {"validation_per_class": 1}):
        with pytest.raises(UserError, match="my-birds keeps its natural counts without"):
            DataSpec.read({"name": "my-birds", **setting}).resolve(card)


# where cards and settings are found


def test_a_set_is_found_by_name_and_by_path(photos: Path, lt_bench: LtBench, monkeypatch: pytest.MonkeyPatch) -> None:
    new_from_folder("my-birds", photos)
    here = load_recipe("my-birds/ce")
    assert load_recipe("my-birds/crt").first() is not None
    done = lt_bench("validate", "my-brids/ce")
    assert (done.code, "did you mean my-birds?" in done.err) == (2, True)
    monkeypatch.chdir("/")
    with pytest.raises(UserError, match="'my-birds' is not a known setting"):
        load_recipe("my-birds/ce")
    assert load_recipe(f"{photos.parent}/my-birds/ce").sha256() == here.sha256()
    assert remembered() == (photos.parent / "my-birds",)
    assert lt_bench("data", "verify", photos.parent / "my-birds").code == 0
    monkeypatch.chdir(photos.parent)
    assert lt_bench("data", "verify", "./my-birds").code == 0
    assert lt_bench("data", "verify", "my-birds/card.yaml").code == 0
    monkeypatch.chdir("my-birds")
    assert lt_bench("data", "verify", "card.yaml").code == 0


def test_a_file_extends_a_recipe_on_a_setting_of_ones_own(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_from_folder("my-birds", photos)
    file = photos.parent / "mine.yaml"
    file.write_text("extends: my-birds/ce\nsecond_stage: crt\n")
    there = load_recipe("my-birds/ce")
    first = load_recipe("mine.yaml").first()
    assert first is not None
    assert first.sha256() == there.sha256()
    monkeypatch.chdir("/")
    assert load_recipe(file).sha256() == load_recipe(f"{photos.parent}/my-birds/crt").sha256()
    file.write_text("extends: my-brids/ce\n")
    with pytest.raises(UserError, match=r"mine.yaml: extends: 'my-brids/ce' is not a known recipe or protocol"):
        load_recipe(file)


def test_what_one_has_in_the_working_folder_is_listed(photos: Path, lt_bench: LtBench) -> None:
    new_from_folder("my-birds", photos)
    Path("mine.yaml").write_text("# What I try.\nextends: my-birds/ce\n")
    Path("other.yaml").write_text("services: {web: {}}\n")
    Path("broken.yaml").write_text("a: [1\n")
    own = {}
    for what, known in {"datasets": card_names(), "settings": shipped(SETTINGS), "recipes": shipped()}.items():
        (own[what],) = (row for row in json.loads(lt_bench("list", what, "--json").out) if row["name"] not in known)
    assert [row["name"] for row in own.values()] == ["my-birds", "my-birds", "mine.yaml"]
    assert own["settings"]["backbone"] == "resnet10"
    assert own["recipes"]["what"] == "What I try."


def test_a_name_that_is_half_of_one_is_told_the_other_half(photos: Path) -> None:
    new_from_folder("my-birds", photos)
    with pytest.raises(
        UserError, match=r"ce: is a method; .* such as my-birds/ce, cifar10-lt-noisy/ce, cifar10-lt/ce, "
    ):
        load_recipe("ce")
    with pytest.raises(UserError, match="my-birds: is a setting; say what is run on it, such as my-birds/ce"):
        load_recipe("my-birds")


def test_what_is_ones_own_is_among_the_nearest_names(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_from_folder("my-birds", photos)
    Path("tail-mix.yaml").write_text("loss: focal\n")
    with pytest.raises(UserError, match="'tail-mx' is not a known method; did you mean digits-lt/tail-mix"):
        load_recipe("digits-lt/tail-mx")
    monkeypatch.chdir(photos)
    with pytest.raises(
        UserError, match=r"'my-birds' is not a known data set .*; one of your own has to lie in the work"
    ):
        load_card("my-birds")


def test_two_cards_of_one_name_are_refused(photos: Path) -> None:
    (photos.parent / "other").mkdir()
    for out in (photos.parent, photos.parent / "other"):
        new_from_folder("twice", photos, out)
    remember(Path("twice"))
    assert load_card("twice").name == "twice"
    remember(Path("other/twice"))
    with pytest.raises(UserError, match=r"twice: there is a card of this name in .*/twice and in .*/other/twice"):
        load_card("twice")


def test_a_card_of_ones_own_has_its_own_name(photos: Path) -> None:
    made = new_from_folder("mine", photos).folder
    made.rename("digits-lt")
    with pytest.raises(UserError, match=r"digits-lt/card.yaml: digits-lt is a data set that ships"):
        load_card("digits-lt")
    with pytest.raises(UserError, match=r"digits-lt is a shipped setting and digits-lt/setting.yaml a file here"):
        load_recipe("digits-lt/ce")
    Path("digits-lt").rename("yours")
    with pytest.raises(UserError, match=r"yours/card.yaml: name: 'mine' is not the name of the folder"):
        load_card("yours")
    (Path("yours") / "card.yaml").write_text("name: yours\n")
    with pytest.raises(UserError, match=r"yours/card.yaml: mean: Field required"):
        load_card("yours")


# from nothing to a table


def test_a_set_of_ones_own_is_run_and_tabled(photos: Path, lt_bench: LtBench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lt_bench("data", "new", "my-birds", "--images", "photos").code == 0
    done = lt_bench("run", "my-birds/balanced-softmax", "my-birds/ce", *SHORT, "--workers", 0)
    assert (done.code, len(done.out.splitlines())) == (0, 2)
    assert lt_bench("leaderboard", "build").code == 0
    (table,) = Path("results/tables").glob("my-birds-*.md")
    assert {"balanced-softmax", "ce"} <= set(table.read_text().split())
    assert lt_bench("compare", "ce", "balanced-softmax").code == 0
    (weights,) = Path("runs").glob("my-birds/*/ce/*/weights.safetensors")
    assert (
        lt_bench("evaluate", weights, "--workers", 0, "--precision", "float32", "--predictions", "test.npz").code == 0
    )
    test = open_split(DataSpec(name="my-birds")).test
    assert isinstance(test, FilePart)
    told = lt_bench("predict", weights, *(test.folder / file for file in test.files), "--workers", 0, "--json")
    with np.load("test.npz", allow_pickle=False) as expected:
        names = expected["class_names"][expected["predicted"]]
    assert [row["class"] for row in json.loads(told.out)] == names.tolist()
    Path("text.png").write_text("no image")
    refused(lt_bench("predict", weights, "text.png", "--workers", 0), "text.png: not a readable image")
    # A worker of `sweep --jobs` is told where the card lies.
    recipe = load_recipe("my-birds/ce", ["protocol.epochs=1"])
    options = Options(work=Path("runs"), records=Path("results/records").absolute(), workers=0)
    folder = Path("my-birds").absolute()
    monkeypatch.chdir("/")
    monkeypatch.setattr("lt_bench.data.cards._named", {})
    assert isinstance(Packed(recipe, 0, options).attempt(), UserError)
    assert isinstance(Packed(load_recipe(f"{folder}/ce", SHORT), 0, options, cards=(folder,)).attempt(), Outcome)


def test_a_card_that_changes_leaves_what_was_made_under_it(photos: Path, lt_bench: LtBench) -> None:
    lt_bench("data", "new", "my-birds", "--images", "photos", "--test-per-class", 3)
    command = ("run", "my-birds/balanced-softmax", *SHORT, "--workers", 0, "--seeds")
    assert lt_bench(*command, "0,1").code == 0
    first, _ = sorted(Path("runs").glob("my-birds/*/*/*/weights.safetensors"))
    images = ("photos", "--workers", 0, "--json")
    before = [lt_bench("predict", first, *images).out, lt_bench("evaluate", first, "--workers", 0, "--json").out]
    card = Path("my-birds/card.yaml")
    plain = card.read_text()
    card.write_text(plain.replace("0.485", "0.9").replace("flip: true", "flip: false"))
    # Weights show images as they did, and do not need the card.
    now = lt_bench("evaluate", first, "--workers", 0, "--json")
    assert json.loads(now.out)["correct"] == json.loads(before[1])["correct"]
    assert "another split" not in now.err
    card.rename("elsewhere.yaml")
    assert lt_bench("predict", first, *images).out == before[0]
    Path("elsewhere.yaml").rename(card)
    # Records are believed, and stand apart from those under the card of today.
    assert lt_bench(*command, "0").code == 0
    listed = lt_bench("leaderboard", "show").out
    assert all(f"my-birds: images-30ep (modified) [flip {flip}, " in listed for flip in ("yes", "no"))
    told = lt_bench("per-class", *sorted(Path("results").rglob("seed*.json"), key=lambda path: path.stat().st_mtime))
    first_line, second, _, titles = told.out.splitlines()[:4]
    assert (first_line.split("[flip ")[1][:3], first_line.split(": ")[1]) == ("yes", "seeds 0, 1")
    assert (second.split("[flip ")[1][:2], second.split(": ")[1]) == ("no", "seed 0")
    assert all(f"[flip {flip}, normalisation " in titles for flip in ("yes", "no"))


def test_a_record_without_the_looks_of_its_card(photos: Path, lt_bench: LtBench) -> None:
    lt_bench("data", "new", "my-birds", "--images", "photos")
    assert lt_bench("run", "my-birds/ce", *SHORT, "--workers", 0).code == 0
    made = load_record(next(Path("results").rglob("seed*.json")))
    of_before = made.model_copy(update={"dataset": made.dataset.model_copy(update={"looks": None})})
    assert table_key(of_before) == table_key(made)
    card = Path("my-birds/card.yaml")
    card.write_text(card.read_text().replace("flip: true", "flip: false"))
    believe(of_before)  # though the card has other looks now
    assert (table_key(of_before).flip, table_key(made).flip) == ("", "yes")
    # With images held out the digest of the split, which has these in it, does not tell of the card.
    assert looks_of(of_before.dataset, held_out=True) == load_card("my-birds").looks
    other = made.dataset.looks.model_copy(update={"flip": False})  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"^dataset\.split_sha256: .*"):
        believe(made.model_copy(update={"dataset": made.dataset.model_copy(update={"looks": other})}))
