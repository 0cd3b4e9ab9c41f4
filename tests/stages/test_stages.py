"""Second stages: what each makes of a trained classifier, by the numbers of the method cards."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from lt_bench.data.types import ClassStats
from lt_bench.losses.gcl import GCL
from lt_bench.losses.label_aware_smoothing import LabelAwareSmoothing
from lt_bench.losses.logit_adjustment import LogitAdjustment
from lt_bench.models.heads import CosineClassifier, linear_classifier
from lt_bench.models.network import Branch, Network
from lt_bench.recipe import load_recipe
from lt_bench.registry import lookup, members
from lt_bench.stages import DecoupledNetwork, Stage

WEIGHT = torch.tensor([[3.0, 4.0], [0.6, 0.8], [0.3, -0.4]])  # of norms 5, 1 and 0.5
BIAS = torch.tensor([0.5, 0.0, -0.5])
FEATURES = torch.tensor([[1.0, 0.5]])
STAGES = sorted(members("stage"))

every_stage = pytest.mark.parametrize("name", STAGES)


def trained(weight: Tensor = WEIGHT, bias: Tensor = BIAS) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], len(weight))
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return linear


def build(name: str, classifier: nn.Module | None = None, **settings: Any) -> Stage:
    component = lookup("stage", name)
    stage: Stage = component(classifier or trained(), **settings)
    return stage


def check(found: Tensor, expected: list[Any]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), rtol=2e-5, atol=2e-6)


def network(name: str, seed: int = 0) -> Network:
    """A small network with the head that a stage starts from."""
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    head = max(lookup("stage", name).heads & {"linear", "cosine"})
    classifier = {"linear": linear_classifier, "cosine": CosineClassifier}[head](4, 3)
    return Network(trunk, [Branch(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)), classifier)])


def decoupled(name: str, seed: int = 0, **settings: Any) -> DecoupledNetwork:
    component = lookup("stage", name)
    return DecoupledNetwork(network(name), component, component.Config.read(settings), seed)


# --- oracles -----------------------------------------------------------------------------------------


def test_lws_scales_the_bias_too() -> None:
    stage = build("lws")
    with torch.no_grad():
        stage.get_parameter("scale").copy_(torch.tensor([1.2, 0.9, 2.0]))
    check(stage(FEATURES), [[6.6, 0.9, -0.8]])  # by the paper's formula it would be 6.5, 0.9, -0.3


@pytest.mark.parametrize(
    ("tau", "logits"),
    [
        (0.0, [5, 1, 0.1]),
        (0.5, [2.236068, 1, 0.141421]),
        (0.7, [1.620656, 1, 0.162450]),
        (1.0, [1, 1, 0.2]),
    ],
)
def test_tau_normalisation_drops_the_bias(tau: float, logits: list[float]) -> None:
    check(build("tau-norm", tau=tau)(FEATURES), [[float(z) for z in logits]])


def test_nearest_class_mean() -> None:
    stage = build("ncm", trained(torch.zeros(2, 2), torch.zeros(2)))
    stage.fit(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [1.0, 3.0]]), torch.tensor([0, 0, 1, 1]))
    check(stage.get_buffer("centre"), [1.25, 1.25])
    check(stage.get_buffer("means"), [[0.308809, -0.780909], [-0.499457, 0.752223]])
    check(stage(torch.tensor([[2.0, 1.0]])), [[-0.625369, -3.238697]])


def test_max_norm_projects_rows_onto_the_radius() -> None:
    linear = trained()
    stage = build("max-norm", linear)
    check(stage.get_buffer("radius"), 0.95)  # type: ignore[arg-type]
    stage.after_step()
    check(linear.weight.detach(), [[0.57, 0.76], [0.57, 0.76], [0.3, -0.4]])
    assert torch.equal(linear.bias.detach(), BIAS)
    stage.after_step()
    check(linear.weight.detach(), [[0.57, 0.76], [0.57, 0.76], [0.3, -0.4]])


def test_disalign() -> None:
    linear = trained(torch.zeros(3, 2), torch.tensor([2.0, 0.5, -1.0]))
    stage = build("disalign", linear)
    assert stage.get_parameter("scale").tolist() == [1, 1, 1]
    check(stage.get_parameter("confidence.weight").detach(), [[0.1, 0.1]])
    with torch.no_grad():
        stage.get_parameter("scale").copy_(torch.tensor([0.2, 0.1, -0.3]))
        stage.get_parameter("offset").copy_(torch.tensor([0.0, 0.4, 0.8]))
    features = torch.tensor([[1.0, 2.0]])
    check(stage.get_submodule("confidence")(features).sigmoid().detach(), [[0.574443]])
    check(stage(features), [[2.229777, 0.758499, -0.368113]])


def test_mislas_learns_its_scale_at_the_full_rate_and_the_classifier_slowly() -> None:
    recipe = load_recipe("cifar100-lt/mislas")
    assert [round(recipe.training.lr(epoch), 6) for epoch in (0, 5, 9)] == [0.1, 0.05, 0.002447]
    stage = build("mislas", lr_factor=0.2)
    rates = stage.rates()
    assert {name: rates[parameter] for name, parameter in stage.named_parameters()} == {
        "linear.weight": 0.2,
        "linear.bias": 0.2,
        "scale": 1.0,
    }
    check(stage(FEATURES), [[5.5, 1.0, -0.4]])  # at first it is the trained classifier


@pytest.mark.parametrize(
    ("dataset", "epsilons", "lr_factor", "shifted"),
    [("cifar10-lt", (0.3, 0.0), 0.5, False), ("cifar100-lt", (0.4, 0.1), 0.2, True)],
)
def test_the_settings_of_mislas(dataset: str, epsilons: tuple[float, float], lr_factor: float, shifted: bool) -> None:
    second = load_recipe(f"{dataset}/mislas").resolved()["second_stage"]
    assert (second["loss"]["epsilon_head"], second["loss"]["epsilon_tail"]) == epsilons
    assert (second["stage"]["lr_factor"], second["stage"]["shifted_batch_norm"]) == (lr_factor, shifted)
    training = load_recipe(f"{dataset}/mislas").training
    assert (training.epochs, training.optimizer.lr, training.optimizer.weight_decay) == (10, 0.1, 2e-4)


def test_the_settings_of_weight_balancing() -> None:
    recipe = load_recipe("cifar100-lt/max-norm")
    second, training = recipe.resolved()["second_stage"], recipe.training
    assert second["stage"]["threshold"] == 0.1
    assert (second["loss"]["form"], second["loss"]["beta"]) == ("binary-softmax", 0.9999)
    assert (training.epochs, training.optimizer.lr, training.optimizer.weight_decay) == (10, 0.01, 0.1)


def test_mislas_without_smoothing_is_retraining_from_the_trained_weights() -> None:
    """Oracle 8 of its card: scale 1 and no smoothing are cross entropy of the trained classifier."""
    stats = ClassStats(torch.tensor([100, 50, 10]))
    loss = LabelAwareSmoothing(stats, epsilon_head=0.0)
    labels = torch.tensor([2])
    found = loss(build("mislas")(FEATURES), labels)
    assert torch.equal(found, nn.functional.cross_entropy(trained()(FEATURES), labels))


def test_crt_starts_from_a_classifier_of_its_own() -> None:
    stage = build("crt")
    weight = stage.get_parameter("linear.weight")
    assert weight.shape == WEIGHT.shape
    assert not torch.equal(weight, WEIGHT)
    assert stage.get_parameter("linear.bias").shape == (3,)


@pytest.mark.parametrize(("tau", "predicted"), [(0.0, [0, 1, 0, 2]), (0.5, [0, 2, 2, 2]), (1.0, [2, 2, 2, 2])])
def test_post_hoc_adjustment_of_a_trained_classifier(tau: float, predicted: list[int]) -> None:
    """Oracle O1 of the card, its logits made by a classifier of three features."""
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.2, 1.0, 0.3], [1.5, 0.1, 0.9], [-0.5, 0.4, 1.2]])
    stage = build("post-hoc", trained(torch.eye(3), torch.zeros(3)))
    loss = LogitAdjustment(ClassStats(torch.tensor([500, 50, 5])), tau=tau, post_hoc=True)
    assert loss.scores(stage(logits)).argmax(dim=1).tolist() == predicted


def test_gcl_trains_the_cosines_on_slowly() -> None:
    recipe = load_recipe("cifar100-lt/gcl-two-stage")
    rates = [0.1 * 0.1 * 0.1 * (1 + math.cos(math.pi * epoch / 30)) for epoch in range(30)]
    assert [recipe.training.lr(epoch) for epoch in range(30)] == pytest.approx(rates)
    (phase,) = recipe.phase_choices()
    assert phase.loss.config == GCL.Config(noise=0.5, margin=0.1, scale=20, gamma=1)
    classifier = CosineClassifier(2, 3)
    stage = build("gcl", classifier)
    assert torch.equal(stage(FEATURES), classifier(FEATURES))  # at first it is the trained classifier


@pytest.mark.parametrize(
    ("name", "epochs", "sampler", "loss"),
    [
        ("crt", 10, "class-aware", "cross-entropy"),
        ("lws", 5, "class-aware", "cross-entropy"),
        ("tau-norm", 0, "instance", "cross-entropy"),
        ("ncm", 0, "instance", "cross-entropy"),
        ("max-norm", 10, "instance", "class-balanced"),
        ("disalign", 10, "instance", "cross-entropy"),
        ("mislas", 10, "class-aware", "label-aware-smoothing"),
        ("pc-softmax", 0, "instance", "logit-adjustment"),
        ("gcl-two-stage", 30, "class-balanced", "gcl"),
    ],
)
def test_the_settings_of_the_cards(name: str, epochs: int, sampler: str, loss: str) -> None:
    (phase,) = load_recipe(f"cifar100-lt/{name}").phase_choices()
    assert (load_recipe(f"cifar100-lt/{name}").training.epochs, phase.until) == (epochs, max(1, epochs))
    assert (phase.sampler.component.name, phase.mix.component.name, phase.loss.component.name) == (
        sampler,
        "mixup" if loss == "gcl" else "none",
        loss,
    )


@pytest.mark.parametrize(
    ("first", "name", "recipe"),
    [
        ("ce", "max-norm", "max-norm"),
        ("ce", "disalign", "disalign"),
        ("ce", "post-hoc", "pc-softmax"),
        ("mixup", "mislas", "mislas"),
        ("gcl", "gcl", "gcl-two-stage"),
    ],
)
def test_the_name_alone_means_the_settings_of_the_paper(first: str, name: str, recipe: str) -> None:
    by_name = load_recipe(f"cifar100-lt/{first}", [f"second_stage={name}"])
    assert by_name.sha256() == load_recipe(f"cifar100-lt/{recipe}").sha256()


# --- what all of them keep ---------------------------------------------------------------------------


def adapted(network: DecoupledNetwork) -> tuple[str, ...]:
    """Beginnings of the names in what a stage adapts."""
    return tuple(f"{name}." for name, part in network.named_modules() if part in network.adapted)


@every_stage
def test_only_the_stage_learns(name: str) -> None:
    stage_network = decoupled(name)
    learning = {key for key, parameter in stage_network.named_parameters() if parameter.requires_grad}
    assert all(key.startswith(("branches.0.classifier.", *adapted(stage_network))) for key in learning)
    assert set(stage_network.rates()) == {stage_network.get_parameter(key) for key in learning}
    assert bool(learning) == (stage_network.second_stage.config.model_dump()["epochs"] > 0)


@every_stage
@pytest.mark.parametrize("shifted", [False, True])
def test_batch_norm_moves_only_where_it_is_shifted(name: str, shifted: bool) -> None:
    if shifted and not lookup("stage", name).Config().epochs:
        with pytest.raises(ValidationError, match="shifted_batch_norm has no effect on a stage that trains nothing"):
            decoupled(name, shifted_batch_norm=True)
        return
    stage_network = decoupled(name, shifted_batch_norm=shifted).train()
    before = {key: value.clone() for key, value in stage_network.named_buffers() if "running" in key}
    logits = stage_network(torch.randn(8, 3, 8, 8))
    assert logits.shape == (8, 3)
    moved = [key for key, value in before.items() if not torch.equal(stage_network.get_buffer(key), value)]
    assert moved == [key for key in before if shifted or key.startswith(adapted(stage_network))]
    assert not stage_network.eval().training


@every_stage
def test_its_start_follows_from_the_seed_alone(name: str) -> None:
    component, start = lookup("stage", name), network(name)
    state = torch.get_rng_state()
    first = DecoupledNetwork(start, component, component.Config(), seed=3)
    assert torch.equal(state, torch.get_rng_state())
    again, other = decoupled(name, seed=3), decoupled(name, seed=4)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in first.state_dict().items())
    if name == "crt":
        assert not torch.equal(first.second_stage.linear.weight, other.second_stage.linear.weight)  # type: ignore[union-attr]


@every_stage
def test_without_training_it_depends_on_the_trained_network_only(name: str) -> None:
    """The state that a checkpoint brings back is all there is: a network built on other weights gives the same."""
    images = torch.randn(4, 3, 8, 8)
    first = decoupled(name)
    if first.second_stage.needs_features:
        first.second_stage.fit(torch.randn(9, 4), torch.arange(9) % 3)
    component = lookup("stage", name)
    second = DecoupledNetwork(network(name, seed=5), component, component.Config(), 0)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.eval()(images), second.eval()(images))


@pytest.mark.parametrize(("dataset", "images", "released"), [("cifar10-lt", 12406, 98), ("cifar100-lt", 10847, 86)])
def test_an_epoch_has_one_step_less_than_in_the_released_loop(dataset: str, images: int, released: int) -> None:
    """MiSLAS's loop stops after ceil(N / B) + 1 batches; here every epoch passes N images, whatever the sampler."""
    assert -(-images // load_recipe(f"{dataset}/mislas").training.batch_size) == released - 1
