"""The field `regularise` of a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

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
        ("regularise.batch-augmentation.times=1", r"regularise\.batch-augmentation\.times"),
        ("regularise.drop-block.side=4", r"regularise\.drop-block\.side: should be odd, found 4"),
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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["regularise.no-norm-decay={}", "protocol.optimizer.decay_norms_and_biases=false"],
            r"regularise\.no-norm-decay: the protocol cifar-200ep has it already",
        ),
        (
            ["regularise.zero-init={}", "model.backbone={name: timm/resnet18, pretrained: true}"],
            r"regularise\.zero-init: the network starts from trained weights",
        ),
    ],
)
def test_what_would_change_nothing_or_undo_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe("cifar100-lt/ce", overrides)


def test_smoothed_labels_and_then_one_hot_ones() -> None:
    """The values of the survey's card."""
    recipe = load_recipe("cifar100-lt/tsla")
    smooth, hard = (phase.loss.component([1] * 4, phase.loss.config) for phase in recipe.phase_choices())
    assert [phase.until for phase in recipe.phases] == [100, 200]
    logits, labels = torch.tensor([[2.0, 0, 0, 0]], requires_grad=True), torch.tensor([0])
    assert smooth(logits, labels).item() == pytest.approx(0.490753, abs=1e-6)
    assert hard(logits, labels).item() == pytest.approx(0.340753, abs=1e-6)
    (gradient,) = torch.autograd.grad(smooth(logits, labels), logits)
    targets = torch.tensor([[0.925, 0.025, 0.025, 0.025]])
    torch.testing.assert_close(gradient, logits.detach().softmax(1) - targets)
