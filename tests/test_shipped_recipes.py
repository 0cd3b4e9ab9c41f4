"""Every recipe in the box: it loads, says truthfully what it is, and its commands work."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import torch
from recipe_cases import BALANCED, LARGE, MISFITS, NOISY, SHIPPED, TUNED

from lt_bench.corrections import superseded
from lt_bench.data.cards import load_card
from lt_bench.data.split import class_sizes
from lt_bench.errors import UserError
from lt_bench.models import build_network
from lt_bench.protocol import SGD, shipped_protocol
from lt_bench.recipe import Recipe, load_recipe
from lt_bench.recipe.files import SETTINGS, locate, shipped
from lt_bench.recipe.layers import ROW_FIELDS
from lt_bench.recipe.loading import recipe_layers
from lt_bench.recipe.overrides import parse_override, split_arguments
from lt_bench.registry import members, named
from lt_bench.resources import resource_folder
from lt_bench.yaml_files import read_yaml

ROOT = resource_folder("recipes")
RECORDS = Path(__file__).parents[1] / "leaderboard" / "v1" / "records"
DEFAULT = {"subset_seed": 0}
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

UNREAD = (
    *("dbn-mix", "-ours", "balanced-mixup", "gcl", "digits", "reslt", "ncl", "glmc", "paco"),
    *("/vs", "lade", "logit-adjustment", "pc-softmax", "cutmix", "cifar10-lt/cmo", "cifar10-lt/ride", "ride-cmo"),
)
"""Parts of the names of recipes whose papers' figures could not be read, do not exist or are of another split."""

FOR_SMALL_IMAGES = {f"imagenet-mini/{name}" for name in ("glmc-wide", "mixrnet", "shake-shake")}
"""Recipes whose networks take no images of 224 pixels."""

OF_224_PIXELS = {name for name in SHIPPED if name.partition("/")[2] in TUNED}

loaded = cache(load_recipe)
"""Six hundred recipes take a while to read."""

every_recipe = pytest.mark.parametrize("name", SHIPPED)
every_method = pytest.mark.parametrize("method", shipped())


def header(method: str) -> list[str]:
    lines = (ROOT / f"{method}.yaml").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("#")]


def commands(method: str) -> list[list[str]]:
    """The command lines of the header, as arguments of `run`."""
    found = (re.match(r"# (?:Run|Ablation): +lt-bench run (.+)", line) for line in header(method))
    return [shlex.split(match[1]) for match in found if match]


def mix_of(method: str) -> str:
    """The mix that a recipe's name begins with, or that its method is known for."""
    if method in ("balpoe", "gcl", "gcl-two-stage", "mislas", "crt-mixup", "lws-mixup"):
        return "mixup"
    longest_first = sorted(members("mix"), key=len, reverse=True)
    return next((mix for mix in longest_first if f"{method}-".startswith(f"{mix}-")), "none")


def phase_parts(recipe: Recipe, kind: str) -> list[str]:
    return [getattr(phase, kind)["name"] for phase in recipe.phases]


# --- all of them -------------------------------------------------------------------------------------


@every_recipe
def test_it_builds_its_network(name: str) -> None:
    recipe = loaded(name)
    classes = load_card(recipe.data.name).classes
    assert set(built(json.dumps(recipe.resolved()["model"]), classes, recipe)) == {classes}


KNOWN: dict[tuple[str, int], list[int]] = {}


def built(model: str, classes: int, recipe: Recipe) -> list[int]:
    """Outputs of the classifiers of a network; one of which many recipes are is built once."""
    if (model, classes) not in KNOWN:
        backbone, head = (part.component(part.config) for part in (recipe.backbone_choice(), recipe.head_choice()))
        with torch.device("meta"):
            network = build_network(backbone.untrained(), head, classes, seed=0)
        weights = [dict(classifier.named_parameters())["weight"] for classifier in network.classifiers]
        KNOWN[model, classes] = [len(weight) for weight in weights]
    return KNOWN[model, classes]


