"""What overrides make of a recipe: its settings, its protocol, and the published figures that it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lt_bench.cli.completion import recipes as completed
from lt_bench.data.cards import load_card
from lt_bench.errors import UserError
from lt_bench.listing import listing
from lt_bench.recipe import data_spec, load_recipe
from lt_bench.recipe.files import PROTOCOLS, shipped
from lt_bench.recipe.overrides import parse_override, split_arguments


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("a.b=1", "a.b", 1),
        ("a.b=1e-3", "a.b", 1e-3),
        ("a=x=y", "a", "x=y"),
        ("a==", "a", "="),
        ("a=", "a", None),
        ("a=[1, 2]", "a", [1, 2]),
        ("a={b: c}", "a", {"b": "c"}),
        ("a='1'", "a", "1"),
        (" a = true ", "a", True),
    ],
)
def test_an_override_is_split_at_the_first_equals_sign(text: str, key: str, value: object) -> None:
    assert parse_override(text) == (key, value)


numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(codec="ascii")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
)


@given(st.lists(st.text("abc_", min_size=1), min_size=1).map(".".join), values)
def test_any_value_can_be_given(key: str, value: Any) -> None:
    assert parse_override(f"{key}={yaml.safe_dump(value)}") == (key, value)


@given(st.floats(0, 1))
def test_a_number_arrives_as_it_is(probability: float) -> None:
    assert (
        load_recipe("digits-lt/cmo", [f"mix.probability={probability!r}"]).phases[0].mix["probability"] == probability
    )


@pytest.mark.parametrize(
    ("overrides", "part", "value"),
    [
        (["mix=cmo"], "mix.name", "cmo"),
        (["mix=cmo", "mix.probability=0.25"], "mix.probability", 0.25),
        (["mix={name: cmo, start_epoch: 5}"], "mix.start_epoch", 5),
        (["loss.weights=effective-number"], "loss.weights.name", "effective-number"),
        (["loss.weights=effective-number", "loss.weights.beta=0.99"], "loss.weights.beta", 0.99),
        (["loss.weights={name: effective-number, beta: 0.99}"], "loss.weights.beta", 0.99),
        (["loss=logit-adjustment", "loss.tau=2"], "loss.tau", 2.0),
        (["sampler=progressive"], "sampler.name", "progressive"),
    ],
)
def test_components_by_override(overrides: list[str], part: str, value: object) -> None:
    found: Any = load_recipe("digits-lt/ce", overrides).phases[0].model_dump()
    for key in part.split("."):
        found = found[key]
    assert found == value


def test_the_rest_of_a_recipe_by_override() -> None:
    overrides = ["model.head=cosine", "loss=ldam", "protocol.optimizer.lr=0.05", "protocol.schedule.milestones=[3, 5]"]
    found = load_recipe("digits-lt/ce", [*overrides, "data.validation_per_class=2", "model.backbone=resnet20"])
    assert found.model.head == {"name": "cosine"}
    assert found.model.backbone == "resnet20"
    assert found.protocol.optimizer.lr == 0.05
    assert found.protocol.schedule.milestones == (3, 5)
    assert found.data.validation_per_class == 2
    assert found.protocol_modified()


def test_an_empty_value_is_the_card_s_own() -> None:
    assert load_recipe("digits-lt/ce", ["data.factor="]).data.factor == load_card("digits-lt").factor


def test_null_takes_phases_and_a_second_stage_back(tmp_path: Path) -> None:
    plain = load_recipe("digits-lt/ldam-drw", ["phases=null"])
    assert [(phase.until, phase.loss["weights"]) for phase in plain.phases] == [(plain.protocol.epochs, None)]
    first = load_recipe("digits-lt/mislas", ["second_stage=null"])
    assert first.sha256() == load_recipe("digits-lt/mixup").sha256() != load_recipe("digits-lt/mislas").sha256()
    (tmp_path / "x.yaml").write_text("extends: digits-lt/mislas\nsecond_stage: null\n")
    assert load_recipe(tmp_path / "x.yaml").sha256() == first.sha256()


def test_another_protocol_replaces_the_base_and_not_the_recipe() -> None:
    classic, short = load_recipe("cifar10-lt/ldam-drw"), load_recipe("cifar10-lt/ldam-drw", ["protocol=cifar-30ep"])
    assert short.protocol == load_recipe("cifar100-lt/ce", ["protocol=cifar-30ep"]).protocol
    assert not short.protocol_modified()
    assert [phase.until for phase in classic.phases] == [160, 200]
    assert [phase.until for phase in short.phases] == [24, 30]
    assert [phase.loss for phase in classic.phases] == [phase.loss for phase in short.phases]
    assert short.overrides == ()  # tables show the protocol by itself


def test_a_protocol_in_the_working_folder_is_used_for_a_method_that_ships(working_folder: Path) -> None:
    text = shipped(PROTOCOLS)["digits-demo"].read_text(encoding="utf-8").replace("name: digits-demo", "name: my-60ep")
    (working_folder / PROTOCOLS).mkdir()
    (working_folder / PROTOCOLS / "my-60ep.yaml").write_text(text, encoding="utf-8")
    own, shipped_one = (load_recipe("digits-lt/mixup", [f"protocol={name}"]) for name in ("my-60ep", "digits-demo"))
    assert own.protocol == shipped_one.protocol.model_copy(update={"name": "my-60ep"})
    with pytest.raises(UserError, match="'my-60e' is not a known protocol; did you mean my-60ep"):
        load_recipe("digits-lt/mixup", ["protocol=my-60e"])
    assert next(row for row in listing("protocols") if row["name"] == "my-60ep")["epochs"] == 15
    assert completed("protocol=my-") == ["protocol=my-60ep"]
    (working_folder / PROTOCOLS / "digits-demo.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(
        UserError, match=r"protocols/digits-demo\.yaml: digits-demo is a shipped protocol; rename yours"
    ):
        load_recipe("digits-lt/mixup", ["protocol=digits-demo"])


def test_another_protocol_reaches_through_a_chain(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("extends: cifar10-lt/cmo\nmix: {beta: 2}\n")
    found = load_recipe(tmp_path / "x.yaml", ["protocol=cifar-30ep"])
    assert (found.protocol.name, found.phases[0].mix["beta"]) == ("cifar-30ep", 2)


@pytest.mark.parametrize("method", ["loss.gamma=0.1", "mix=cmo", "model.backbone=resnet20", "phases=[{until: 100%}]"])
def test_a_changed_method_carries_its_change_and_no_published_figure(method: str) -> None:
    plain = load_recipe("cifar10-lt/cdt")
    found = load_recipe("cifar10-lt/cdt", [method, "data.factor=100", "notes=tried"])
    assert plain.reported
    assert found.reported == ()
    assert found.overrides == (method,)


def test_figures_are_of_the_factor_that_is_run() -> None:
    shown = {f: load_recipe("cifar10-lt/ce", [f"data.factor={f}"]).reported for f in (100, 50, 10, 20)}
    assert {factor: [figure.top1 for figure in figures] for factor, figures in shown.items()} == {
        100: [70.4, 70.36],
        50: [74.8, 74.81],
        10: [86.4],
        20: [],
    }


@pytest.mark.parametrize("override", ["data.subset_seed=1", "data.profile=step", "data.n_max=400"])
def test_figures_are_of_the_split_that_is_run(override: str) -> None:
    assert load_recipe("cifar10-lt/ce", [override]).reported == ()


def test_figures_are_of_the_split_and_network_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("step.yaml").write_text("extends: cifar10-lt/ce\ndata: {profile: step}\n")
    assert load_recipe("step.yaml").reported == ()
    Path("same.yaml").write_text("extends: cifar10-lt/ce\n")
    assert load_recipe("same.yaml").reported == load_recipe("cifar10-lt/ce").reported
    shipped = "protocol: cifar-200ep\ndata: {name: cifar10-lt, factor: 100%s}\nmodel: {backbone: %s}\n"
    for name, more, backbone in (
        ("like", "", "resnet32"),
        ("other", "", "resnet20"),
        ("seeds", ", subset_seed: 1", "resnet32"),
    ):
        Path(name).mkdir()
        Path(name, "setting.yaml").write_text(shipped % (more, backbone))
        assert bool(load_recipe(f"{name}/ce").reported) == (name == "like")


@pytest.mark.parametrize("backbone", ["resnet56", "{name: wrn-28-10, dropout: 0.3}"])
def test_another_network_of_ones_own_setting_is_an_override_of_the_one_that_ships(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a table would call it as the method that ships, and name the command of that."""
    monkeypatch.chdir(tmp_path)
    Path("deep").mkdir()
    Path("deep/setting.yaml").write_text(
        f"protocol: cifar-30ep\ndata: {{name: cifar100-lt, factor: 50}}\nmodel: {{backbone: {backbone}}}\n"
    )
    deep = load_recipe("deep/mislas", ["loss.label_smoothing=0.1"])
    network, loss = deep.overrides
    assert loss == "loss.label_smoothing=0.1"
    asked = ["protocol=cifar-30ep", "data.factor=50", network, loss]
    assert load_recipe("cifar100-lt/mislas", asked).sha256() == deep.sha256()
    first = deep.first()
    assert first is not None
    assert first.overrides == deep.overrides
    assert load_recipe("deep/ce", ["model.backbone=resnet20"]).overrides == ("model.backbone=resnet20",)
    wide = load_recipe("deep/ce", ["model.head=cosine", "loss=ldam"])
    assert wide.overrides == (network, "model.head=cosine", "loss=ldam")
    if backbone.startswith("{"):  # of the network that the setting names
        inner = load_recipe("deep/ce", ["model.backbone.dropout=0.1"])
        assert inner.overrides == (network, "model.backbone.dropout=0.1")
        assert load_recipe("cifar100-lt/ce", [*asked[:2], *inner.overrides]).sha256() == inner.sha256()


def test_arguments_are_recipes_or_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.yaml").touch()
    long = f"phases=[{'x' * 1000}]"
    assert split_arguments(["x/y", "mix=cmo", "a=b.yaml", long]) == (["x/y", "a=b.yaml"], ["mix=cmo", long])


def test_settings_of_a_split() -> None:
    spec = data_spec("cifar10-lt", ["factor=50", "profile=step"])
    assert (spec.factor, spec.profile, spec.n_max) == (50, "step", 5000)
