"""What a recipe means: inheritance, mixes inside mixes, phases, identity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lt_bench.data.cards import load_card
from lt_bench.errors import UserError
from lt_bench.recipe import Recipe, load_recipe
from lt_bench.resources import resource_folder

BASE = {
    "extends": "protocols/digits-demo",
    "data": {"name": "digits-lt", "factor": 10},
    "model": {"backbone": "resnet8"},
}
CMO = {"probability": 0.5, "beta": 1.0, "exponent": 1.0, "start_epoch": 3, "stop_before_end": 3}


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    """Write a recipe file that changes BASE, and load it."""

    def load(changes: dict[str, Any] | None = None, overrides: Sequence[str] = (), name: str = "mine") -> Recipe:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(BASE | (changes or {})), encoding="utf-8")
        return load_recipe(path, overrides)

    return load


# --- resolving ---------------------------------------------------------------------------------------


def test_a_resolved_recipe_leaves_nothing_open(recipe: Any) -> None:
    found = recipe({"mix": "cmo"}).resolved()
    assert found["name"] == "mine"
    assert found["method"] == {"name": "standard"}
    assert found["model"] == {"backbone": "resnet8", "head": {"name": "linear"}}
    assert found["data"]["profile"] == "exponential"
    assert found["data"]["n_max"] == load_card("digits-lt").n_max
    (phase,) = found["phases"]
    assert phase["until"] == found["protocol"]["epochs"]
    assert phase["sampler"] == {"name": "instance"}
    assert phase["loss"].items() >= {"name": "cross-entropy", "weights": None}.items()
    assert phase["mix"].items() >= {"name": "cmo", "probability": 0.5, "start_epoch": 3, "stop_before_end": 3}.items()
    assert Recipe.read(found) == recipe({"mix": "cmo"})


def test_a_name_and_a_mapping_mean_the_same(recipe: Any) -> None:
    assert recipe({"loss": "focal"}) == recipe({"loss": {"name": "focal"}})


# --- inheritance -------------------------------------------------------------------------------------


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A folder with a parent; tests add the child."""
    parent = BASE | {"loss": {"name": "ldam", "max_margin": 0.4}, "model": {"backbone": "resnet8", "head": "cosine"}}
    (tmp_path / "parent.yaml").write_text(yaml.safe_dump(parent), encoding="utf-8")
    return tmp_path


def child(folder: Path, text: str) -> Recipe:
    path = folder / "child.yaml"
    path.write_text(f"extends: parent\n{text}", encoding="utf-8")
    return load_recipe(path)


def test_settings_of_one_component_are_merged(chain: Path) -> None:
    merged = child(chain, "loss: {scale: 20}").phases[0].loss
    assert (merged["name"], merged["max_margin"], merged["scale"]) == ("ldam", 0.4, 20)
    assert child(chain, "loss: {name: ldam, scale: 20}").phases[0].loss["max_margin"] == 0.4


def test_another_component_replaces_the_old_one_whole(chain: Path) -> None:
    text = "loss: {name: logit-adjustment, tau: 2}\nmodel: {head: linear}"
    replaced = child(chain, text).phases[0].loss
    assert (replaced["name"], replaced["tau"]) == ("logit-adjustment", 2)
    assert "max_margin" not in replaced
    assert child(chain, "loss: cross-entropy\nmodel: {head: linear}").phases[0].loss["name"] == "cross-entropy"


def test_the_chain_may_be_long_and_cross_folders(chain: Path) -> None:
    (chain / "sub").mkdir()
    (chain / "child.yaml").write_text("extends: parent\nprotocol: {batch_size: 16}\n")
    (chain / "sub" / "grandchild.yaml").write_text("extends: child\ndata: {factor: 4}\n")
    found = load_recipe(chain / "sub" / "grandchild.yaml")
    assert found.name == "grandchild"
    assert (found.protocol.batch_size, found.data.factor, found.phases[0].loss["max_margin"]) == (16, 4, 0.4)
    assert found.protocol_modified()


def test_a_recipe_may_extend_the_shipped_one_of_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "ce.yaml").write_text("extends: digits-lt/ce\ndata: {factor: 4}\n")
    assert load_recipe(tmp_path / "ce.yaml").data.factor == 4


