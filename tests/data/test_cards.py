from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from lt_bench.data.augment import Augmentation
from lt_bench.data.cards import card_names, load_card, read_card
from lt_bench.data.spec import DataSpec
from lt_bench.errors import UserError
from lt_bench.resources import resource_folder
from lt_bench.yaml_files import read_yaml


def test_all_cards_load_and_carry_their_file_name() -> None:
    small, large = (
        ["cifar10", "cifar10-lt", "cifar100", "cifar100-lt", "digits-lt"],
        ["imagenet-lt", "imagenet-mini", "inaturalist2018"],
    )
    assert card_names() == [*small, *large, "places-lt", "tiny-imagenet-lt"]
    for name in card_names():
        card = load_card(name)
        assert card.name == name
        assert card.licence
        assert card.citation


def test_unknown_card_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean cifar10-lt"):
        load_card("cifar10lt")


CIFAR, FOLDER, DIGITS = (
    read_yaml(resource_folder("datasets") / f"{name}.yaml") for name in ("cifar10-lt", "imagenet-mini", "digits-lt")
)


LIST = {"file": "a.txt", "images": 4}
OWN = {key: value for key, value in FOLDER.items() if key != "known"} | {
    "name": "mine",
    "n_max": 10,
    "source": {"kind": "image-folder", "folder": "photos", "train": {**LIST}, "test": {**LIST}},
}


@pytest.mark.parametrize(
    ("card", "change", "message"),
    [
        (CIFAR, {"classes": 1}, "classes: Input should be greater than or equal to 2"),
        (CIFAR, {"classes": 9}, "class_names.9: 10 classes are named, expected 9"),
        (CIFAR, {"class_names": [*"abcdefghi", "a"]}, "class_names.9: the class name 'a' is that of class_names.0 too"),
        (CIFAR, {"class_names": [*"abcdefghi", " "]}, "class_names.9: the class name ' ' is blank"),
        (CIFAR, {"class_names": [*"abcdefghi", "a\nb"]}, r"class_names.9: the class name 'a\\nb' holds a line break"),
        (CIFAR, {"class_names": [*"abcdefghi", "a" * 501]}, "class_names.9: .* has 501 characters, the most is 500"),
        (CIFAR, {"image_size": -32}, "image_size"),
        (CIFAR, {"version": 0}, "version"),
        (CIFAR, {"n_max": -1}, "n_max"),
        (CIFAR, {"n_max": None}, "profile and n_max are needed"),
        (DIGITS, {"profile": None}, "profile and n_max are needed"),
        (CIFAR, {"factor": 0.5}, "factor"),
        (CIFAR, {"factor": float("inf")}, "factor"),
        (CIFAR, {"mean": [float("nan"), 0.5, 0.5]}, "mean.0"),
        (CIFAR, {"mean": [128, 128, 128]}, "mean.0: Input should be less than or equal to 1"),
        (CIFAR, {"std": [0.2, 0, 0.2]}, "std.1: Input should be greater than 0"),
        (CIFAR, {"std": [0.2, 0.2, float("inf")]}, "std.2"),
        (CIFAR, {"std": [0.2, 0.2, float("nan")]}, "std.2"),
        (CIFAR, {"known": [{"total": -1}]}, "known.0.total"),
        (CIFAR, {"colour": "red"}, "colour: Extra inputs"),
        (FOLDER, {"profile": "exponential"}, "profile: published list files are the split, nothing is drawn from them"),
        (FOLDER, {"factor": 10}, "factor: published list files are the split"),
        (FOLDER, {"n_max": 10}, "n_max: published list files are the split"),
        (OWN, {"profile": "step"}, "profile: nothing is drawn without a factor"),
        (OWN, {"factor": 10, "n_max": None}, "n_max is needed where a factor asks for a drawn split"),
        (
            OWN,
            {"factor": 10, "source": OWN["source"] | {"validation": {**LIST}}},
            "factor: source.validation is a part",
        ),
        (FOLDER, {"classes": 2, "class_names": ["a", "b"]}, "class_names: source.class_names names a file of them"),
        (FOLDER, {"source": FOLDER["source"] | {"train": {"file": "a", "images": 0}}}, "train.images"),
    ],
)
def test_a_card_with_nonsense(tmp_path: Path, card: dict[str, Any], change: dict[str, Any], message: str) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(card | change))
    with pytest.raises(UserError, match=message) as error:
        read_card(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_card_is_called_what_its_file_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(CIFAR))
    monkeypatch.setattr("lt_bench.data.cards.resource_folder", lambda _: tmp_path)
    with pytest.raises(UserError, match=r"mine.yaml: name: 'cifar10-lt' is not the name of the file"):
        load_card("mine")


def test_a_card_names_the_classes_of_image_files(tmp_path: Path) -> None:
    source = {key: value for key, value in FOLDER["source"].items() if key != "class_names"}
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(FOLDER | {"source": source, "classes": 2, "class_names": ["a", "b"]}))
    assert read_card(path).class_names == ("a", "b")


def test_both_cifars_use_the_literatures_normalisation() -> None:
    for name in ("cifar10-lt", "cifar100-lt"):
        card = load_card(name)
        assert (card.mean, card.std) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def test_spec_takes_the_cards_defaults_and_keeps_what_is_set() -> None:
    spec = DataSpec.read({"name": "cifar100-lt", "factor": 50}).resolve(load_card("cifar100-lt"))
    assert (spec.factor, spec.profile, spec.n_max, spec.subset_seed) == (50, "exponential", 500, 0)
    assert DataSpec(name="digits-lt").resolve(load_card("digits-lt")).factor == 20
    assert spec.resolve(load_card("cifar100-lt")) == spec


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("factor", 0.5),
        ("factor", float("inf")),
        ("factor", "100"),
        ("factor", True),
        ("subset_seed", -1),
        ("subset_seed", 2**32),
        ("profile", "pareto"),
        ("n_max", 0),
        ("validation_per_class", -1),
        ("seed", 0),
    ],
)
def test_spec_refuses(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        DataSpec.read({"name": "cifar10-lt", field: value})
    assert caught.value.errors()[0]["loc"] == (field,)


@pytest.mark.parametrize(
    "setting", [{"factor": 100.0}, {"profile": "step"}, {"n_max": 5}, {"subset_seed": 1}, {"validation_per_class": 2}]
)
def test_a_set_of_list_files_leaves_nothing_to_choose(setting: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"data.{next(iter(setting))}: imagenet-lt is given by its list files"):
        DataSpec.model_validate({"name": "imagenet-lt", **setting}).resolve(load_card("imagenet-lt"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kind": "resized-crop", "cutout": 16}, "cutout belongs to crop-flip"),
        ({"kind": "resized-crop", "enlarge": 40}, "enlarge belongs to crop-flip"),
        ({"size": 64}, "size belongs to resized-crop"),
        ({"test_views": "five-crop"}, "test_views belongs to resized-crop"),
        ({"minimalist": "convex"}, "minimalist belongs to resized-crop"),
        ({"kind": "resized-crop", "scale": [0.5, 0.1]}, "scale must rise"),
        ({"std": [0.2, 0, 0.2]}, "std must be positive"),
        ({"kind": "resized-crop", "test_resize": 200}, "test_resize must be at least"),
    ],
)
def test_augmentation_refuses_what_would_be_ignored(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Augmentation.read(setting)


def test_a_recipes_data_block_needs_no_torch() -> None:
    slow = {"torch", "pyarrow", "sklearn"}
    code = f"import sys, lt_bench.data.spec, lt_bench.data.augment; print({slow} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"
