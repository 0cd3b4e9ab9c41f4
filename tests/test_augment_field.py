"""The field `augment` of a recipe, and `augmentation.then` of a protocol."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lt_bench.errors import UserError
from lt_bench.losses import BalancedSoftmax, CrossEntropy
from lt_bench.recipe import load_recipe
from lt_bench.recipe.showing import show


def test_a_recipe_without_it_keeps_its_form() -> None:
    resolved = load_recipe("cifar100-lt/ce").resolved()
    assert "augment" not in resolved
    assert "then" not in resolved["protocol"]["augmentation"]
    assert "label_smoothing" not in resolved["phases"][0]["loss"]


def test_settings_are_completed_and_follow_the_data_set() -> None:
    assert load_recipe("cifar100-lt/cutout").augment == {"cutout": {"side": 8, "holes": 1}}
    assert load_recipe("cifar10-lt/cutout").augment == {"cutout": {"side": 16, "holes": 1}}
    assert load_recipe("imagenet-mini/auto-augment").augment == {"auto-augment": {"policy": "imagenet"}}


def test_overrides_reach_it_and_add_to_any_recipe() -> None:
    recipe = load_recipe("cifar100-lt/balanced-softmax", ["augment.cutout.side=12", "augment.rand-augment={}"])
    assert recipe.augment == {"cutout": {"side": 12, "holes": 1}, "rand-augment": {"operations": 2, "magnitude": 9}}
    assert recipe.sha256() != load_recipe("cifar100-lt/balanced-softmax").sha256()
    assert not recipe.protocol_modified()


def test_a_second_stage_has_it_too() -> None:
    recipe = load_recipe("cifar100-lt/crt", ["augment.cutout={}"])
    first = recipe.first()
    assert first is not None
    assert recipe.augment == first.augment == {"cutout": {"side": 16, "holes": 1}}


def test_a_protocol_may_name_further_ones(tmp_path: Path) -> None:
    override = "protocol.augmentation.then={rand-augment: {magnitude: 7}}"
    recipe = load_recipe("cifar100-lt/ce", [override])
    assert recipe.protocol.augmentation.then == {"rand-augment": {"operations": 2, "magnitude": 7}}
    assert recipe.protocol_modified()
    path = tmp_path / "resolved.yaml"
    path.write_text(show("cifar100-lt/ce", [override]), encoding="utf-8")
    assert load_recipe(path).sha256() == recipe.sha256()


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("ce", "augment.cutuot.side=8", r"augment\.cutuot.*did you mean cutout\?"),
        ("ce", "augment.cutout.sides=8", r"augment\.cutout\.sides"),
        ("ce", "augment.cutout.side=0", r"augment\.cutout\.side"),
        ("ce", "augment=cutout", r"augment: expected such as \{cutout: \{side: 8\}\}, found 'cutout'"),
        ("ce", "augment.cutout=8", r"augment\.cutout: expected settings, found 8"),
        ("ce", "protocol.augmentation.then.cutuot={}", r"then\.cutuot.*did you mean cutout\?"),
        ("cutout", "protocol=cifar-400ep-aa", r"augment\.cutout: the protocol cifar-400ep-aa has it already"),
        ("label-smoothing", "loss.label_smoothing=1.5", r"loss\.label_smoothing"),
    ],
)
def test_what_means_nothing_is_refused(recipe: str, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe(f"cifar100-lt/{recipe}", [override])


def test_smoothed_labels_are_the_mean_over_classes() -> None:
    logits, labels = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([1])
    surprise = -logits.log_softmax(1)[0]
    smooth = CrossEntropy([5, 3, 1], label_smoothing=0.3)(logits, labels)
    torch.testing.assert_close(smooth, 0.7 * surprise[1] + 0.3 * surprise.mean())
    shifted = -(logits + torch.tensor([5.0, 3.0, 1.0]).log()).log_softmax(1)[0]
    balanced = BalancedSoftmax([5, 3, 1], label_smoothing=0.3)(logits, labels)
    torch.testing.assert_close(balanced, 0.7 * shifted[1] + 0.3 * shifted.mean())