def test_a_file_that_is_called_as_a_shipped_method_is_extended_by_its_whole_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "ce.yaml").write_text("extends: digits-lt/ce\ndata: {factor: 4}\n")
    (tmp_path / "sub" / "mine.yaml").write_text("extends: ce\n")
    with pytest.raises(
        UserError, match=r"mine\.yaml: extends: ce is a shipped method and .*ce\.yaml a file; ce\.yaml is"
    ):
        load_recipe(tmp_path / "sub" / "mine.yaml")
    (tmp_path / "sub" / "mine.yaml").write_text("extends: ce.yaml\n")
    assert load_recipe(tmp_path / "sub" / "mine.yaml").data.factor == 4


def test_a_protocol_is_called_as_its_file(tmp_path: Path) -> None:
    (tmp_path / "protocols").mkdir()
    text = (resource_folder("recipes") / "protocols" / "digits-demo.yaml").read_text(encoding="utf-8")
    (tmp_path / "protocols" / "short.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "mine.yaml").write_text("extends: digits-lt/ce\nprotocol: short\n")
    with pytest.raises(
        UserError, match=r"short\.yaml: protocol\.name: expected that of the file, short, found 'digits-d"
    ):
        load_recipe(tmp_path / "mine.yaml")
    (tmp_path / "protocols" / "short.yaml").write_text(text.replace("name: digits-demo", "name: short"))
    assert load_recipe(tmp_path / "mine.yaml").protocol.name == "short"


# --- methods and settings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "factor", "beta"),
    [
        *(("cifar100-lt", factor, beta) for factor, beta in ((100, 0.995), (50, 0.99), (10, 0.72), (20, 0.995))),
        *(("cifar10-lt", factor, beta) for factor, beta in ((100, 0.998), (50, 0.998), (10, 0.96))),
        ("digits-lt", 20, 0.998),
    ],
)
def test_a_row_holds_for_its_data_set_and_factor(dataset: str, factor: float, beta: float) -> None:
    assert load_recipe(f"{dataset}/reslt", [f"data.factor={factor}"]).method["beta"] == beta


@pytest.mark.parametrize(
    ("noise", "stops"),
    [
        ("{name: cifar10n, labels: aggregate}", (20, 30, 5)),
        ("{name: cifar10n, labels: worst}", (25, 30, 5)),
        ("{name: cifar10n}", (25, 30, 5)),  # the worst ones
        ("{name: cifar10n, labels: random3}", (30, 35, 5)),
        ("{name: symmetric, rate: 0.4}", (30, 35, 150)),
        ("null", (30, 35, 150)),
    ],
)
def test_a_row_holds_under_its_label_noise(noise: str, stops: tuple[int, int, float]) -> None:
    method = load_recipe("cifar10-lt/paddles-semi", [f"data.noise={noise}"]).method
    assert (method["amplitude_stop"], method["phase_stop"], method["unlabelled_weight"]) == stops


