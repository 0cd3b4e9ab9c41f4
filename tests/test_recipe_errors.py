"""Recipes that must be refused: one line that names the file, the field, what is wrong and the nearest valid name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lt_bench.errors import UserError
from lt_bench.recipe import data_spec, load_recipe
from lt_bench.recipe.overrides import split_arguments

BASE = "extends: protocols/digits-demo\ndata: {name: digits-lt, factor: 10}\nmodel: {backbone: resnet8}\n"
DISTANCE = "mix: {name: class-distance-mix-ours, generator: %s}"


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        # Unknown fields, at every level.
        ("mixx: cmo", "'mixx' is not a known field of a recipe; did you mean mix?"),
        ("losss: focal", "did you mean loss?"),
        ("1: 2", "'1' is not a known field of a recipe"),
        ("name: mine", "'name' is not a known field of a recipe"),
        ("overrides: [a=b]", "'overrides' is not a known field of a recipe"),
        ("plugins: {a: b}", "'plugins' is not a known field of a recipe"),
        ("mix: {name: cmo, probabilty: 0.5}", "mix.probabilty: .* did you mean probability?"),
        ("loss: {weights: {name: effective-number, betta: 0.9}}", "loss.weights.betta: .* did you mean beta?"),
        ("protocol: {epoch: 3}", "protocol.epoch: .* did you mean epochs?"),
        ("protocol: {optimizer: {momentun: 0}}", "protocol.optimizer.momentun: .* did you mean momentum?"),
        ("protocol: {augmentation: {cutuot: 8}}", "protocol.augmentation.cutuot: .* did you mean cutout?"),
        ("data: {factr: 3}", "data.factr: .* did you mean factor?"),
        ("model: {back: resnet20}", "model.back: .* did you mean backbone?"),
        ("model: {head: {name: cosine, scale: 3}}", "model.head.scale: 'scale' is not a known field of model.head"),
        ("method: {name: standard, tau: 1}", "method.tau: 'tau' is not a known field of method"),
        ("phases: [{until: 100%, losss: focal}]", r"phases\[0\]: .* did you mean loss?"),
        ("phases: [{until: 100%, 1: 2, loss: focal}]", r"phases\[0\]: '1' is not a known field"),
        (
            "phases: [{until: 100%, loss: {tua: 2, name: logit-adjustment}}]",
            r"phases\[0\].loss.tua: .* did you mean tau?",
        ),
        ('reported: [{paper: "x\\ny", top1: 1}]', "reported.0.paper: .*pattern"),
        ("reported: [{paper: x, top: 50}]", "reported.0.top: .* did you mean top1?"),
        # Unknown names.
        ("mix: cm", "mix: 'cm' is not a known mix; did you mean cmo?"),
        ("mix: {name: cutmixx}", "mix.name: .* did you mean cutmix?"),
        ("loss: ldma", "loss: .* did you mean ldam?"),
        ("sampler: reversed", "sampler: .* did you mean reverse?"),
        ("method: dbnmix", "method: .* did you mean dbn-mix?"),
        ("model: {backbone: resnet31}", "model.backbone: .* did you mean resnet3?"),
        ("model: {head: cosin}", "model.head: .* did you mean cosine?"),
        ("data: {name: cifar11-lt}", "data.name: .* did you mean cifar10?"),
        ("loss: {weights: effective-numbers}", "loss.weights.name: .*'effective-number' or 'inverse-frequency'"),
        ("phases: [{until: 100%, mix: mixupp}]", r"phases\[0\].mix: .* did you mean mixup?"),
        ("mix: os.system", "mix: 'os.system' is not a known mix"),
        # A mix inside a mix.
        (DISTANCE % "cmoo", "mix.generator: 'cmoo' is not a known generator; did you mean cmo?"),
        (DISTANCE % "none", "mix.generator: none cannot be a generator: it mixes nothing$"),
        (
            DISTANCE % "class-distance-mix-ours",
            "mix.generator: class-distance-mix-ours cannot be a generator: it only chooses partners$",
        ),
        (DISTANCE % "label-occurrence-balanced-mixup", "with partners other than its own it is mixup$"),
        (DISTANCE % "3", "mix.generator: expected a name or a mapping with a name, found 3$"),
        (DISTANCE % "null", "mix.generator: expected a name or a mapping with a name, found None$"),
        (DISTANCE % "[cmo]", "mix.generator: expected a name or a mapping with a name, found .'cmo'.$"),
        (DISTANCE % "{name: [cmo]}", "mix.generator: .* is not a known generator"),
        (
            DISTANCE % "{name: cmo, bata: 1}",
            "mix.generator.bata: 'bata' is not a known field of cmo; did you mean beta?",
        ),
        (
            DISTANCE % "{name: cmo, probability: 2}",
            "mix.generator.probability: should be less than or equal to 1, found 2$",
        ),
        (DISTANCE % "{alpha: {x: 1}}", "mix.generator.alpha: should be a valid number, found {'x': 1}$"),
        (
            DISTANCE % "cmo, alpha: 0.5",
            "mix.alpha: has no effect on cmo, which brings its own settings, found 0.5$",
        ),
        # Wrong types and values.
        ("data: {factor: 0.5}", "data.factor: should be greater than or equal to 1, found 0.5"),
        ("data: {factor: .nan}", "data.factor"),
        ("data: {factor: .inf}", "data.factor"),
        ("data: {factor: '10'}", "data.factor: should be a valid number, found '10'"),
        ("data: {factor: true}", "data.factor: should be a valid number, found True"),
        ("data: {subset_seed: 1.5}", "data.subset_seed: .*integer"),
        ("data: {subset_seed: -1}", "data.subset_seed: .*greater than or equal to 0"),
        ("data: {profile: pareto}", "data.profile: should be 'exponential' or 'step', found 'pareto'"),
        ("data: digits-lt", "data: should be .*, found 'digits-lt'"),
        ("data: null", "data: .*found None"),
        ("model: resnet8", "model: should be .*, found 'resnet8'"),
        ("model: {backbone: 8}", "model.backbone: expected the name of a backbone, found 8"),
        ("model: {backbone: [resnet8]}", "model.backbone: expected the name"),
        ("mix: null", "mix: expected a name or a mapping with a name, found None"),
        ("mix: 3", "mix: expected a name or a mapping with a name, found 3"),
        ("mix: [mixup, cutmix]", "mix: expected a name or a mapping with a name"),
        ("mix: {name: 3}", "mix.name: expected the name of a mix, found 3"),
        ("mix: {name: mixup, alpha: -1}", "mix.alpha: should be greater than or equal to 0, found -1"),
        ("mix: {name: cmo, probability: 1.5}", "mix.probability: should be less than or equal to 1, found 1.5"),
        ("mix: {name: mixup, alpha: .inf}", "mix.alpha: .*finite"),
        ("mix: {name: mixup, alpha: .nan}", "mix.alpha: .*number"),
        ("protocol: {epochs: 0}", "protocol.epochs: should be greater than or equal to 1, found 0"),
        ("protocol: {optimizer: {momentum: 0, nesterov: true}}", "protocol.optimizer: nesterov needs a momentum"),
        ("protocol: {schedule: {milestones: [3]}}", "protocol.schedule: 1 milestones but 2 factors"),
        ("protocol: {name: a/../b}", "protocol.name: .*pattern"),
        ("protocol: null", "protocol: required"),
        ("notes: [a]", "notes: should be a valid string"),
        ("reported: [{top1: 50}]", "reported.0.paper: this field is required"),
        ("reported: [{paper: x, top1: 101}]", "reported.0.top1: .*less than or equal to 100"),
        # Phases.
        ("phases: []", "phases: expected a list of mappings with `until`"),
        ("phases: 80%", "phases: expected a list of mappings with `until`"),
        ("phases: [80%]", "phases: expected a list of mappings with `until`"),
        ("phases: [{loss: focal}]", r"phases\[0\].until: expected an epoch .* found None"),
        ("phases: [{until: true}]", r"phases\[0\].until: expected an epoch .* found True"),
        ("phases: [{until: 80}]", "phases: the last one ends at epoch 80 but the protocol trains"),
        ("phases: [{until: 0%}, {until: 100%}]", "phases: `until` must increase"),
        ("phases: [{until: 60%}, {until: 40%}, {until: 100%}]", "phases: `until` must increase"),
        ("phases: [{until: 50%}]", "percentages .* fit every protocol"),
        ("phases: [{until: 100%, loss: null}]", r"phases\[0\].loss: expected a name"),
        # Parts that do not fit together.
        ("loss: ldam", "model.head: the loss ldam needs the head cosine, found linear"),
        (
            "model: {backbone: resnet8, head: cosine}",
            "model.head: cosine gives cosines in .* too flat for cross-entropy",
        ),
        ("method: dbn-mix", "model.head: the method dbn-mix needs dual-branch"),
        ("method: bbn", "model.head: the method bbn needs bilateral"),
        *(
            (
                f"model: {{backbone: resnet8, head: {head}}}",
                f"model.head: {head} has layers that the method standard does not train",
            )
            for head in ("contrastive", "prototypes", "twin-classifier")
        ),
        ("method: dbn-mix\nmix: mixup", "mix: the method dbn-mix brings its own mix; remove this one"),
        ("method: dbn-mix\nsampler: reverse", "sampler: the method dbn-mix brings its own sampler"),
        ("method: dbn-mix\nloss: {weights: inverse-frequency}", "loss: the method dbn-mix brings its own loss"),
        (
            "method: dbn-mix\nphases: [{until: 50%}, {until: 100%, loss: {weights: effective-number}}]",
            "loss: the method dbn-mix brings its own loss",
        ),
        ("phases: [{until: 50%}, {until: 100%, loss: ldam}]", "model.head: the loss ldam needs the head cosine"),
        (
            "method: {name: balpoe, tau: [0, 2]}\nmodel: {head: experts}",
            "yaml: method.tau: has 2 values for the 3 experts of the head",
        ),
        (
            "method: sade\nmodel: {head: {name: experts, num_experts: 2}}",
            "yaml: model.head.num_experts: sade trains 3 experts, found 2",
        ),
        (
            "method: ride\nmodel: {head: {name: experts, scale: 16}}",
            "yaml: method.scale: 30 has to be the scale of the head, 16",
        ),
        (
            "method: {name: ncl, num_networks: 2}\nmodel: {head: ensemble}",
            "yaml: method.num_networks: is 2, but the head has 3",
        ),
        (
            "method: {name: ncl, hard_classes: 30}\nmodel: {head: ensemble}",
            "yaml: method.hard_classes: is 30, but there are 10 classes",
        ),
        # Inheritance.
        ("extends: protocols/digits", "protocol: .* did you mean digits-demo?"),
        ("extends: digits-lt/c", "extends: 'digits-lt/c' is not a known recipe or protocol"),
        ("extends: [a, b]", "extends: expected the name of a recipe or protocol"),
        ("extends: mine", "extends: 'mine' is not a known recipe or protocol"),  # nothing extends itself
        ("extends: null", "protocol: required"),
    ],
)
def test_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mine.yaml"
    given = {line.split(":")[0] for line in text.splitlines()}
    base = [line for line in BASE.splitlines() if line.split(":")[0] not in given - {"data", "model"} or not given]
    # A data or model block of one's own still needs the rest of it.
    path.write_text("\n".join(line for line in base if line.split(":")[0] not in given) + "\n" + fill(text) + "\n")
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert re.search(complaint, message), message


def fill(text: str) -> str:
    """Complete the blocks `data` and `model` of a case, so that what is tested is their only mistake."""
    text = re.sub(r"^data: \{(?!name)", "data: {name: digits-lt, ", text, flags=re.M)
    return re.sub(r"^model: \{(?!backbone)", "model: {backbone: resnet8, ", text, flags=re.M)


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
        ("mix.probability=\n1", "overrides.0: .*pattern"),
        (f"phases=[{{until: 100%{' ' * 500}}}]", "overrides.0: .*at most 500 characters"),
    ],
)
def test_refused_overrides(tmp_path: Path, override: str, complaint: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(BASE + "mix: cmo\nphases: [{until: 100%}]\n")
    assert re.search(complaint, refusal(path, override))


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


def test_a_refusal_stays_short(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(BASE)
    for override in (f"loss={'9' * 9000}", f"loss={'x' * 9000}", f"{'x' * 9000}=1", f"phases=[{'{until: 1},' * 900}]"):
        assert len(refusal(path, override)) < 1000
    assert len(refusal(Path("x" * 3000))) < 1000


def test_a_cycle_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b\n")
    (tmp_path / "b.yaml").write_text("extends: c\n")
    (tmp_path / "c.yaml").write_text("extends: a\n")
    assert "extends itself, through a.yaml -> b.yaml -> c.yaml" in refusal(tmp_path / "a.yaml")


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)
    (tmp_path / "empty.yaml").touch()
    assert "expected a mapping of fields, found NoneType" in refusal(tmp_path / "empty.yaml")
    (tmp_path / "list.yaml").write_text("- extends: x\n")
    assert "expected a mapping of fields, found list" in refusal(tmp_path / "list.yaml")
    (tmp_path / "twice.yaml").write_text(BASE + "mix: cmo\nmix: none\n")
    assert re.search(r"twice\.yaml:5: .*duplicate key 'mix'", refusal(tmp_path / "twice.yaml"))
    (tmp_path / "tag.yaml").write_text(BASE + "mix: !!python/object/apply:os.system [false]\n")
    assert "is not read" in refusal(tmp_path / "tag.yaml")
    (tmp_path / "bare.yaml").write_text("mix: cmo\n")
    assert "says what a method is, not what it is tried on; run it on a setting" in refusal(tmp_path / "bare.yaml")
    (tmp_path / "no-protocol.yaml").write_text("data: {name: digits-lt}\nmodel: {backbone: resnet8}\n")
    assert "protocol: required, such as `protocol: cifar-200ep`" in refusal(tmp_path / "no-protocol.yaml")


def test_a_name_that_no_record_could_carry(tmp_path: Path) -> None:
    path = tmp_path / "line\nbreak.yaml"
    path.write_text(BASE)
    with pytest.raises(UserError, match=r"name: .*pattern"):
        load_recipe(path)


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


def test_a_component_that_is_like_none_may_be_in_a_plug_in() -> None:
    far = refusal(Path("digits-lt/ce"), "mix=rarer")
    assert "did you mean" not in far
    assert "unimix); one of your own comes in by --plugin FILE (with mix=rarer)" in far
    assert "--plugin" not in refusal(Path("digits-lt/ce"), "mix=cutmux")


def test_a_name_that_is_no_recipe() -> None:
    assert "did you mean digits-lt/ce" in refusal(Path("digits-lt/cee"))
    assert "did you mean digits-lt?" in refusal(Path("digit-lt/ce"))
    assert refusal(Path("ce")) == (
        "ce: is a method; say what it is run on, such as cifar10-lt-noisy/ce, cifar10-lt/ce, cifar10/ce, "
        "cifar100-lt/ce, cifar100/ce, cifar10n-lt/ce, digits-lt/ce, imagenet-lt/ce"
    )
    assert refusal(Path("digits-lt")) == "digits-lt: is a setting; say what is run on it, such as digits-lt/ce"
    assert "did you mean digits-lt/mixup?" in refusal(Path("recipes/digits-lt/mixp.yaml"))
    assert "there is no such file" in refusal(Path("x" * 3000))


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


# --- second stages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("second_stage=crtt",), r"second_stage: 'crtt' is not a known stage; did you mean crt\?"),
        (("second_stage=[crt]",), r"second_stage: expected a name or a mapping with a name"),
        (("second_stage.lr=0.1",), r"second_stage: expected a name or a mapping with a name"),
        (
            ("second_stage=crt", "second_stage.epoch=3"),
            r"'epoch' is not a known field of second_stage; did you mean epochs",
        ),
        (("second_stage=tau-norm", "second_stage.epochs=3"), r"second_stage.epochs: .*0"),
        (("second_stage=crt", "second_stage.loss=ldam"), r"the loss ldam needs the head cosine, found linear"),
        (
            ("second_stage=crt", "second_stage.sampler=balanced"),
            r"second_stage.sampler: 'balanced' is not a known sampler",
        ),
        (("second_stage=crt", "model.head=cosine", "loss=ldam"), r"starts from the head linear, found cosine"),
        (("second_stage=crt", "second_stage.epochs=0"), r"second_stage.epochs: .*greater than or equal to 1"),
        (("second_stage=ncm", "second_stage.lr=0.5"), r"second_stage: lr has no effect on a stage that trains nothing"),
        (("second_stage=ncm", "second_stage.mix=cmo"), r"second_stage.mix: ncm trains nothing; leave it out"),
        (("second_stage=ncm", "second_stage.loss=focal"), r"second_stage.loss: ncm trains nothing, and focal leaves"),
        (("second_stage=post-hoc", "second_stage.loss.post_hoc=false"), r"logit-adjustment leaves the logits alone"),
        (("second_stage=post-hoc", "second_stage.loss=cross-entropy"), r"cross-entropy leaves the logits alone"),
    ],
)
def test_second_stages_that_cannot_be(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_recipe("digits-lt/ce", overrides)
    assert "\n" not in str(caught.value)


def test_a_loss_may_read_what_no_stage_trained() -> None:
    post_hoc = ["second_stage=ncm", "second_stage.loss={name: logit-adjustment, post_hoc: true}"]
    second = load_recipe("digits-lt/ce", post_hoc).second_stage
    assert second is not None
    assert second.loss["post_hoc"] is True


def test_a_second_stage_changes_nothing_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: digits-lt/ce\nloss: balanced-softmax\nsecond_stage: crt\n")
    with pytest.raises(UserError, match="the recipe changes what it extends; the first stage has to be ce itself"):
        load_recipe(path)
    path.write_text(
        "extends: protocols/digits-demo\ndata: {name: digits-lt}\nmodel: {backbone: resnet8}\nsecond_stage: crt\n"
    )
    with pytest.raises(UserError, match="the recipe must extend that of its first stage"):
        load_recipe(path)


def test_an_inherited_second_stage_follows_the_same_first_stage(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: digits-lt/crt\nnotes: mine\n")
    assert load_recipe(path).first() == load_recipe("digits-lt/ce")
    path.write_text("extends: digits-lt/crt\ndata: {factor: 5}\n")
    assert "second_stage: beside it the recipe changes what it extends" in refusal(path)
