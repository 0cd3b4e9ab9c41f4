"""Recipes that must be refused: one line that names the file, the field, what is wrong and the nearest valid name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from refusal_cases import BASE, refusal

from lt_bench.errors import UserError
from lt_bench.recipe import load_recipe

DISTANCE = "mix: {name: class-distance-mix-ours, generator: %s}"


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
        ('reported: [{paper: "x\\ny", top1: 1}]', "reported.0.paper: should be one line of text"),
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
        (DISTANCE % "null", "mix.generator: expected a name or a mapping with a name, found null$"),
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
        ("data: {factor: true}", "data.factor: should be a valid number, found true"),
        ("data: {subset_seed: 1.5}", "data.subset_seed: .*integer"),
        ("data: {subset_seed: -1}", "data.subset_seed: .*greater than or equal to 0"),
        ("data: {profile: pareto}", "data.profile: should be 'exponential' or 'step', found 'pareto'"),
        ("data: digits-lt", "data: should be .*, found 'digits-lt'"),
        ("data: null", "data: .*found null"),
        ("model: resnet8", "model: should be .*, found 'resnet8'"),
        ("model: {backbone: 8}", "model.backbone: expected the name of a backbone, found 8"),
        ("model: {backbone: [resnet8]}", "model.backbone: expected the name"),
        ("mix: null", "mix: expected a name or a mapping with a name, found null"),
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
        (
            "method: paddles\nprotocol: {accumulate: 2}",
            "protocol.accumulate: the method paddles moves weights in every batch itself, so that a step is of one",
        ),
        ("protocol: {name: a/../b}", "protocol.name: .*pattern"),
        ("protocol: null", "protocol: required"),
        ("notes: [a]", "notes: should be a valid string"),
        ("reported: [{top1: 50}]", "reported.0.paper: this field is required"),
        ("reported: [{paper: x, top1: 101}]", "reported.0.top1: .*less than or equal to 100"),
        # Phases.
        ("phases: []", "phases: expected a list of mappings with `until`"),
        ("phases: 80%", "phases: expected a list of mappings with `until`"),
        ("phases: [80%]", "phases: expected a list of mappings with `until`"),
        ("phases: [{loss: focal}]", r"phases\[0\].until: expected an epoch .* found null"),
        ("phases: [{until: true}]", r"phases\[0\].until: expected an epoch .* found true"),
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
    with pytest.raises(UserError, match=r"name: should be one line of text"):
        load_recipe(path)


def test_a_component_that_is_like_none_may_be_in_a_plug_in() -> None:
    far = refusal(Path("digits-lt/ce"), "mix=rarer")
    assert "did you mean" not in far
    assert "unimix); one of your own comes in by --plugin FILE (with mix=rarer)" in far
    assert "--plugin" not in refusal(Path("digits-lt/ce"), "mix=cutmux")
    near = refusal(Path("digits-lt/ce"), "mix=my-mix")  # whose own it may be
    assert "did you mean hmix?" in near
    assert "one of your own comes in by --plugin FILE" in near


def test_a_seed_is_no_part_of_a_recipe() -> None:
    assert "seed: no part of a recipe, which every seed has; --seeds" in refusal(Path("digits-lt/ce"), "seed=3")


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