@every_recipe
def test_it_is_its_method_on_its_setting(name: str) -> None:
    recipe = loaded(name)
    setting, _, method = name.partition("/")
    assert (recipe.data.name, recipe.name) == (setting, method)
    assert (
        recipe.protocol.name == read_yaml(ROOT / "settings" / f"{setting}.yaml")["protocol"]
        or "own" in method
        or method in TUNED
    )
    assert not recipe.protocol_modified()
    assert recipe.plugins == {}
    assert recipe.overrides == ()


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_says_why(name: str) -> None:
    with pytest.raises(UserError, match=MISFITS[name]):
        load_recipe(name)


@every_method
def test_its_head_says_what_it_is_and_how_to_run_it(method: str) -> None:
    lines = header(method)
    assert len(lines[0]) > 8
    assert lines[1] == f"# Run:      lt-bench run cifar100-lt/{method} --seeds 0,1,2"


@every_method
def test_the_commands_of_its_head_are_valid(method: str) -> None:
    for arguments in commands(method):
        plain = [text for text in arguments if text not in ("--seeds", "0,1,2")]
        (recipe,), overrides = split_arguments(plain)
        changed = load_recipe(recipe, overrides)
        assert (changed.sha256() == load_recipe(f"cifar100-lt/{method}").sha256()) == (not overrides), arguments


@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in FOR_SMALL_IMAGES | OF_224_PIXELS])
def test_it_is_the_same_method_under_another_protocol(name: str) -> None:
    others = {"imagenet-lt": "imagenet-mini-20ep", "imagenet-mini": "imagenet-lt-90ep"}  # of images of the same kind
    recipe = loaded(name)
    protocol = others.get(recipe.data.name, "cifar-30ep")
    changed = load_recipe(name, [f"protocol={protocol}"])
    assert changed.protocol == shipped_protocol(protocol)
    epochs = changed.protocol.epochs
    parts = [[epochs], *([round(percent * epochs / 100), epochs] for percent in (35, 50, 80))]
    assert [phase.until for phase in changed.phases] in parts
    assert (changed.method, changed.model.head, changed.data) == (recipe.method, recipe.model.head, recipe.data)
    # By name: a transformer follows the size of the protocol's images.
    assert named(changed.model.backbone)["name"] == named(recipe.model.backbone)["name"]


@every_method
def test_every_row_of_its_table_is_read(method: str) -> None:
    """A row changes what the recipe is where it holds, and nothing elsewhere."""
    for row in read_yaml(ROOT / f"{method}.yaml").get("on", []):
        assert set(row) <= set(ROW_FIELDS)
        for dataset in row["data"] if isinstance(row["data"], list) else [row["data"]]:
            given = [f"data.factor={row['factor']}"] if "factor" in row else []
            found = recipe_layers(locate(f"{dataset}/{method}"), dict(map(parse_override, given)))
            sources = [layer.source for layer in found]
            assert any(f"{method}.yaml, on " in source and dataset in source for source in sources)


def test_its_published_figures_are_traceable() -> None:
    for path in shipped().values():
        for figure in read_yaml(path).get("reported", []):
            assert {"data", "paper", "protocol", "top1"} <= set(figure), path
            assert figure["data"] in shipped(SETTINGS)
            assert figure.get("verified", True)
            assert "factor" in figure or figure["data"] in ("imagenet-lt", *LARGE)


def test_no_two_files_differ_by_the_data_set_alone() -> None:
    """Of methods and settings there is one file each."""
    about = ("reported", "papers", "notes")
    parts = [str({k: v for k, v in read_yaml(p).items() if k not in about}) for p in shipped().values()]
    assert len(set(parts)) == len(parts)
    assert len(shipped(SETTINGS)) < 15  # a method is no setting


WEIGHTED = "phases=[{until: 80%}, {until: 100%, loss: {weights: effective-number}}]"
EDITED = {"remix-drw": [WEIGHTED], "mixup-drw": [WEIGHTED]}
"""Recipes that were changed after runs had been recorded, and how to say what they were."""


