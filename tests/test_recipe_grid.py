"""The promised grid of recipes: it is complete, its names mean what they say, and relatives differ where they say."""

from __future__ import annotations

import pytest
from recipe_cases import phase_parts

from lt_bench.recipe import load_recipe
from lt_bench.registry import members

GRID = ("digits-lt", "cifar10-lt", "cifar100-lt")
METHODS = [
    *("ce", "ce-drw", "ldam-drw", "balanced-softmax", "logit-adjustment", "mixup", "cutmix"),
    *("cmo", "cmo-ldam-drw", "cmo-balanced-softmax", "dbn-mix", "class-distance-mix-ours"),
    *("class-distance-mix-ours-cmo", "class-distance-mix-ours-cutmix"),
    *("cdt", "vs", "lade", "label-aware-smoothing", "pc-softmax", "gcl", "ib", "seql", "csce", "csce-drw"),
    *("focal", "sigmoid-focal", "class-balanced", "class-balanced-focal", "ldam", "ce-drs"),
    *("class-balanced-sampling", "square-root-sampling", "progressive-sampling"),
    *("bbn", "dbn-mix-bilateral-mixup-only", "dbn-mix-temperatures-only", "dbn-mix-reverse"),
    *("mixup-drw", "remix", "remix-drw", "unimix-bayias", "balanced-mixup", "label-occurrence-balanced-mixup"),
    *("balpoe", "reslt", "ncl", "glmc", "bcl", "paco"),
    *("crt", "crt-mixup", "lws", "lws-mixup", "tau-norm", "ncm", "max-norm", "disalign", "mislas", "gcl-two-stage"),
]

HEADS = {
    **{"ldam": "cosine", "gcl": "cosine", "dbn": "dual-branch", "bbn": "bilateral", "balpoe": "experts"},
    **{
        "reslt": "residual-fusion",
        "ncl": "ensemble",
        "glmc": "twin-classifier",
        "bcl": "prototypes",
        "paco": "contrastive",
    },
}
"""Heads other than the linear one, by a part of the recipe's name."""

SAMPLERS = {
    "label-occurrence-balanced-mixup": ["class-balanced"],
    "ce-drs": ["instance", "class-balanced"],
    **{f"{name}-sampling": [name] for name in ("class-balanced", "square-root", "progressive")},
}
"""Samplers other than the instance one, by recipe and phase."""


def mix_of(method: str) -> str:
    """The mix that a recipe's name begins with, or that its method is known for."""
    if method in ("balpoe", "gcl", "gcl-two-stage", "mislas", "crt-mixup", "lws-mixup"):
        return "mixup"
    longest_first = sorted(members("mix"), key=len, reverse=True)
    return next((mix for mix in longest_first if f"{method}-".startswith(f"{mix}-")), "none")


@pytest.mark.parametrize("dataset", GRID)
@pytest.mark.parametrize("method", METHODS)
def test_the_grid_is_complete(dataset: str, method: str) -> None:
    recipe = load_recipe(f"{dataset}/{method}")
    small = dataset == "digits-lt"
    assert recipe.protocol.name == ("digits-demo" if small else "cifar-200ep")
    assert recipe.model.backbone == ("resnet8" if small else "resnet32")
    assert recipe.data.factor == (20 if small else 100)


