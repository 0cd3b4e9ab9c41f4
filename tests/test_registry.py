"""The closed sets of names."""

from __future__ import annotations

import pytest

from lt_bench import registry
from lt_bench.data.samplers import Sampler
from lt_bench.errors import UserError, unknown
from lt_bench.listing import KINDS, listing
from lt_bench.registry import FAMILIES, lookup, members, plugin_digest

PROMISED = {
    "sampler": {"instance", "class-balanced", "reverse", "square-root", "progressive"},
    "mix": {"none", "mixup", "cutmix", "cmo", "class-distance-mix-ours", "remix", "unimix", "balanced-mixup"},
    "loss": {"cross-entropy", "focal", "class-balanced", "ldam", "balanced-softmax", "logit-adjustment"},
    "head": {"linear", "cosine", "dual-branch", "bilateral", "experts", "ensemble", "residual-fusion"},
    "backbone": {"resnet20", "resnet32", "resnet44", "resnet56"},
    "stage": {"crt", "lws", "tau-norm", "ncm", "max-norm", "disalign", "mislas"},
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
    with pytest.raises(UserError, match=r"'resnet33' is not a known backbone; did you mean resnet32\? \(allowed: "):
        lookup("backbone", "resnet33")
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
