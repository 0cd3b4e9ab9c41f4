"""Overrides that must be refused, for what they say or for what the recipe becomes by them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from refusal_cases import BASE, refusal

from lt_bench.errors import UserError
from lt_bench.recipe import data_spec, load_recipe
from lt_bench.recipe.overrides import split_arguments

# --- what an override says ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("mix", "override 'mix': expected key.path=value"),
        ("=3", "override '=3': expected key.path=value"),
        ("mix=[1, 2", "override 'mix=.1, 2':1: not readable YAML"),
        ("mix=!!python/name:os.system", "not readable YAML: the tag .* is not read"),
        ("mixx.alpha=1", "'mixx' is not a known field of a recipe; did you mean mix?"),
        ("data.factr=50", "data.factr: .* did you mean factor?"),
        ("protocol.optimiser.lr=1", "protocol.optimiser: .* did you mean optimizer?"),
        ("protocol.optimizer.lr.x=1", "override protocol.optimizer.lr.x: protocol.optimizer.lr has no fields"),
        ("phases.0.until=3", "override phases.0.until: phases is a list; override it as a whole"),
        ("data.factor=0.5", "data.factor: should be greater than or equal to 1, found 0.5"),
        ("data.factor=ten", "data.factor: should be a valid number, found 'ten'"),
        ("mix=cmoo", "mix: 'cmoo' is not a known mix; did you mean cmo?"),
        ("loss=ldam", "model.head: the loss ldam needs the head cosine"),
        ("protocol.augmentation.interpolation=bicubic", "interpolation belongs to resized-crop, the kind is crop-flip"),
        (
            "protocol.augmentation={kind: resized-crop, interpolation: cubic}",
            "protocol.augmentation.interpolation: .*bilinear.*bicubic.*cubic",
        ),
        ("protocol.optimizer=adam", "protocol.optimizer.name: 'adam' is not a known optimizer; did you mean adamw?"),
        (
            "protocol.optimizer.name=[1]",
            r"'\[1\]' is not a known optimizer \(allowed: adamw, lamb, sgd\)",
        ),
        ("protocol.optimizer=3", "protocol.optimizer: should be an object, found 3"),
        (
            "protocol.optimizer={name: adamw, momentum: 0.9}",
            r"optimizer.momentum: 'momentum' is not a known field of protocol.optimizer \(adamw\) \(allowed: betas",
        ),
        (
            "protocol.optimizer={name: lamb, esp: 1.0}",
            r"field of protocol.optimizer \(lamb\); did you mean eps?",
        ),
        ("protocol.optimizer={name: lamb, eps: 0}", "protocol.optimizer.eps: should be greater than 0, found 0"),
        ("protocol.ema=0.9", "protocol.ema: should be an object, found 0.9"),
        ("protocol.ema.decay=1.0", "protocol.ema.decay: should be less than 1, found 1.0"),
        ("protocol.schedule.warmup_lr=0.5", "protocol: schedule.warmup_lr 0.5 is above optimizer.lr 0.1 "),
        (
            "protocol.schedule={name: cosine, warmup_epochs: 1, cooldown_epochs: 14}",
            "protocol.schedule.cooldown_epochs: 14 after a warm-up of 1 leave nothing of the 15 epochs",
        ),
        ("protocol.schedule.warmup_epochs=.inf", "protocol.schedule.warmup_epochs: should be a finite number"),
        ("protocol.optimizer.lr=.inf", "protocol.optimizer.lr: should be a finite number"),
        ("protocol=cifar-20ep", "protocol: 'cifar-20ep' .* did you mean cifar-200ep?"),
        ("protocol={epochs: 3}", "protocol.name: this field is required"),
        (
            "protocol.name=cifar-200ep",
            "override 'protocol.name=.*: says what a protocol's file is called; protocol=NAME",
        ),
        ("protocol.version=2", "override 'protocol.version=2': says what a protocol's file is called"),
        (
            "extends=protocols/cifar-30ep",
            "override 'extends=.*: a recipe is extended in a file; protocol=NAME replaces",
        ),
        ("protocol.augmentation.mean=[128, 128, 128]", "augmentation.mean.0: should be less than or equal to 1"),
        ("protocol.augmentation.mean=[.nan, 0.5, 0.5]", "augmentation.mean.0: should be"),
        ("protocol.augmentation.std=[.inf, 1, 1]", "augmentation.std.0: should be a finite number"),
        ("protocol.augmentation.std=[0, 1, 1]", "std must be positive"),
        ("protocol.schedule={milestones: [8, 15], factors: [0.1, 0.01]}", "15 lies behind the 15 epochs"),
        ("protocol.schedule={milestones: [-5], factors: [0.1]}", "milestones.0: should be greater than or equal to 1"),
        ("protocol.schedule={milestones: [101%], factors: [0.1]}", "milestones: .*a percentage such as 80%"),
        ("protocol.schedule={warmup_epochs: 15}", "warmup_epochs: 15 leave nothing of the 15 epochs"),
        ("protocol.epochs=1000000000", "protocol.epochs: should be less than or equal to 1000000"),
        ("phases=[{until: 50%}, {until: 101%}]", r"phases\[1\].until: .* found '101%'"),
        (f"phases=[{{until: {'9' * 300}%}}]", r"phases\[0\].until: expected an epoch .*\.\.\."),
        ("model.head={name: experts, num_experts: 100000000}", "num_experts: should be less than or equal to 64"),
        (f"sampler={'9' * 5000}", "is beyond"),
        ("name=other", "'name' is not a known field of a recipe"),
        (f"notes2={'x' * 30}", "'notes2' is not a known field of a recipe; did you mean notes?"),
        ("mix.probability=\n1", "overrides.0: should be one line of text"),
        (f"phases=[{{until: 100%{' ' * 500}}}]", "overrides.0: .*at most 500 characters"),
    ],
)
def test_refused_overrides(tmp_path: Path, override: str, complaint: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(BASE + "mix: cmo\nphases: [{until: 100%}]\n")
    assert re.search(complaint, refusal(path, override))


@pytest.mark.parametrize(
    ("name", "override", "meant"),
    [
        ("cifar100-lt/ce", "epochs=2", "protocol.epochs"),
        ("cifar100-lt/ce", "epoch=2", "protocol.epochs"),
        ("cifar100-lt/ce", "lr=0.1", "protocol.optimizer.lr"),
        ("cifar100-lt/ce", "optimizer.lr=0.1", "protocol.optimizer"),
        ("cifar100-lt/crt", "lr=0.1", "second_stage.lr or protocol.optimizer.lr"),
        ("cifar100-lt/ce", "factor=50", "data.factor"),
        ("cifar100-lt/ce", "batch_size=64", "protocol.batch_size"),
        ("cifar100-lt/ce", "weight_decay=0", "protocol.optimizer.weight_decay"),
        ("cifar100-lt/ce", "backbone=resnet20", "model.backbone"),
        ("cifar100-lt/mixup", "alpha=1", "mix.alpha"),
        ("cifar100-lt/ldam", "max_margin=1", "loss.max_margin"),
        ("cifar100-lt/ride", "scale=30", "method.scale or model.head.scale or protocol.augmentation.scale"),
        ("cifar100-lt/ce", "protocol.lr=0.1", "protocol.optimizer.lr"),
        ("cifar100-lt/ce", "betas=[0.9, 0.95]", "protocol.optimizer.betas"),
        ("cifar100-lt/ce", "max_grad_norm=1", "protocol.optimizer.max_grad_norm"),
        ("cifar100-lt/ce", "data.epochs=2", "protocol.epochs"),
        ("cifar100-lt/ce", "data.epoch=2", "protocol.epochs"),
        ("cifar100-lt/ce", "data.factr=2", "factor"),
        ("cifar100-lt/ce", "protocol.factor=2", "data.factor"),
        ("cifar100-lt/mixup", "loss.alpha=1", "mix.alpha"),
        ("cifar100-lt/mixup", "mix.alhpa=1", "alpha"),
        ("cifar100-lt/crt", "second_stage.epoch=1", "epochs"),
    ],
)
def test_a_setting_at_the_wrong_place_is_told_its_own(name: str, override: str, meant: str) -> None:
    assert f"; did you mean {meant}? (" in refusal(Path(name), override)


@pytest.mark.parametrize("override", ["alpha=1", "learning_rate=1"])
def test_a_setting_that_the_recipe_has_nowhere_is_told_none(override: str) -> None:
    assert "did you mean" not in refusal(Path("cifar100-lt/ce"), override)


def test_no_recipe_at_all() -> None:
    with pytest.raises(UserError, match="no recipe given"):
        split_arguments(["mix=cmo"])


def test_an_override_does_not_undo_another() -> None:
    with pytest.raises(UserError, match=r"override mix: would undo mix\.alpha, which stands before it"):
        split_arguments(["digits-lt/mixup", "mix.alpha=2", "mix=cmo"])
    with pytest.raises(UserError, match=r"optimizer\.name: would undo protocol\.optimizer\.lr, which"):
        split_arguments(["digits-lt/ce", "protocol.optimizer.lr=1", "protocol.optimizer.name=adamw"])
    _, kept = split_arguments(["digits-lt/ce", "mix=cmo", "mix.probability=1", "mix.probability=0.5"])
    assert kept == ["mix=cmo", "mix.probability=0.5"]


def test_what_was_overridden_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(BASE)
    assert refusal(path, "mix=cm").endswith(" (with mix=cm)")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["factor=0.5"], "digits-lt: data.factor: should be greater than or equal to 1"),
        (["factr=5"], "'factr' is not a known field of data; did you mean factor?"),
        (["name=cifar10-lt"], "the name of the data set comes first"),
        (["factor"], "expected key.path=value"),
    ],
)
def test_settings_of_a_split(settings: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        data_spec("digits-lt", settings)


def test_a_refusal_stays_short(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(BASE)
    for override in (f"loss={'9' * 9000}", f"loss={'x' * 9000}", f"{'x' * 9000}=1", f"phases=[{'{until: 1},' * 900}]"):
        assert len(refusal(path, override)) < 1000
    assert len(refusal(Path("x" * 3000))) < 1000


# --- what would never act ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "overrides", "complaint"),
    [
        (
            "cmo",
            ["protocol.epochs=4"],
            r"mix: cmo would act in none of the epochs 0 to 3 of 4 \(start_epoch 3, stop_before",
        ),
        ("cmo", ["mix.start_epoch=14"], "mix: cmo would act in none of the epochs 0 to 14 of 15"),
        ("ce", ["phases=[{until: 80%}, {until: 100%, mix: cmo}]"], "mix: cmo would act in none of the epochs 12 to 14"),
        (
            "bbn",
            ["protocol.epochs=1"],
            r"method: bbn would train its re-balancing branch in none of the epochs 0 to 0 of 1 \(its weight is 0",
        ),
        (
            "ride",
            ["protocol.epochs=2"],
            r"method: ride would re-weight the rare classes in none of the epochs 0 to 1 of 2 \(reweight_from 0.8\)",
        ),
        (
            "glmc",
            ["protocol.epochs=1"],
            r"glmc would train the classifier that predicts in none of the epochs 0 to 0 of 1 \(its weight is 0",
        ),
        (
            "progressive-sampling",
            ["protocol.epochs=1"],
            r"would leave the natural law in none .* \(the first draws by it",
        ),
        ("unimix-bayias", ["mix.stop_epoch=0"], "mix: unimix would act in none"),
        ("crt", ["second_stage.mix=cmo", "second_stage.epochs=5"], "second_stage.mix: cmo would act in none"),
    ],
)
def test_what_would_never_act_is_refused(name: str, overrides: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        load_recipe(f"digits-lt/{name}", overrides)


@pytest.mark.parametrize(
    ("method", "least"),
    {
        "ldam-drw": 2,
        "bbn": 2,
        "glmc": 2,
        "progressive-sampling": 2,
        "ride": 3,
        "class-distance-mix-ours": 6,
        "cmo": 8,
        "class-distance-mix-ours-cmo": 9,
    }.items(),
)
def test_the_shortest_training_that_readme_gives_a_method(method: str, least: int) -> None:
    load_recipe(f"imagenet-mini/{method}", [f"protocol.epochs={least}"])
    with pytest.raises(UserError, match=r"would .* in none of the epochs|2 phases need at least 2 epochs, found 1"):
        load_recipe(f"imagenet-mini/{method}", [f"protocol.epochs={least - 1}"])


def test_what_acts_in_one_of_its_phases_is_not_refused() -> None:
    assert len(load_recipe("digits-lt/cmo-ldam-drw").phases) == 2  # in the second CMO has stopped
    assert load_recipe("digits-lt/cmo", ["protocol.epochs=8"]).protocol.epochs == 8