def test_every_record_is_what_its_recipe_is_today() -> None:
    """What was recorded can be run again by name: the files of today, perhaps with an override, give its recipe."""
    for path in sorted(RECORDS.rglob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        split = {key: record["recipe"]["data"][key] for key in ("factor", "profile", "subset_seed", "n_max")}
        asked = [f"data.{key}={value}" for key, value in split.items() if value not in (None, DEFAULT.get(key))]
        noise = record["recipe"]["data"].get("noise")
        asked += [f"data.noise={json.dumps(noise)}"] if noise else []
        name = f"{record['dataset']['name']}/{record['recipe_name']}"
        # The file of a teacher is not here, its digest is.
        teacher = f"mix.teacher={json.dumps(record['recipe']['phases'][0]['mix'].get('teacher'))}"
        own = [teacher if text.startswith("mix.teacher=") else text for text in record["overrides"]]
        overrides = [f"protocol={record['protocol']['name']}", *asked, *own]
        found = [loaded(name, (*overrides, *undo)) for undo in ((), EDITED.get(record["recipe_name"], ()))]
        known = record["recipe_sha256"] in [recipe.sha256() for recipe in found]
        # A superseded one can not: what it was made by is gone.
        assert known == (superseded(record["recipe"]) is None), path


@pytest.mark.parametrize("method", ["ce", "mixup", "cutmix", "manifold-mixup", "automix", "balanced-softmax", "crt"])
@pytest.mark.parametrize("setting", BALANCED)
def test_what_is_tried_on_balanced_classes(setting: str, method: str) -> None:
    recipe = load_recipe(f"{setting}/{method}")
    assert (recipe.data.name, recipe.data.factor, recipe.protocol.name) == (setting, 1, "openmixup-200ep")
    assert recipe.model.backbone == "cifar-resnet18"
    assert all(figure.factor == 1 for figure in recipe.reported)
    assert recipe.sha256() != load_recipe(f"{setting}-lt/{method}", ["data.factor=1"]).sha256()


def test_figures_of_balanced_classes() -> None:
    found = {name: load_recipe(f"cifar100/{name}").reported for name in ("ce", "mixup", "cutmix", "automix")}
    assert {name: [figure.top1 for figure in figures] for name, figures in found.items()} == {
        "ce": [76.42],
        "mixup": [78.52],
        "cutmix": [],  # OpenMixup's has another law, and mixes every batch
        "automix": [80.12],
    }
    assert found["automix"][0].protocol == "automix-200ep"


@pytest.mark.parametrize(
    "method", ["ce", "balanced-softmax", "m-dyr-h", "md-dyr-sh", "jocor", "paddles", "paddles-semi"]
)
@pytest.mark.parametrize("setting", NOISY)
def test_what_is_tried_on_wrong_labels(setting: str, method: str) -> None:
    recipe = load_recipe(f"{setting}/{method}")
    assert (recipe.data.name, recipe.data.factor, recipe.protocol.name) == ("cifar10-lt", 10, "cifar-30ep")
    assert recipe.data.noise is not None
    assert recipe.data.noise.name == NOISY[setting]
    assert recipe.reported == ()  # what is published is of right labels
    other = load_recipe(f"cifar10-lt/{method}", ["protocol=cifar-30ep", "data.factor=10", *noise_overrides(recipe)])
    assert other.sha256() == recipe.sha256()


def noise_overrides(recipe: Recipe) -> list[str]:
    """As the tables of the board ask for it."""
    return [f"data.noise.{key}={value}" for key, value in recipe.resolved()["data"]["noise"].items()]


def test_methods_against_noise_have_the_epochs_of_their_papers() -> None:
    stops = {"m-dyr-h": 0.35, "md-dyr-sh": 0.35}
    for name, start in stops.items():
        assert load_recipe(f"cifar10-lt/{name}").method["start"] == start
    soft = load_recipe("cifar100-lt/paddles-semi").method
    assert (soft["amplitude_stop"], soft["phase_stop"], soft["unlabelled_weight"]) == (30, 35, 75)
    rates = {data: load_recipe(f"{data}/paddles").method["refinement_lr"] for data in ("cifar10-lt", "digits-lt")}
    assert rates == {"cifar10-lt": 1e-4, "digits-lt": 0.01}  # the digits have few steps in a pass
    hard = load_recipe("cifar10-lt/bootstrap-hard", ["protocol=arazo-300ep"]).phases
    assert [(phase.until, phase.loss["name"]) for phase in hard] == [(105, "cross-entropy"), (300, "bootstrapping")]


@pytest.mark.parametrize(
    ("name", "backbone", "protocol", "rate", "decay"),
    [
        ("cifar10-lt/m-dyr-h", "preact-resnet18", "arazo-300ep", [0.1] * 99 + [0.01] * 150 + [0.001] * 51, 1e-4),
        ("cifar10-lt/paddles", "cifar-resnet18", "paddles-200ep", [0.1] * 100 + [0.01] * 50 + [0.001] * 50, 1e-4),
        ("cifar100-lt/paddles", "cifar-resnet34", "paddles-200ep", [0.1], 1e-4),
        ("cifar100-lt/paddles-semi", "preact-resnet18", "paddles-semi-300ep", [0.02], 5e-4),
        ("cifar10n-lt/paddles-semi-cifar-n", "cifar-resnet34", "paddles-cifar-n-300ep", [0.02], 5e-4),
    ],
)
def test_protocols_against_noise_are_those_of_the_papers(
    name: str, backbone: str, protocol: str, rate: list[float], decay: float
) -> None:
    recipe = load_recipe(f"{name}-own-protocol")
    assert (recipe.model.backbone, recipe.protocol.name, recipe.protocol.batch_size) == (backbone, protocol, 128)
    assert [recipe.protocol.lr(epoch) for epoch in range(len(rate))] == pytest.approx(rate)
    assert recipe.protocol.optimizer.weight_decay == decay


def test_a_figure_under_noise_stands_beside_a_run_under_that_noise() -> None:
    asked = ("data.factor=1", "data.noise={name: symmetric, rate: 0.5}")
    found = {name: load_recipe(f"cifar10-lt/{name}-own-protocol", asked).reported for name in ("m-dyr-h", "md-dyr-sh")}
    assert {name: [figure.top1 for figure in figures] for name, figures in found.items()} == {
        "m-dyr-h": [91.9],
        "md-dyr-sh": [90.3],
    }
    assert load_recipe("cifar100-lt/m-dyr-h-own-protocol").reported == ()  # the paper has no long tail


def test_the_rate_of_paddles_on_human_labels_ends_at_a_hundredth() -> None:
    recipe = load_recipe("cifar10n-lt/paddles-semi-cifar-n-own-protocol", ["data.factor=1"])
    assert recipe.protocol.lr(300) == pytest.approx(2e-4)
    assert recipe.protocol.augmentation.autoaugment
    method = recipe.method
    assert (method["amplitude_stop"], method["phase_stop"], method["unlabelled_weight"]) == (25, 30, 5)


# --- the promised grid -------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("dataset", "tau"), [("cifar10-lt", -0.5), ("cifar100-lt", -0.1)])
def test_unimix_has_the_settings_of_the_released_configurations(dataset: str, tau: float) -> None:
    (phase,) = load_recipe(f"{dataset}/unimix-bayias").phases
    assert phase.mix == {"name": "unimix", "alpha": 0.8, "tau": tau, "stop_epoch": None}
    assert phase.loss["name"] == "balanced-softmax"


@pytest.mark.parametrize(
    ("dataset", "scaling", "smoothing"),
    [("cifar10-lt", (0.2, 1.2), (0.3, 0.0)), ("cifar100-lt", (0.3, 1.0), (0.4, 0.1))],
)
def test_losses_have_the_settings_of_their_authors(
    dataset: str, scaling: tuple[float, float], smoothing: tuple[float, float]
) -> None:
    vs, soft = (load_recipe(f"{dataset}/{name}").phases[0].loss for name in ("vs", "label-aware-smoothing"))
    assert (vs["gamma"], vs["tau"]) == scaling
    assert (soft["epsilon_head"], soft["epsilon_tail"], soft["form"]) == (*smoothing, "concave")


@pytest.mark.parametrize("dataset", ["cifar10-lt", "cifar100-lt"])
def test_gcl_ib_and_softmax_equalisation_have_the_settings_of_their_sources(dataset: str) -> None:
    gcl, ib, seql = (load_recipe(f"{dataset}/{name}").phases for name in ("gcl", "ib", "seql"))
    first_stage = {"noise": 0.5, "margin": 0, "scale": 30, "gamma": 0}
    assert gcl[0].loss == {"name": "gcl", "weights": None, **first_stage}
    assert gcl[0].mix == {"name": "mixup", "alpha": 1}
    assert [(phase.until, phase.loss["name"]) for phase in ib] == [(160, "cross-entropy"), (200, "ib")]
    assert (ib[1].loss["alpha"], ib[1].loss["weights"]["name"]) == (1000, "inverse-frequency")
    assert (seql[0].loss["gamma"], seql[0].loss["lam"]) == (0.9, 0.005)


@pytest.mark.parametrize(("dataset", "rare"), [("cifar10-lt", 1), ("cifar100-lt", 52), ("digits-lt", 4)])
def test_softmax_equalisation_spares_some_classes_of_every_data_set(dataset: str, rare: int) -> None:
    recipe = load_recipe(f"{dataset}/seql")
    card = load_card(dataset)
    assert recipe.data.factor is not None
    counts = class_sizes(card.classes, card.n_max, recipe.data.factor, "exponential")
    loss = recipe.phase_choices()[0].loss
    assert int(loss.component(counts, loss.config).rare.sum()) == rare


@pytest.mark.parametrize(("dataset", "eta"), [("cifar10-lt", 3), ("cifar100-lt", 7)])
def test_dbn_mix_has_the_settings_of_the_released_scripts(dataset: str, eta: float) -> None:
    for name in ("dbn-mix", "dbn-mix-own-protocol"):
        recipe = load_recipe(f"{dataset}/{name}")
        assert recipe.method == {
            "name": "dbn-mix",
            "beta": 1.0,
            "temperature_epsilon": 0.6,
            "temperature_eta": eta,
            "rebalanced_sampler": "class-balanced",
        }


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


@pytest.mark.parametrize(
    ("dataset", "alpha", "reduced", "diversity"), [("cifar10-lt", 0.8, False, -0.2), ("cifar100-lt", 0.4, True, -0.45)]
)
def test_the_experts_have_the_settings_of_their_papers(
    dataset: str, alpha: float, reduced: bool, diversity: float
) -> None:
    names = ("balpoe", "sade", "ride", "ride-cmo")
    balpoe, sade, ride, ride_cmo = (load_recipe(f"{dataset}/{name}") for name in names)
    heads = [recipe.model.head for recipe in (balpoe, sade, ride, ride_cmo)]
    assert all((head["name"], head["num_experts"], head["scale"]) == ("experts", 3, 30) for head in heads)
    assert [head["reduce_dimension"] for head in heads] == [False, reduced, True, True]
    assert balpoe.method == {"name": "balpoe", "tau": [0, 1, 2]}
    assert balpoe.phases[0].mix == {"name": "mixup", "alpha": alpha}
    assert sade.method == {"name": "sade", "tau": 2}
    assert ride.method == ride_cmo.method
    assert ride.method["diversity_factor"] == diversity
    assert phase_parts(ride, "mix") == ["none"]
    assert ride_cmo.phases == load_recipe(f"{dataset}/cmo").phases


@pytest.mark.parametrize(("dataset", "kappa"), [("cifar10-lt", 1), ("cifar100-lt", 4), ("digits-lt", 1)])
def test_glmc_has_the_settings_of_its_authors(dataset: str, kappa: float) -> None:
    expected = {"name": "glmc", "q": 0, "label_weighting": 1.2, "kappa": kappa, "revision": 2}
    assert load_recipe(f"{dataset}/glmc").method == expected


def test_the_wide_glmc_differs_in_its_backbone() -> None:
    plain, wide = (load_recipe(f"cifar100-lt/{name}").resolved() for name in ("glmc", "glmc-wide"))
    assert wide == {**plain, "name": "glmc-wide", "model": {**plain["model"], "backbone": "resnet32-w4"}}


@pytest.mark.parametrize(
    ("dataset", "beta", "hard"), [("digits-lt", 0.998, 3), ("cifar10-lt", 0.998, 3), ("cifar100-lt", 0.995, 30)]
)
def test_reslt_and_ncl_have_the_settings_of_their_papers(dataset: str, beta: float, hard: int) -> None:
    reslt, ncl = (load_recipe(f"{dataset}/{name}") for name in ("reslt", "ncl"))
    assert reslt.method == {"name": "reslt", "beta": beta, "medium_from": 0.35, "tail_from": 0.7}
    assert ncl.method == {"name": "ncl", "num_networks": 3, "hard_classes": hard, "divergence_factor": 0.6}
    assert ncl.model.head["num_networks"] == 3


@pytest.mark.parametrize("dataset", ["cifar10-lt", "cifar100-lt"])
def test_the_contrastive_methods_have_the_settings_of_their_authors(dataset: str) -> None:
    bcl, paco = (load_recipe(f"{dataset}/{name}") for name in ("bcl", "paco"))
    assert bcl.method == {"name": "bcl", "contrastive_weight": 0.35, "temperature": 0.07}
    assert bcl.model.head["scale"] == 30
    released = {"alpha": 0.01, "beta": 1, "gamma": 1, "supt": 1, "temperature": 0.05, "queue_size": 1024}
    assert paco.method.items() >= released.items()
    assert paco.model.head["projection_dim"] == 32


@pytest.mark.parametrize("dataset", ["cifar10-lt", "cifar100-lt"])
def test_deferred_balancing_begins_as_plain_mixup(dataset: str) -> None:
    deferred = load_recipe(f"{dataset}/label-occurrence-balanced-mixup-deferred")
    before, after = deferred.phases
    assert (before.sampler, before.mix) == ({"name": "instance"}, load_recipe(f"{dataset}/mixup").phases[0].mix)
    (balanced,) = load_recipe(f"{dataset}/label-occurrence-balanced-mixup").phases
    assert (after.sampler, after.mix) == (balanced.sampler, balanced.mix)
    assert [phase.until for phase in deferred.phases] == [160, 200]


@pytest.mark.parametrize("name", [name for name in SHIPPED if any(part in name for part in UNREAD)])
def test_no_figure_is_claimed_where_none_could_be_read(name: str) -> None:
    assert load_recipe(name).reported == ()


# --- the large sets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["ce", "balanced-softmax", "cmo-ldam-drw", "dbn-mix", "mislas", "sade", "ncl", "paco"]
)
@pytest.mark.parametrize("setting", LARGE)
def test_what_is_tried_on_the_large_sets(setting: str, method: str) -> None:
    recipe = load_recipe(f"{setting}/{method}")
    assert recipe.data.name == setting
    assert set(built(json.dumps(recipe.resolved()["model"]), load_card(setting).classes, recipe)) == {
        load_card(setting).classes
    }


