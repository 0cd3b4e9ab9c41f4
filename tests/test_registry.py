"""The closed sets of names."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lt_bench import registry, written
from lt_bench.data.samplers import Sampler, Weighted
from lt_bench.errors import UserError, unknown
from lt_bench.listing import KINDS, listing
from lt_bench.losses import LDAM
from lt_bench.mixing import CMO
from lt_bench.models.heads.experts import Experts
from lt_bench.plugins import plugin_digest
from lt_bench.registry import FAMILIES, lookup, members
from lt_bench.validation import paths

PROMISED = {
    "sampler": {"instance", "class-balanced", "reverse", "square-root", "progressive"},
    "augment": {
        "auto-augment",
        "color-jitter",
        "cutout",
        "rand-augment",
        "random-erasing",
        "rotation",
        "trivial-augment",
    },
    "mix": {"none", "mixup", "cutmix", "cmo", "class-distance-mix-ours", "remix", "unimix", "balanced-mixup"},
    "loss": {"cross-entropy", "focal", "class-balanced", "ldam", "balanced-softmax", "logit-adjustment"},
    "head": {"linear", "cosine", "dual-branch", "bilateral", "experts", "ensemble", "residual-fusion"},
    "backbone": {"resnet20", "resnet32", "resnet44", "resnet56"},
    "stage": {"crt", "lws", "tau-norm", "ncm", "max-norm", "disalign", "mislas", "test-time-ensembling"},
    "tuner": {"none", "classifier", "full", "bitfit", "vpt", "adapter", "adaptformer", "lora", "arbitrary"},
    "start": {"text", "class-means"},
    "regularise": {"dropout", "drop-block", "max-dropout", "stochastic-depth", "shake-drop", "shake-shake"},
    "method": {"standard", "dbn-mix", "bbn", "balpoe", "sade", "ride", "ncl", "reslt"},
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_is_promised_is_there(kind: str) -> None:
    assert PROMISED[kind] <= set(members(kind))
    for name in members(kind):
        assert name == name.lower()
        assert lookup(kind, name).name == name
        assert plugin_digest(lookup(kind, name)) is None


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'resnet32x' is not a known backbone; did you mean resnet32\? \(allowed: "):
        lookup("backbone", "resnet32x")
    assert unknown("mix", "zzz", ["cmo", "mixup"]) == "'zzz' is not a known mix (allowed: cmo, mixup)"
    assert unknown("mix", "zzz", []) == "'zzz' is not a known mix (allowed: none)"


def test_two_shipped_components_of_one_name_are_our_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    from lt_bench.mixing import cmo

    class Again(cmo.CMO):
        name = "mixup"

    monkeypatch.setattr(Again, "__module__", cmo.__name__)
    monkeypatch.setattr(cmo, "Again", Again, raising=False)
    with pytest.raises(RuntimeError, match="two components called mix 'mixup'"):
        registry._shipped.__wrapped__("mix")


def test_a_component_without_a_name_is_only_a_base() -> None:
    assert Sampler not in members("sampler").values()
    assert "power" not in members("sampler")


@pytest.mark.parametrize("what", [*KINDS, "models", "datasets", "recipes"])
def test_everything_can_be_listed(what: str) -> None:
    rows = listing(what)
    assert rows
    assert len({row["name"] for row in rows}) == len(rows)
    assert len({tuple(row) for row in rows}) == 1  # one set of columns


def test_a_list_of_nothing() -> None:
    with pytest.raises(UserError, match=r"'mixs' is not a known list; did you mean mixes\?"):
        listing("mixs")


# --- one construction, for recipes and for scripts ----------------------------------------------------


def test_settings_by_name_are_the_config_of_a_recipe() -> None:
    by_name, by_config = LDAM([50, 5], max_margin=0.3), LDAM([50, 5], LDAM.Config(max_margin=0.3))
    assert by_name.config == by_config.config
    assert torch.equal(by_name.margins, by_config.margins)
    assert Weighted([0, 1, 1], exponent=0.5).config == Weighted.Config(exponent=0.5)
    assert Experts(num_experts=2).config == Experts.Config(num_experts=2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LDAM([50, 5], max_margn=0.3), r"LDAM.max_margn: .* did you mean max_margin\?"),
        (lambda: LDAM([50, 5], max_margin="0.3"), "LDAM.max_margin: should be a valid number, found '0.3'"),
        (lambda: LDAM([50, 5], weights="effective"), "LDAM.weights"),
        (lambda: CMO([50, 5], probability=2), "CMO.probability: should be less than or equal to 1, found 2"),
        (lambda: Experts(num_expert=2), r"Experts.num_expert: .* did you mean num_experts\?"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        build()
    assert "\n" not in str(told.value)


def test_a_config_and_settings_at_once_are_a_mistake_in_the_script() -> None:
    with pytest.raises(ValueError, match="LDAM: both a config and scale"):
        LDAM([50, 5], LDAM.Config(), scale=3.0)


@pytest.mark.parametrize("kind", FAMILIES)
def test_names_and_settings_are_found_without_an_import(kind: str) -> None:
    imported = {name: tuple(paths(component.Config)) for name, component in registry._shipped(kind).items()}
    homes = written.homes(FAMILIES[kind].module)
    assert {name: written.settings(module, name) for name, module in homes.items()} == imported
    assert {name: lookup(kind, name) for name in homes} == registry._shipped(kind)
