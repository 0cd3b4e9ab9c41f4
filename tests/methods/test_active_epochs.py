"""What every component says of the epochs in which it acts, against what it is seen to do in each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from method_cases import LOGITS, Y, batch_of, build, phase, tiny_network
from torch import Tensor

from lt_bench.data.types import Batch, ClassStats, Epoch, Step
from lt_bench.methods import Method
from lt_bench.methods.ride import RIDE
from lt_bench.mixing import Mix
from lt_bench.mixing.class_distance import draw_partners
from lt_bench.recipe import load_recipe
from lt_bench.registry import FAMILIES, Component, lookup, members

LABELS = np.repeat(np.arange(3), [100, 10, 2])
ORDER = np.arange(len(LABELS))
STATS = ClassStats.of(LABELS, 3)

Epochs = list[Epoch]
"""Those in which a recipe puts a component in force, in order."""


# --- what each is seen to do --------------------------------------------------------------------------


def mixing(config: Any, epochs: Epochs) -> list[int]:
    """Whether an epoch of `cmo`, or of `label-occurrence-balanced-mixup`, has a stream of its own for the partners."""
    mix = lookup("mix", NAMES[type(config)])(STATS, config)
    return [epoch.index for epoch in epochs if mix.partner_order(ORDER, LABELS, epoch) is not None]


def mixes_some(config: Any, epochs: Epochs) -> list[int]:
    mix = lookup("mix", NAMES[type(config)])(STATS, config)
    return [epoch.index for epoch in epochs if mixes(mix, epoch)]


def changes_images(config: Any, epochs: Epochs) -> list[int]:
    mix, batch = lookup("mix", NAMES[type(config)])(STATS, config), batch_of(size=8)
    steps = [Step(epoch, 0, 1, epoch.rng("method")) for epoch in epochs]
    return [step.epoch.index for step in steps if not torch.equal(mix(batch, None, step).images, batch.images)]


def pairs_images(config: Any, epochs: Epochs) -> list[int]:
    """From the first epoch with pairs to the last: some between them have none."""
    found = changes_images(config, epochs)
    return list(range(found[0], found[-1] + 1)) if found else []


def chooses_partners(config: Any, epochs: Epochs) -> list[int]:
    """By the law of its classes, for a generator that mixes in this epoch."""
    mix, found = lookup("mix", "class-distance-mix-ours")(STATS, config), []
    for epoch in epochs:
        order = mix.partner_order(ORDER, LABELS, epoch)
        if mix.classes.seen.any():
            law = torch.full((3, 3), 0.5).fill_diagonal_(0).numpy()
            chosen = draw_partners(law, ORDER, LABELS, epoch.rng("class-distance partners"))
            if order is not None and np.array_equal(LABELS[order], LABELS[chosen]) and mixes(mix, epoch):
                found.append(epoch.index)
        mix.end_epoch(lambda images: torch.zeros(len(images), 3), clean)
    return found


def clean() -> Iterable[Batch]:
    """After equal logits all classes are equally far from each other."""
    return [batch_of(labels=[0, 1, 2])]


def mixes(mix: Mix, epoch: Epoch) -> bool:
    """Whether some step of an epoch mixes."""
    batch, partner, rng = batch_of(0), batch_of(1), epoch.rng("method")
    return any(len(mix(batch, partner, Step(epoch, index, 40, rng)).terms) > 1 for index in range(40))


def leaves_the_natural_law(config: Any, epochs: Epochs) -> list[int]:
    labels = np.repeat(np.arange(2), [1990, 10])
    sampler = lookup("sampler", "progressive")(labels, 2, config)
    natural = np.array([0.995, 0.005])
    return [
        epoch.index
        for epoch in epochs
        if not np.array_equal(sampler.order(epoch, epoch.rng("s")), sampler.draw_by_class(natural, epoch.rng("s")))
    ]


def gives_gradient(name: str, head: str, branch: int) -> Callable[[Any, Epochs], list[int]]:
    """Whether the classifier of a branch learns."""

    def found(config: Any, epochs: Epochs) -> list[int]:
        method = build(name, **config.model_dump(mode="json"))
        return [epoch.index for epoch in epochs if learns(method, tiny_network(head).train(), branch, epoch)]

    return found


def learns(method: Method, network: Any, branch: int, epoch: Epoch) -> bool:
    batches = {name: batch_of(place) for place, name in enumerate(method.streams(epoch))}
    method.loss(network, batches, Step(epoch, 0, 1, epoch.rng("method"))).backward()
    gradients: list[Tensor] = [p.grad for p in network.branches[branch].parameters() if p.grad is not None]
    return any(bool(gradient.any()) for gradient in gradients)


def reweights(config: Any, epochs: Epochs) -> list[int]:
    """Compared with never; where never is asked for, there is nothing to wait for."""
    if config.reweight_from == 1:
        return [epoch.index for epoch in epochs]
    now, never = build("ride", reweight_from=config.reweight_from), build("ride", reweight_from=1.0)
    assert isinstance(now, RIDE)
    assert isinstance(never, RIDE)
    losses = [[m.criterion(LOGITS, Y, 1.0, epoch).item() for m in (now, never)] for epoch in epochs]
    return [epoch.index for epoch, (one, other) in zip(epochs, losses, strict=True) if one != other]


def attacks(config: Any, epochs: Epochs) -> list[int]:
    """Whether the adversary of `taet` is called."""
    method, network, called = build("taet", clean_share=config.clean_share), tiny_network(), list[bool]()
    method.attacked = lambda network, images, *rest: called.append(True) or images  # type: ignore[assignment]
    found = []
    for epoch in epochs:
        called.clear()
        method.loss(network, {"main": batch_of()}, Step(epoch, 0, 1, epoch.rng("method")))
        found += [epoch.index] if called else []
    return found


def corrects_labels(config: Any, epochs: Epochs) -> list[int]:
    """Whether it matters if every label is doubted or none."""
    method, found = build("dynamic-bootstrapping", **config.model_dump(mode="json")), []
    network = tiny_network().train()
    for epoch in epochs:
        losses = []
        for doubt in (0.0, 1.0):
            torch.manual_seed(0)  # of the tiny network's dropout
            method.get_buffer("table").fill_(doubt)
            step = Step(epoch, 0, 1, epoch.rng("method"))
            losses.append(method.loss(deepcopy(network), {"main": batch_of(size=16)}, step).item())
        if losses[0] != losses[1]:
            found.append(epoch.index)
    return found


def trusts_some(name: str) -> Callable[[Any, Epochs], list[int]]:
    """Whether it tells the images of which it is confident from others."""

    def found(config: Any, epochs: Epochs) -> list[int]:
        method, chosen = build(name, **config.model_dump(mode="json")), []
        for epoch in epochs:
            orders = []
            for few in (slice(0, 3), slice(3, 9)):
                method.get_buffer("confident").fill_(False)[few] = True
                orders.append(next(iter(method.streams(epoch).values())))
            if not np.array_equal(*orders):
                chosen.append(epoch.index)
        return chosen

    return found


small = st.integers(0, 12)
stop_epochs = st.tuples(small, st.integers(1, 12), st.floats(0.01, 0.99)).map(
    lambda drawn: {"amplitude_stop": drawn[0], "phase_stop": drawn[0] + drawn[1], "latest": drawn[2]}
)
generators = st.sampled_from(["mixup", "cutmix"]) | st.fixed_dictionaries(
    {"name": st.just("cmo"), "start_epoch": st.integers(-1, 6), "stop_before_end": st.integers(0, 6)}
)
timed = st.fixed_dictionaries({"name": st.just("cmo"), "start_epoch": small, "stop_before_end": small})
CASES: dict[tuple[str, str], tuple[st.SearchStrategy[dict[str, Any]], Callable[[Any, Epochs], list[int]]]] = {
    ("mix", "cmo"): (
        st.fixed_dictionaries({"start_epoch": st.integers(-1, 12), "stop_before_end": small}),
        mixing,
    ),
    ("mix", "label-occurrence-balanced-mixup"): (st.fixed_dictionaries({"start_epoch": small}), mixing),
    ("mix", "lumix-ours"): (st.fixed_dictionaries({"generator": timed}), mixing),
    ("mix", "decouple-mix"): (st.fixed_dictionaries({"generator": timed}), mixing),
    ("mix", "sumix"): (st.fixed_dictionaries({"generator": timed}), mixing),
    ("mix", "minority-partners"): (st.fixed_dictionaries({"generator": timed}), mixes_some),
    ("mix", "sample-pairing"): (
        st.fixed_dictionaries(
            {"start": st.floats(0, 0.45), "end": st.floats(0.55, 1), "on": st.integers(1, 3), "off": st.integers(0, 3)}
        ),
        pairs_images,
    ),
    ("mix", "soft-augmentation"): (st.fixed_dictionaries({"until": st.floats(0.01, 1)}), changes_images),
    ("mix", "unimix"): (st.fixed_dictionaries({"stop_epoch": st.none() | small}), changes_images),
    ("mix", "class-distance-mix-ours"): (
        st.fixed_dictionaries({"warmup_epochs": small, "generator": generators}),
        chooses_partners,
    ),
    ("sampler", "progressive"): (st.just({}), leaves_the_natural_law),
    ("method", "bbn"): (st.just({}), gives_gradient("bbn", "bilateral", 1)),
    ("method", "dynamic-bootstrapping"): (
        st.fixed_dictionaries(
            {"start": st.floats(0.01, 0.99), "guided": st.booleans(), "guided_before": st.floats(0, 0.5)}
        ),
        corrects_labels,
    ),
    ("method", "paddles"): (stop_epochs, trusts_some("paddles")),
    ("method", "paddles-semi"): (stop_epochs, trusts_some("paddles-semi")),
    ("method", "glmc"): (st.just({}), gives_gradient("glmc", "twin-classifier", 1)),
    ("method", "taet"): (st.fixed_dictionaries({"clean_share": st.floats(0, 1)}), attacks),
    ("method", "ride"): (st.fixed_dictionaries({"reweight_from": st.floats(0, 1)}), reweights),
}
"""Settings, and what is seen, of every component that says more than `all epochs`."""
NAMES = {lookup(kind, name).Config: name for kind, name in CASES if kind == "mix"}


# --- the tests ---------------------------------------------------------------------------------------


def test_every_component_with_times_of_its_own_is_watched_here() -> None:
    all_members = {(kind, name): part for kind in FAMILIES for name, part in members(kind).items()}
    own = Component.active_epochs.__func__  # type: ignore[attr-defined]
    assert {key for key, part in all_members.items() if part.active_epochs.__func__ is not own} == set(CASES)
    for key, part in all_members.items():
        assert part.timing.format(**dict.fromkeys(part.Config.model_fields)) or key not in CASES


@pytest.mark.parametrize("key", list(CASES), ids="/".join)
@settings(max_examples=40, deadline=None)
@given(data=st.data(), total=st.integers(1, 12))
def test_it_acts_in_the_epochs_it_names_and_in_no_other(key: tuple[str, str], data: st.DataObject, total: int) -> None:
    strategy, watch = CASES[key]
    component = lookup(*key)
    config = component.Config.read(data.draw(strategy))
    whole = key[0] == "method"  # which has no phases
    first = 0 if whole else data.draw(st.integers(0, total - 1))
    until = total if whole else data.draw(st.integers(first + 1, total))
    epochs = range(first, until)
    expected = component.active_epochs(config, epochs, total)
    assert watch(config, [Epoch(index, total, 0) for index in epochs]) == list(expected)
    assert set(expected) <= set(epochs)


@pytest.mark.parametrize(
    ("kind", "name", "total", "active"),
    [
        ("mix", "cmo", 200, range(4, 197)),
        ("mix", "cmo", 8, range(4, 5)),
        ("mix", "cmo", 7, range(0)),
        ("mix", "cmo", 4, range(0)),
        ("mix", "class-distance-mix-ours", 30, range(5, 30)),
        ("mix", "class-distance-mix-ours", 5, range(0)),
        ("mix", "mixup", 1, range(1)),
        ("mix", "sample-pairing", 1000, range(100, 798)),
        ("mix", "sample-pairing", 30, range(3, 24)),
        ("sampler", "progressive", 1, range(0)),
        ("method", "bbn", 200, range(1, 200)),
        ("method", "dynamic-bootstrapping", 300, range(105, 300)),
        ("method", "paddles", 200, range(31, 200)),
        ("method", "paddles-semi", 300, range(36, 300)),
        ("method", "paddles", 2, range(0)),
        ("method", "ride", 200, range(160, 200)),
        ("method", "ride", 2, range(0)),
        ("method", "standard", 1, range(1)),
        ("loss", "cross-entropy", 1, range(1)),
    ],
)
def test_with_the_settings_of_the_papers(kind: str, name: str, total: int, active: range) -> None:
    component = lookup(kind, name)
    assert component.active_epochs(component.Config(), range(total), total) == active


def test_a_cmo_that_never_acts_is_plain_cross_entropy() -> None:
    """Why an empty range is worth refusing: to the last digit the two are one method."""
    config = load_recipe("digits-lt/cmo").phase_choices()[0].mix.config
    assert not lookup("mix", "cmo").active_epochs(config, range(4), 4)
    for index in range(4):
        epoch = Epoch(index, 4, 0)
        losses = []
        for mix in ("cmo", "none"):
            torch.manual_seed(0)  # of the tiny network's dropout
            method = build("standard", (phase(4, mix=mix),))
            step = Step(epoch, 0, 4, epoch.rng("method"))
            losses.append(method.loss(tiny_network().train(), {"main": batch_of()}, step))
        assert torch.equal(*losses)