def test_the_protocols_of_the_large_sets_have_the_settings_of_their_papers() -> None:
    """Epochs, batch, rate, Nesterov momentum, decay, jitter, and factors on the rate at some epochs (card, 2)."""
    table = {
        "imagenet-lt-90ep": (90, 512, 0.2, False, 5e-4, 0.4, {45: 0.5}),
        "imagenet-lt-100ep": (100, 256, 0.1, False, 2e-4, 0.4, {0: 1, 59: 1, 60: 0.1, 79: 0.1, 80: 0.01}),
        "imagenet-lt-100ep-cmo": (100, 128, 0.1, False, 2e-4, 0.4, {0: 0.2, 4: 1, 59: 1, 60: 0.1, 80: 0.01}),
        "imagenet-lt-180ep": (180, 256, 0.1, False, 5e-4, 0.4, {90: 0.5}),
        "imagenet-lt-180ep-sade": (180, 64, 0.025, True, 5e-4, 0.4, {90: 0.5}),
        "imagenet-lt-200ep": (200, 256, 0.2, False, 2e-4, 0.4, {100: 0.5}),
        "inaturalist-90ep": (90, 512, 0.2, False, 1e-4, 0, {45: 0.5}),
        "inaturalist-200ep": (200, 512, 0.2, False, 1e-4, 0, {100: 0.5}),
        "inaturalist-200ep-mislas": (200, 256, 0.1, False, 1e-4, 0.4, {100: 0.5}),
        "places-lt-30ep": (30, 128, 0.01, True, 4e-4, 0.4, {0: 1, 9: 1, 10: 0.1, 19: 0.1, 20: 0.01, 29: 0.01}),
    }
    for name, (epochs, batch, lr, nesterov, decay, jitter, factors) in table.items():
        protocol = shipped_protocol(name)
        assert protocol is not None
        optimizer = protocol.optimizer
        assert isinstance(optimizer, SGD)
        assert (protocol.epochs, protocol.batch_size, protocol.augmentation.color_jitter) == (epochs, batch, jitter)
        assert (optimizer.lr, optimizer.nesterov, optimizer.weight_decay) == (lr, nesterov, decay)
        assert [protocol.lr(epoch) for epoch in factors] == pytest.approx([lr * f for f in factors.values()])