@pytest.mark.parametrize("dataset", ["cifar10-lt", "cifar100-lt"])
def test_what_the_names_of_the_grid_mean(dataset: str) -> None:
    grid = {method: load_recipe(f"{dataset}/{method}") for method in METHODS}
    for name in ("ce-drw", "ldam-drw", "cmo-ldam-drw", "mixup-drw", "remix-drw"):
        weights = [phase.loss["weights"] for phase in grid[name].phases]
        assert weights == [None, {"name": "effective-number", "beta": 0.9999}]
        assert [phase.until for phase in grid[name].phases] == [160, 200]
    for name, recipe in grid.items():
        assert recipe.model.head["name"] == next((head for part, head in HEADS.items() if part in name), "linear")
        assert set(phase_parts(recipe, "mix")) == {mix_of(name)}
        assert phase_parts(recipe, "sampler") == SAMPLERS.get(name, ["instance"] * len(recipe.phases))
    ldam = grid["ldam-drw"].phases[0].loss
    assert (ldam["max_margin"], ldam["scale"]) == (0.5, 30)
    assert grid["logit-adjustment"].phases[0].loss["tau"] == 1
    assert not grid["logit-adjustment"].phases[0].loss["post_hoc"]
    after = grid["pc-softmax"].second_stage
    assert after is not None
    assert after.loss == {**grid["logit-adjustment"].phases[0].loss, "post_hoc": True}
    for name, weights in (("csce", ["inverse-frequency"]), ("csce-drw", [None, "inverse-frequency"])):
        asked = [phase.loss["weights"] for phase in grid[name].phases]
        assert [part and part["name"] for part in asked] == weights
        assert all("exponent" not in part for part in asked if part)
    cmo = grid["cmo"].phases[0].mix
    assert (cmo["probability"], cmo["beta"], cmo["exponent"]) == (0.5, 1, 1)
    assert (cmo["start_epoch"], cmo["stop_before_end"]) == (3, 3)
    remix = grid["remix"].phases[0].mix
    assert (remix["alpha"], remix["kappa"], remix["tau"]) == (1, 3, 0.5)


def test_whole_systems_bring_network_mix_and_loss() -> None:
    mixrnet, nexception = (load_recipe(f"cifar100-lt/{name}") for name in ("mixrnet", "nexception"))
    assert mixrnet.model.backbone == "resnet50-preact-gelu"
    assert mixrnet.phases[0].mix == {"name": "mixrnet", "mode": "fifth", "alpha": 0.2}
    assert mixrnet.phases[0].loss == {"name": "cross-entropy", "weights": None}
    assert nexception.model.backbone == {"name": "nexception-t", "drop_path": 0.05, "stem_stride": 1}
    laws = {"mixup_alpha": 0.1, "cutmix_alpha": 1, "probability": 0.5}
    assert nexception.phases[0].mix == {"name": "mixup-or-cutmix", **laws}
    assert nexception.phases[0].loss["target_threshold"] == 0.2


@pytest.mark.parametrize("dataset", GRID)
@pytest.mark.parametrize("generator", ["cmo", "cutmix"])
def test_a_generator_behind_class_distances_is_that_of_its_own_recipe(dataset: str, generator: str) -> None:
    behind, alone = (load_recipe(f"{dataset}/{name}") for name in (f"class-distance-mix-ours-{generator}", generator))
    (mix,) = (phase.mix for phase in behind.phases)
    assert mix["generator"] == alone.phases[0].mix
    assert {**mix, "generator": "mixup"} == load_recipe(f"{dataset}/class-distance-mix-ours").phases[0].mix


@pytest.mark.parametrize("dataset", GRID)
@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("dbn-mix-bilateral-mixup-only", {"temperature_epsilon": 0}),
        ("dbn-mix-temperatures-only", {"beta": 0}),
        ("dbn-mix-reverse", {"rebalanced_sampler": "reverse"}),
    ],
)
def test_an_ablation_of_dbn_mix_changes_one_setting(dataset: str, name: str, setting: dict[str, object]) -> None:
    whole, ablated = (load_recipe(f"{dataset}/{name}").resolved() for name in ("dbn-mix", name))
    assert ablated == {**whole, "name": name, "method": whole["method"] | setting}


def test_the_wide_glmc_differs_in_its_backbone() -> None:
    plain, wide = (load_recipe(f"cifar100-lt/{name}").resolved() for name in ("glmc", "glmc-wide"))
    assert wide == {**plain, "name": "glmc-wide", "model": {**plain["model"], "backbone": "resnet32-w4"}}


@pytest.mark.parametrize("dataset", ["cifar10-lt", "cifar100-lt"])
def test_deferred_balancing_begins_as_plain_mixup(dataset: str) -> None:
    deferred = load_recipe(f"{dataset}/label-occurrence-balanced-mixup-deferred")
    before, after = deferred.phases
    assert (before.sampler, before.mix) == ({"name": "instance"}, load_recipe(f"{dataset}/mixup").phases[0].mix)
    (balanced,) = load_recipe(f"{dataset}/label-occurrence-balanced-mixup").phases
    assert (after.sampler, after.mix) == (balanced.sampler, balanced.mix)
    assert [phase.until for phase in deferred.phases] == [160, 200]
