"""Every recipe in the box: it loads, says truthfully what it is, and its commands work."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_cases import BALANCED, LARGE, MISFITS, NOISY, SHIPPED, TUNED

from lt_bench.corrections import superseded
from lt_bench.data.cards import load_card
from lt_bench.errors import UserError
from lt_bench.models import build_network
from lt_bench.protocol import shipped_protocol
from lt_bench.recipe import Recipe, load_recipe
from lt_bench.recipe.files import SETTINGS, locate, shipped
from lt_bench.recipe.layers import ROW_FIELDS
from lt_bench.recipe.loading import recipe_layers
from lt_bench.recipe.overrides import split_arguments
from lt_bench.registry import named
from lt_bench.resources import resource_folder
from lt_bench.yaml_files import read_yaml

ROOT = resource_folder("recipes")
RECORDS = Path(__file__).parents[1] / "leaderboard" / "v1" / "records"
DEFAULT = {"subset_seed": 0}

UNREAD = (
    *("dbn-mix", "-ours", "balanced-mixup", "gcl", "digits", "reslt", "ncl", "glmc", "/paco/"),
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
            found = recipe_layers(locate(f"{dataset}/{method}"), given_by(row))
            sources = [layer.source for layer in found]
            assert any(f"{method}.yaml, on " in source and dataset in source for source in sources)


def given_by(row: dict[str, Any]) -> dict[str, Any]:
    """Overrides under which a row holds."""
    given = {"data.factor": row["factor"]} if "factor" in row else {}
    if "noise" in row:
        words = row["noise"][0] if isinstance(row["noise"], list) else row["noise"]
        name, _, how = words.partition(" ")
        further = {"labels": how or "worst"} if name == "cifar10n" else {"rate": float(how)}
        given["data.noise"] = {"name": name, **further}
    return given


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


def test_recipes_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = [load_recipe(name).sha256() for name in ("digits-lt/ce", "digits-lt/ce.yaml", "recipes/digits-lt/ce.yaml")]
    assert len(set(found)) == 1


# --- settings that are not tried with every method ---------------------------------------------------


@pytest.mark.parametrize("method", ["ce", "mixup", "cutmix", "manifold-mixup", "automix", "balanced-softmax", "crt"])
@pytest.mark.parametrize("setting", BALANCED)
def test_what_is_tried_on_balanced_classes(setting: str, method: str) -> None:
    recipe = load_recipe(f"{setting}/{method}")
    assert (recipe.data.name, recipe.data.factor, recipe.protocol.name) == (setting, 1, "openmixup-200ep")
    assert recipe.model.backbone == "cifar-resnet18"
    assert all(figure.factor == 1 for figure in recipe.reported)
    assert recipe.sha256() != load_recipe(f"{setting}-lt/{method}", ["data.factor=1"]).sha256()


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


# --- published figures -------------------------------------------------------------------------------


def test_figures_of_balanced_classes() -> None:
    found = {name: load_recipe(f"cifar100/{name}").reported for name in ("ce", "mixup", "cutmix", "automix")}
    assert {name: [figure.top1 for figure in figures] for name, figures in found.items()} == {
        "ce": [76.42],
        "mixup": [78.52],
        "cutmix": [],  # OpenMixup's has another law, and mixes every batch
        "automix": [80.12],
    }
    assert found["automix"][0].protocol == "automix-200ep"


def test_a_figure_under_noise_stands_beside_a_run_under_that_noise() -> None:
    asked = ("data.factor=1", "data.noise={name: symmetric, rate: 0.5}")
    found = {name: load_recipe(f"cifar10-lt/{name}-own-protocol", asked).reported for name in ("m-dyr-h", "md-dyr-sh")}
    assert {name: [figure.top1 for figure in figures] for name, figures in found.items()} == {
        "m-dyr-h": [91.9],
        "md-dyr-sh": [90.3],
    }
    assert load_recipe("cifar100-lt/m-dyr-h-own-protocol").reported == ()  # the paper has no long tail


@pytest.mark.parametrize("name", [name for name in SHIPPED if any(part in f"{name}/" for part in UNREAD)])
def test_no_figure_is_claimed_where_none_could_be_read(name: str) -> None:
    assert load_recipe(name).reported == ()


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