@pytest.mark.parametrize(
    ("setting", "alpha", "stage", "head_and_tail"),
    [
        ("imagenet-lt", 0.2, (0.05, 10), (0.3, 0)),
        ("inaturalist2018", 0.2, (0.05, 10), (0.3, 0)),
        ("places-lt", 0.2, (0.05, 10), (0.4, 0.1)),
    ],
)
def test_mislas_has_the_settings_of_its_authors_on_large_sets(
    setting: str, alpha: float, stage: tuple[float, int], head_and_tail: tuple[float, float]
) -> None:
    recipe = load_recipe(f"{setting}/mislas")
    second = recipe.second_stage
    assert second is not None
    assert recipe.phases[0].mix == {"name": "mixup", "alpha": alpha}
    assert (second.stage["lr_factor"], second.stage["epochs"]) == stage
    assert second.stage["shifted_batch_norm"]
    assert (second.loss["epsilon_head"], second.loss["epsilon_tail"]) == head_and_tail


def test_second_stages_and_experts_have_the_settings_of_their_authors_on_large_sets() -> None:
    stages = {"imagenet-lt/crt": (0.2, 10), "inaturalist2018/crt": (0.2, 30), "places-lt/crt": (0.1, 10)}
    stages |= {"imagenet-lt/lws": (0.2, 5), "places-lt/lws": (0.1, 5)}
    for name, rate_and_epochs in stages.items():
        second = load_recipe(name).second_stage
        assert second is not None
        assert (second.stage["lr"], second.stage["epochs"]) == rate_and_epochs
    balpoe = load_recipe("inaturalist2018/balpoe")
    assert balpoe.method["tau"] == [-1, 1, 3]
    assert balpoe.phases[0].mix["alpha"] == 0.2
    assert [load_recipe(f"{setting}/sade").method["tau"] for setting in ("imagenet-lt", "inaturalist2018")] == [2, 1]
    assert load_recipe("imagenet-lt/ncl").method["hard_classes"] == 300
    assert load_recipe("imagenet-lt/lade").phases[0].loss.items() >= {"alpha": 0.05, "lam": 0.5}.items()
    paco = load_recipe("imagenet-lt/paco")
    assert (paco.method["alpha"], paco.method["temperature"], paco.model.head["projection_dim"]) == (0.05, 0.2, 128)


def test_recipes_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = [load_recipe(name).sha256() for name in ("digits-lt/ce", "digits-lt/ce.yaml", "recipes/digits-lt/ce.yaml")]
    assert len(set(found)) == 1


# --- identity ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("cifar10-lt/ce", "a7b1f22c60d50f5a7accd4a4bc73ca8d7212a68316369e164103bba280526332"),
        ("cifar10-lt/cmo-ldam-drw", "79ed064e917f0621a12cac812e3b1cc6f0e41704bfd2396608f9667a49d187a4"),
        ("digits-lt/class-distance-mix-ours", "29fd5d755136dc0e6ea0d57f0227c0ac009adfff3a83083f0714f1a86945a5fe"),
        ("cifar100-lt/class-distance-mix-ours", "0794cb61c46874992c9609b8da5859586f79b41b6d096f51e7550ae9688cb7e9"),
        ("cifar100-lt/dbn-mix", "bf1cc9ea0a3a1f955e8110383e0c7ea66c1bf8ded6301f7819607d4f55b1b404"),
    ],
)
def test_identities_do_not_move(name: str, sha256: str) -> None:
    """Committed records are found again by it; a new setting changes it and orphans them."""
    assert load_recipe(name).sha256() == sha256
