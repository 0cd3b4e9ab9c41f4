from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from lt_bench.data.augment import Augmentation
from lt_bench.data.cards import card_names, load_card
from lt_bench.data.spec import DataSpec
from lt_bench.errors import UserError


def test_all_cards_load_and_carry_their_file_name() -> None:
    assert card_names() == ["cifar10-lt", "cifar100-lt", "digits-lt", "imagenet-lt", "imagenet-mini"]
    for name in card_names():
        card = load_card(name)
        assert card.name == name
        assert card.licence
        assert card.citation


def test_unknown_card_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean cifar10-lt"):
        load_card("cifar10lt")


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
        ({"size": 64}, "size belongs to resized-crop"),
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