def test_a_row_holds_under_the_noise_of_a_setting_as_overrides_leave_it() -> None:
    for labels, stop in (("worst", 25), ("random1", 20)):
        method = load_recipe("cifar10n-lt/paddles-semi", [f"data.noise.labels={labels}"]).method
        assert (method["amplitude_stop"], method["phase_stop"]) == (stop, 30)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("data: digits-lt, noise: symetric 0.4", "'symetric 0.4' is not .*did you mean symmetric"),
        ("data: cifar100-tl", "'cifar100-tl' is not a known data set; did you mean cifar100-lt"),
        ("data: [digits-lt, digit-lt]", "'digit-lt' is not a known data set; did you mean digits-lt"),
        ("data: digits-lt, factor: '50'", "factor: expected a number from 1 up, found '50'"),
        ("data: digits-lt, factor: [10, 0.5]", "factor: expected a number from 1 up, found 0.5"),
        ("data: digits-lt, factor: true", "factor: expected a number from 1 up, found true"),
    ],
)
def test_a_row_under_what_there_is_not(
    condition: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(f"extends: ce\non:\n  - {{{condition}, mix: mixup}}\n")
    with pytest.raises(UserError, match=rf"mine.yaml: on\[0\]: {said}"):
        load_recipe("digits-lt/mine")


def test_a_row_may_be_of_a_set_of_ones_own_that_is_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("extends: ce\non:\n  - {data: my-birds, mix: mixup}\n")
    assert load_recipe("digits-lt/mine").phases[0].mix["name"] == "none"


def test_a_method_of_ones_own_runs_on_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "on:\n  - {data: [digits-lt], mix: {alpha: 0.2}}\n"
    (tmp_path / "mine.yaml").write_text(f"extends: mixup\nloss: balanced-softmax\n{rows}reported: []\n")
    on_digits, on_cifar = load_recipe("digits-lt/mine"), load_recipe("cifar100-lt/mine")
    assert [recipe.phases[0].mix["alpha"] for recipe in (on_digits, on_cifar)] == [0.2, 1.0]
    assert (on_digits.name, on_digits.phases[0].loss["name"]) == ("mine", "balanced-softmax")
    (tmp_path / "ce.yaml").write_text("loss: focal\n")
    with pytest.raises(UserError, match=r"ce is a shipped method and ce\.yaml a file here; rename yours"):
        load_recipe("digits-lt/ce")


def test_a_complete_recipe_has_its_setting_in_it(tmp_path: Path) -> None:
    path = tmp_path / "whole.yaml"
    path.write_text("protocol: digits-demo\ndata: {name: digits-lt}\nmodel: {backbone: resnet8}\nmix: cmo\n")
    assert load_recipe(path).phases[0].mix["name"] == "cmo"


# --- a mix inside a mix ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "generator"),
    [
        (["mix.generator=cutmix"], "cutmix"),
        (["mix.generator=cmo"], {"name": "cmo", **CMO}),
        (["mix.generator={name: cmo, beta: 0.5}"], {"name": "cmo", **CMO, "beta": 0.5}),
        (["mix.generator=cmo", "mix.generator.probability=1"], {"name": "cmo", **CMO, "probability": 1.0}),
        (["mix.generator.alpha=0.5"], {"name": "mixup", "alpha": 0.5}),
        (
            ["mix.generator.kappa=2", "mix.generator.name=remix"],
            {"name": "remix", "alpha": 1.0, "kappa": 2.0, "tau": 0.5},
        ),
    ],
)
@pytest.mark.parametrize("name", ["digits-lt/ce", "digits-lt/class-distance-mix-ours"])
def test_a_mix_inside_a_mix_by_override(name: str, overrides: list[str], generator: object) -> None:
    found = load_recipe(name, ["mix.name=class-distance-mix-ours", *overrides])
    assert found.phases[0].mix["generator"] == generator
    again = Recipe.read(found.resolved())
    assert again == found
    assert again.phase_choices() == found.phase_choices()
    settings = again.phase_choices()[0].mix.config.model_dump(mode="json")
    assert {"name": "class-distance-mix-ours", **settings} == found.phases[0].mix


def test_a_phase_changes_one_setting_of_a_mix_inside_a_mix(recipe: Any) -> None:
    mix = {"name": "class-distance-mix-ours", "generator": {"name": "cmo", "beta": 0.5}}
    found = recipe({"mix": mix, "phases": [{"until": "60%"}, {"until": "100%", "mix": {"generator": {"beta": 2}}}]})
    assert [phase.mix["generator"] for phase in found.phases] == [{"name": "cmo", **CMO, "beta": b} for b in (0.5, 2)]


# --- phases ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "milestones", "warmup", "ends"),
    [(200, (160, 180), 5, [160, 200]), (100, (80, 90), 2, [80, 100]), (4, (3,), 0, [3, 4]), (2, (), 0, [1, 2])],
)
def test_percentages_follow_the_length_of_the_training(
    epochs: int, milestones: tuple[int, ...], warmup: float, ends: list[int]
) -> None:
    found = load_recipe("cifar100-lt/ldam-drw", [f"protocol.epochs={epochs}"])
    assert found.protocol.schedule.milestones == milestones
    assert found.protocol.schedule.factors == (0.01, 0.0001)[: len(milestones)]
    assert found.protocol.schedule.warmup_epochs == warmup
    assert [phase.until for phase in found.phases] == ends


def test_a_schedule_may_have_no_steps() -> None:
    flat = ["protocol.schedule.milestones=[]", "protocol.schedule.factors=[]"]
    assert load_recipe("digits-lt/ce", flat).protocol.schedule.milestones == ()


def test_two_phases_need_two_epochs() -> None:
    with pytest.raises(UserError, match="2 phases need at least 2 epochs, found 1"):
        load_recipe("cifar100-lt/ldam-drw", ["protocol.epochs=1"])


@pytest.mark.parametrize(("until", "epochs", "ends"), [("80%", 10, 8), ("33.4%", 10, 3), (7, 10, 7), ("50%", 3, 2)])
def test_a_phase_ends_at_an_epoch_or_a_share(recipe: Any, until: object, epochs: int, ends: int) -> None:
    found = recipe({"phases": [{"until": until}, {"until": "100%"}]}, [f"protocol.epochs={epochs}"])
    assert [phase.until for phase in found.phases] == [ends, epochs]


