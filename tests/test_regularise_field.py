"""The field `regularise` of a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_bench.errors import UserError
from lt_bench.recipe import load_recipe
from lt_bench.recipe.showing import show
from lt_bench.training.network import check_network


def test_a_recipe_without_it_keeps_its_form() -> None:
    assert "regularise" not in load_recipe("cifar100-lt/ce").resolved()


def test_settings_are_completed_and_overrides_add_to_any_recipe() -> None:
    recipe = load_recipe("cifar100-lt/dropout", ["regularise.dropout.rate=0.2", "regularise.stochastic-depth={}"])
    assert recipe.regularise == {"dropout": {"rate": 0.2}, "stochastic-depth": {"rate": 0.5, "per": "batch"}}
    assert recipe.sha256() != load_recipe("cifar100-lt/dropout").sha256()
    assert not recipe.protocol_modified()


def test_their_order_is_no_part_of_a_recipe() -> None:
    both = ["regularise.dropout={}", "regularise.stochastic-depth={}"]
    one, other = (load_recipe("digits-lt/ce", overrides) for overrides in (both, both[::-1]))
    assert one.sha256() == other.sha256()
    assert [part.name for part in one.regularisers()] == ["dropout", "stochastic-depth"]


def test_what_is_shown_can_be_run(tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(show("digits-lt/dropout"), encoding="utf-8")
    assert load_recipe(path).sha256() == load_recipe("digits-lt/dropout").sha256()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("regularise.dropuot.rate=0.3", r"regularise\.dropuot.*did you mean dropout\?"),
        ("regularise.dropout.rates=0.3", r"regularise\.dropout\.rates"),
        ("regularise.dropout.rate=1.0", r"regularise\.dropout\.rate"),
        ("regularise=dropout", r"regularise: expected such as \{dropout: \{rate: 0.5\}\}, found 'dropout'"),
        ("regularise.dropout=0.3", r"regularise\.dropout: expected settings, found 0.3"),
    ],
)
def test_what_means_nothing_is_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe("cifar100-lt/ce", [override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["regularise.stochastic-depth={}", "model.backbone={name: vit-tiny, drop_path: 0.1}"],
            r"^cifar100-lt/ce: regularise\.stochastic-depth: this network drops its branches by itself",
        ),
        (
            ["regularise.stochastic-depth={}", "model.backbone=tiny"],
            r"regularise\.stochastic-depth: needs a network of residual blocks",
        ),
    ],
)
@pytest.mark.usefixtures("working_folder", "tiny_backbone")
def test_a_network_without_the_place_is_refused_before_training(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_network(load_recipe("cifar100-lt/ce", overrides))
