"""Revisions: what a correction does to the recipes that name the component, and to no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_bench.corrections import CORRECTIONS, Correction, settings_of, superseded
from lt_bench.errors import UserError
from lt_bench.recipe import Recipe, load_recipe
from lt_bench.registry import members

FIRST, SECOND = Correction("2026-01-01", "it was wrong"), Correction("2026-02-01", "it was wrong again")

NAMED = {
    ("method", "balpoe"): "digits-lt/balpoe",
    ("head", "experts"): "digits-lt/balpoe",
    ("sampler", "class-balanced"): "digits-lt/class-balanced-sampling",
    ("mix", "cmo"): "digits-lt/cmo-ldam-drw",
    ("loss", "ldam"): "digits-lt/cmo-ldam-drw",
    ("stage", "crt"): "digits-lt/crt",
    ("sampler", "class-aware"): "digits-lt/crt",
    ("augment", "cutout"): "digits-lt/cutout",
    ("regularise", "dropout"): "digits-lt/dropout",
}
"""Recipes that name a component of each kind, in the second stage too."""


@pytest.fixture(params=list(NAMED), ids="/".join)
def corrected(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Recipe, Recipe]]:
    """The name of a recipe, and the recipe before and after a component of it was corrected twice."""
    before = load_recipe(NAMED[request.param])
    monkeypatch.setitem(CORRECTIONS, request.param, (FIRST, SECOND))
    yield request.param[1], before, load_recipe(NAMED[request.param])


def test_every_correction_is_of_a_shipped_component() -> None:
    for (kind, name), known in CORRECTIONS.items():
        assert name in members(kind)
        assert "revision" not in members(kind)[name].Config.model_fields
        assert [c.date for c in known] == sorted(c.date for c in known)


def test_glmc_says_its_revision() -> None:
    assert load_recipe("digits-lt/glmc").method["revision"] == 2


def test_a_correction_is_another_identity_and_the_same_settings(corrected: tuple[str, Recipe, Recipe]) -> None:
    _, before, after = corrected
    assert before.sha256() != after.sha256()
    assert after.phase_choices() == before.phase_choices()
    assert (after.method_choice(), after.stage_choice()) == (before.method_choice(), before.stage_choice())
    assert after.head_choice() == before.head_choice()
    for kind in ("augment", "regularise"):
        nodes = [[{"name": name, **node} for name, node in getattr(one, kind).items()] for one in (before, after)]
        assert [settings_of(kind, node) for node in nodes[1]] == [settings_of(kind, node) for node in nodes[0]]


def test_a_recorded_recipe_knows_what_came_after_it(corrected: tuple[str, Recipe, Recipe]) -> None:
    name, before, after = corrected
    expected = f"{name}: it was wrong (corrected on 2026-01-01); {name}: it was wrong again (corrected on 2026-02-01)"
    assert superseded(before.resolved()) == expected
    assert superseded(after.resolved()) is None


def test_a_run_between_two_corrections_lacks_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CORRECTIONS, ("mix", "cmo"), (FIRST,))
    between = load_recipe("digits-lt/cmo").resolved()
    assert superseded(between) is None
    monkeypatch.setitem(CORRECTIONS, ("mix", "cmo"), (FIRST, SECOND))
    assert superseded(between) == "cmo: it was wrong again (corrected on 2026-02-01)"


def test_a_mix_inside_another_has_a_revision_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_recipe("digits-lt/class-distance-mix-ours-cmo")
    monkeypatch.setitem(CORRECTIONS, ("mix", "cmo"), (FIRST,))
    after = load_recipe("digits-lt/class-distance-mix-ours-cmo")
    assert before.sha256() != after.sha256()
    assert after.phases[0].mix["generator"]["revision"] == 2
    assert superseded(before.resolved()) == "cmo: it was wrong (corrected on 2026-01-01)"
    assert superseded(after.resolved()) is None
    assert Recipe.read(after.resolved()).phase_choices() == after.phase_choices()  # as weights bring it back


@pytest.mark.parametrize("name", ["ce", "crt", "remix-drw", "tau-norm"])
def test_corrected_defaults_are_still_recognised_as_defaults(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for named in [("sampler", "instance"), ("mix", "none"), ("loss", "cross-entropy"), ("head", "linear")]:
        monkeypatch.setitem(CORRECTIONS, named, (FIRST,))
    assert load_recipe(f"digits-lt/{name}").phases[-1].loss["revision"] == 2


def test_other_recipes_keep_their_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_recipe("digits-lt/ce").sha256()
    monkeypatch.setitem(CORRECTIONS, ("mix", "cmo"), (FIRST,))
    assert load_recipe("digits-lt/ce").sha256() == before


@pytest.mark.parametrize("override", ["method.revision=1", "method.revision=2", "mix={name: cmo, revision: 2}"])
def test_nobody_sets_a_revision_by_hand(override: str) -> None:
    with pytest.raises(UserError, match="revision"):
        load_recipe("digits-lt/glmc" if override.startswith("method") else "digits-lt/ce", [override])


@given(
    st.dictionaries(
        st.sampled_from(["method", "model", "phases", "second_stage", "augment", "protocol", "augmentation"]),
        st.recursive(
            st.none() | st.integers() | st.just("glmc"),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["name", "revision", "mix"]), inner),
        ),
    )
)
def test_a_record_may_hold_anything(recipe: dict[str, Any]) -> None:
    found = superseded(recipe)
    assert found is None or found.startswith("glmc: ")
