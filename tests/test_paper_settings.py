"""Recipes and protocols have the settings of their papers, or of the code of the authors."""

from __future__ import annotations

import pytest
from recipe_cases import NOISY, phase_parts

from lt_bench.data.cards import load_card
from lt_bench.data.split import class_sizes
from lt_bench.protocol import SGD, shipped_protocol
from lt_bench.recipe import load_recipe

# --- small images ------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("dataset", "lam"), [("cifar10-lt", 0.05), ("cifar100-lt", 0.005)])
def test_gcl_ib_and_softmax_equalisation_have_the_settings_of_their_sources(dataset: str, lam: float) -> None:
    gcl, ib, seql = (load_recipe(f"{dataset}/{name}").phases for name in ("gcl", "ib", "seql"))
    first_stage = {"noise": 0.5, "margin": 0, "scale": 30, "gamma": 0}
    assert gcl[0].loss == {"name": "gcl", "weights": None, **first_stage}
    assert gcl[0].mix == {"name": "mixup", "alpha": 1}
    assert [(phase.until, phase.loss["name"]) for phase in ib] == [(160, "cross-entropy"), (200, "ib")]
    assert (ib[1].loss["alpha"], ib[1].loss["weights"]["name"]) == (1000, "inverse-frequency")
    assert (seql[0].loss["gamma"], seql[0].loss["lam"]) == (0.9, lam)


@pytest.mark.parametrize(
    ("dataset", "factor", "rare"),
    [
        ("cifar10-lt", 100, 5),
        ("cifar10-lt", 50, 5),
        ("cifar100-lt", 100, 52),
        ("cifar100-lt", 50, 52),
        ("digits-lt", 20, 4),
    ],
)
def test_softmax_equalisation_spares_some_classes_of_every_data_set(dataset: str, factor: int, rare: int) -> None:
    recipe = load_recipe(f"{dataset}/seql", [f"data.factor={factor}"])
    card = load_card(dataset)
    assert recipe.data.factor == factor
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


@pytest.mark.parametrize(
    ("dataset", "beta", "bounds", "hard"),
    [
        ("digits-lt", 0.998, (0.35, 0.7), 3),
        ("cifar10-lt", 0.998, (0.2, 0.4), 3),  # the third and the fifth of its classes
        ("cifar100-lt", 0.995, (0.35, 0.7), 30),
    ],
)
def test_reslt_and_ncl_have_the_settings_of_their_papers(
    dataset: str, beta: float, bounds: tuple[float, float], hard: int
) -> None:
    reslt, ncl = (load_recipe(f"{dataset}/{name}") for name in ("reslt", "ncl"))
    assert reslt.method == {"name": "reslt", "beta": beta, "medium_from": bounds[0], "tail_from": bounds[1]}
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


# --- against label noise -----------------------------------------------------------------------------


def test_methods_against_noise_have_the_epochs_of_their_papers() -> None:
    stops = {"m-dyr-h": 0.35, "md-dyr-sh": 0.35}
    for name, start in stops.items():
        assert load_recipe(f"cifar10-lt/{name}").method["start"] == start
    for rate, epochs in {0.2: (18, 39), 0.5: (19, 39), 0.8: (19, 30)}.items():  # of the last nothing is known
        hard = load_recipe("cifar10-lt/paddles", [f"data.noise={{name: symmetric-exclusive, rate: {rate}}}"]).method
        assert (hard["amplitude_stop"], hard["phase_stop"]) == epochs
    forgotten = {setting: load_recipe(f"{setting}/jocor").method["forget_rate"] for setting in NOISY}
    assert forgotten == {"cifar10-lt-noisy": 0.36, "cifar10n-lt": 0.4}  # rates of wrong labels
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


def test_the_rate_of_paddles_on_human_labels_ends_at_a_hundredth() -> None:
    recipe = load_recipe("cifar10n-lt/paddles-semi-cifar-n-own-protocol", ["data.factor=1"])
    assert recipe.protocol.lr(300) == pytest.approx(2e-4)
    assert recipe.protocol.augmentation.autoaugment
    method = recipe.method
    assert (method["amplitude_stop"], method["phase_stop"], method["unlabelled_weight"]) == (25, 30, 5)


def test_protocols_normalise_as_their_authors_do() -> None:
    cifar10, cifar100 = (0.4914, 0.4822, 0.4465), (0.5071, 0.4867, 0.4408)
    table = {
        "dbn-mix-200ep-cifar10": (cifar10, (0.2471, 0.2435, 0.2616)),
        "dbn-mix-200ep-cifar100": (cifar100, (0.2675, 0.2565, 0.2761)),
        "robust-400ep": (cifar10, (0.2471, 0.2435, 0.2616)),
        "robust-lt-100ep": ((0, 0, 0), (1, 1, 1)),
    }
    for name, constants in table.items():
        protocol = shipped_protocol(name)
        assert protocol is not None
        assert (protocol.augmentation.mean, protocol.augmentation.std) == constants
    inaturalist = load_card("inaturalist2018")
    assert (inaturalist.mean, inaturalist.std) == ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192))