def test_a_phase_changes_the_top_level_and_not_the_phase_before(recipe: Any) -> None:
    phases = [
        {"until": "50%", "mix": "cutmix"},
        {"until": "80%", "loss": {"tau": 2}},
        {"until": "100%", "loss": "focal"},
    ]
    found = recipe({"loss": "logit-adjustment", "mix": {"name": "mixup", "alpha": 0.2}, "phases": phases}).phases
    assert [phase.mix["name"] for phase in found] == ["cutmix", "mixup", "mixup"]
    assert [phase.mix.get("alpha") for phase in found] == [None, 0.2, 0.2]
    assert [phase.loss["name"] for phase in found] == ["logit-adjustment", "logit-adjustment", "focal"]
    assert [phase.loss.get("tau") for phase in found] == [1, 2, None]


# --- identity ----------------------------------------------------------------------------------------


def test_what_says_nothing_about_the_run_is_not_in_its_identity(recipe: Any) -> None:
    plain = recipe().sha256()
    assert recipe(name="another").sha256() == plain
    assert recipe({"notes": "seen"}).sha256() == plain
    assert recipe({"reported": [{"paper": "a paper", "top1": 50.0}]}).sha256() == plain


def test_the_way_to_a_recipe_is_not_in_its_identity(recipe: Any) -> None:
    assert recipe({"mix": {"name": "mixup", "alpha": 1}}) == recipe({"mix": "mixup"})
    assert recipe({}, ["mix=mixup"]).sha256() == recipe({"mix": "mixup"}).sha256()
    assert recipe({}, ["data.factor=10.0"]).sha256() == recipe().sha256()
    assert recipe({"phases": [{"until": "100%"}]}).sha256() == recipe().sha256()
    assert load_recipe("cifar10-lt/ce", ["mix=mixup"]).sha256() == load_recipe("cifar10-lt/mixup").sha256()


CHANGES = [
    "data.factor=11",
    "data.profile=step",
    "data.subset_seed=1",
    "data.n_max=90",
    "data.validation_per_class=1",
    "model.backbone=resnet20",
    "model.head=dual-branch",
    "sampler=reverse",
    "mix=mixup",
    "loss=focal",
    "loss.weights=effective-number",
    "loss.weights={name: effective-number, beta: 0.9}",
    "phases=[{until: 50%}, {until: 100%, sampler: reverse}]",
    "phases=[{until: 60%}, {until: 100%, sampler: reverse}]",
    "protocol.epochs=19",
    "protocol.batch_size=33",
    "protocol.evaluate_every=1",
    "protocol.optimizer.nesterov=true",
    "protocol.optimizer.weight_decay=0",
    "protocol.schedule.warmup_per=iteration",
    "protocol.augmentation.cutout=8",
    "protocol.augmentation.flip=true",
    "protocol=cifar-30ep",
]


def test_every_setting_is_in_the_identity(recipe: Any) -> None:
    digests = [recipe({}, [change] if change else []).sha256() for change in ["", *CHANGES]]
    assert len(set(digests)) == len(digests)


def test_the_split_and_the_seed_are_in_the_identity_of_a_run(recipe: Any) -> None:
    found = recipe()
    runs = [found.identity("a" * 64, 0), found.identity("b" * 64, 0), found.identity("a" * 64, 1)]
    assert len(set(runs)) == 3
    assert runs[0] == recipe(name="another").identity("a" * 64, 0)
    assert all(len(run) == 64 for run in runs)


@given(st.permutations(list(BASE)))
def test_the_order_of_fields_is_not_in_the_identity(tmp_path_factory: Any, order: list[str]) -> None:
    path = tmp_path_factory.mktemp("order") / "x.yaml"
    path.write_text(yaml.safe_dump({key: BASE[key] for key in order}, sort_keys=False))
    assert load_recipe(path).sha256() == load_recipe("digits-lt/ce", ["data.factor=10"]).sha256()


def test_published_figures_are_not_inherited(tmp_path: Path) -> None:
    assert load_recipe("cifar10-lt/ce").reported
    (tmp_path / "mine.yaml").write_text("extends: cifar10-lt/ce\nmix: cutmix\n", encoding="utf-8")
    assert not load_recipe(tmp_path / "mine.yaml").reported