# --- the large sets ----------------------------------------------------------------------------------


def test_mixes_have_the_settings_of_their_authors_on_large_sets() -> None:
    learnt = {"momentum_end": 0.99999}
    large = ("imagenet-lt", "inaturalist2018")
    table = {
        "automix": {large: {"mask_schedule": "cosine", "lambda_concat": True} | learnt},
        "samix": {
            large: {"k": None, "value_dropout": 0.1, "mask_schedule": "cosine"} | learnt,
            ("tiny-imagenet-lt",): {"k": None},
        },
        "adautomix": {
            ("imagenet-lt",): {"samples": 2, "beta": 0.1, "lambda_concat": True, "normalised": True} | learnt,
            ("tiny-imagenet-lt",): {"samples": 3, "beta": 0.4},
        },
        "sumix": {("imagenet-lt",): {"uncertainty": "logits"}, ("tiny-imagenet-lt",): {"weight": 1.0}},
        "mixup": {(*large, "places-lt"): {"alpha": 0.2}, ("tiny-imagenet-lt",): {"alpha": 1.0}},
        "manifold-mixup": {(*large, "places-lt", "tiny-imagenet-lt"): {"alpha": 0.2}, ("cifar100-lt",): {"alpha": 2.0}},
        "cutmix": {("imagenet-lt",): {"probability": 1.0}, ("cifar100-lt",): {"probability": 0.5}},
        "saliencymix": {("imagenet-lt",): {"probability": 1.0}, ("cifar100-lt",): {"probability": 0.5}},
        "recursive-mix": {("imagenet-lt",): {"weight": 0.5}},
        "augmix": {("imagenet-lt",): {"severity": 1}},
    }
    for name, by_settings in table.items():
        for settings, wanted in by_settings.items():
            for setting in settings:
                mix = load_recipe(f"{setting}/{name}").phases[0].mix
                assert {key: mix[key] for key in wanted} == wanted, (setting, name)
    assert load_recipe("imagenet-lt/sumix").phases[0].mix["generator"]["beta"] == 1.0


@pytest.mark.parametrize("setting", ["imagenet-lt", "inaturalist2018", "places-lt"])
@pytest.mark.parametrize(
    ("name", "plain"),
    [("mixup-drw", "mixup"), ("class-distance-mix-ours", "mixup"), ("class-distance-mix-ours-cutmix", "cutmix")],
)
def test_what_is_compared_on_large_sets_has_one_mix(setting: str, name: str, plain: str) -> None:
    found, wanted = (load_recipe(f"{setting}/{one}").phases[0].mix for one in (name, plain))
    inside = found.get("generator", found)
    assert ({"name": inside, "alpha": found["alpha"]} if isinstance(inside, str) else inside) == wanted


def test_the_protocols_of_the_large_sets_have_the_settings_of_their_papers() -> None:
    """Epochs, batch, rate, Nesterov momentum, decay, jitter, and factors on the rate at some epochs (card, 2)."""
    table = {
        "imagenet-lt-90ep": (90, 512, 0.2, False, 5e-4, 0.4, {45: 0.5}),
        "imagenet-lt-100ep": (100, 256, 0.1, True, 2e-4, 0.4, {0: 0.2, 4: 1, 59: 1, 60: 0.1, 79: 0.1, 80: 0.01}),
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
    hard = {"imagenet-lt": 300, "inaturalist2018": 2442, "places-lt": 122}
    assert {setting: load_recipe(f"{setting}/ncl").method["hard_classes"] for setting in hard} == hard
    assert load_recipe("imagenet-lt/lade").phases[0].loss.items() >= {"alpha": 0.05, "lam": 0.5}.items()
    assert load_recipe("imagenet-lt/bcl").model.head["projection_dim"] == 1024
    paco = load_recipe("imagenet-lt/paco")
    assert (paco.method["alpha"], paco.method["temperature"], paco.model.head["projection_dim"]) == (0.05, 0.2, 128)


@pytest.mark.parametrize(
    ("setting", "ride_and_sade_are_narrow", "rho"),
    [
        ("imagenet-lt", (True, True), 0.02),
        ("inaturalist2018", (True, True), 0.015),
        ("places-lt", (False, False), 0.05),  # they start from trained weights, which are of the full width
    ],
)
def test_diverse_experts_have_the_settings_of_their_authors_on_large_sets(
    setting: str, ride_and_sade_are_narrow: tuple[bool, bool], rho: float
) -> None:
    ride, sade, balpoe = (load_recipe(f"{setting}/{name}") for name in ("ride", "sade", "balpoe"))
    assert (ride.method["diversity_factor"], ride.method["temperature_rho"]) == (-0.2, rho)
    narrow = [recipe.model.head["reduce_dimension"] for recipe in (ride, sade, balpoe)]
    assert narrow == [*ride_and_sade_are_narrow, False]
