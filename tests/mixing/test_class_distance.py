"""The class-distance proposal: its laws by hand, its measuring of the network, and what it draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mix_cases import STATS, batch_of, build, constant, step_at
from torch import Tensor

from lt_bench.data.types import Batch, Epoch, IntArray
from lt_bench.errors import UserError
from lt_bench.mixing import Mix
from lt_bench.mixing.class_distance import (
    ClassDistanceMix,
    ClassMeans,
    Distance,
    class_distances,
    draw_partners,
    partner_law,
)
from lt_bench.registry import members

M = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.1, 0.8]])
MEASURED = {"distance", "probability", "accuracy", "partner_share"}
"""What an epoch that measured the classes leaves."""
LABELS = np.repeat(np.arange(3), [100, 10, 1])
GENERATORS = sorted(name for name, mix in members("mix").items() if mix.refuses_partners is None)  # type: ignore[attr-defined]


def logits_that_show(probability: Tensor) -> Callable[[Tensor], Tensor]:
    """A network whose softmax for an image of value c is row c of `probability`."""
    return lambda images: probability[images[:, 0, 0, 0].long()].log()


def clean(labels: list[int]) -> Iterable[Batch]:
    """Images whose value is their label, in batches of two."""
    every = torch.tensor(labels)
    for part in every.split(2):
        yield Batch(part.float().reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2), part)


# --- laws --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance", "d01", "d02", "d12"),
    [("l2", 0.565685, 0.927362, 0.883176), ("jensen-shannon", 0.093466, 0.289988, 0.280165)],
)
def test_distances_by_hand(distance: Distance, d01: float, d02: float, d12: float) -> None:
    expected = torch.tensor([[0, d01, d02], [d01, 0, d12], [d02, d12, 0]], dtype=torch.float64)
    torch.testing.assert_close(class_distances(M, distance), expected, atol=1e-6, rtol=0)


@given(st.integers(2, 40), st.integers(0, 10**6), st.sampled_from(["l2", "jensen-shannon"]))
def test_distances_are_symmetric_and_bounded(classes: int, seed: int, distance: Distance) -> None:
    probability = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.full(classes, 0.1), classes))
    distances = class_distances(probability, distance)
    torch.testing.assert_close(distances, distances.T, atol=1e-7, rtol=0)
    assert (distances.diagonal() == 0).all()
    assert distances.min() >= 0
    assert distances.max() <= (math.sqrt(2) if distance == "l2" else math.log(2)) + 1e-9


@pytest.mark.parametrize(
    ("temperature", "row"),
    [
        (0.1, [0, 0.973834, 0.026166]),
        (0.2, [0, 0.859166, 0.140834]),
        (1, [0, 0.589446, 0.410554]),
        (1e9, [0, 0.5, 0.5]),
        (1e-300, [0, 1, 0]),  # towards 0: the nearest class
    ],
)
def test_partner_law_by_hand(temperature: float, row: list[float]) -> None:
    law = partner_law(class_distances(M, "l2"), temperature)
    torch.testing.assert_close(law[0], torch.tensor(row, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(law.sum(dim=1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("distance", ["l2", "jensen-shannon"])
@pytest.mark.parametrize("classes", [3, 40])
def test_equal_rows_give_a_uniform_partner_among_the_others(classes: int, distance: Distance) -> None:
    rows = torch.full((classes, classes), 1 / classes)
    law = partner_law(class_distances(rows, distance), 0.2)
    expected = (1 - torch.eye(classes, dtype=torch.float64)) / (classes - 1)
    torch.testing.assert_close(law, expected, atol=1e-6, rtol=0)


# --- measuring ---------------------------------------------------------------------------------------


def test_the_first_refresh_sets_and_later_ones_average() -> None:
    means = ClassMeans(3, momentum=0.9)
    means.refresh(logits_that_show(M), clean([0, 1, 2, 0, 1]))
    torch.testing.assert_close(means.probability, M)
    assert means.accuracy.tolist() == [1, 1, 1]
    means.refresh(logits_that_show(torch.tensor([[0.5, 0.4, 0.1]] * 3)), clean([0, 1, 2, 2]))
    torch.testing.assert_close(means.probability[0], torch.tensor([0.68, 0.22, 0.1]))
    torch.testing.assert_close(means.accuracy, torch.tensor([1, 0.9, 0.9]))


def test_a_row_is_the_mean_over_images_of_its_class() -> None:
    means = ClassMeans(2, momentum=0.9)
    images = torch.tensor([0.0, 1.0, 1.0]).reshape(3, 1, 1, 1)
    network = logits_that_show(torch.tensor([[0.9, 0.1], [0.3, 0.7]]))
    means.refresh(network, [Batch(images, torch.tensor([0, 0, 1]))])
    torch.testing.assert_close(means.probability, torch.tensor([[0.6, 0.4], [0.3, 0.7]]))
    assert means.accuracy.tolist() == [0.5, 1]


def test_an_unseen_class_keeps_its_row() -> None:
    means = ClassMeans(3, momentum=0.9)
    means.refresh(logits_that_show(M), clean([0, 1]))
    assert means.seen.tolist() == [True, True, False]
    torch.testing.assert_close(means.probability[2], torch.full((3,), 1 / 3))
    means.refresh(logits_that_show(M), clean([2]))
    torch.testing.assert_close(means.probability, M)  # the late class is set, the others are left alone
    assert means.accuracy.tolist() == [1, 1, 1]


# --- drawing -----------------------------------------------------------------------------------------


def test_partners_follow_the_law_and_are_uniform_inside_their_class() -> None:
    law = partner_law(class_distances(M, "l2"), 0.2).numpy()
    order = np.repeat([5, 103, 110], 60_000)  # an image of each class
    partners = draw_partners(law, order, LABELS, step_at().rng)
    for label, drawn in enumerate(partners.reshape(3, -1)):
        np.testing.assert_allclose(np.bincount(LABELS[drawn], minlength=3) / 60_000, law[label], atol=0.006)
    inside = np.bincount(partners[:60_000], minlength=111)[100:110]
    np.testing.assert_allclose(inside / inside.sum(), np.full(10, 0.1), atol=0.006)


@given(st.integers(0, 10**6), st.integers(2, 12))
def test_a_partner_is_never_of_the_own_class(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.concatenate([np.arange(classes), rng.integers(0, classes, 50)]))
    rows = torch.from_numpy(rng.dirichlet(np.ones(classes), classes))
    partners = draw_partners(partner_law(class_distances(rows, "l2"), 0.1).numpy(), np.arange(len(labels)), labels, rng)
    assert (labels[partners] != labels).all()


# --- the mix over a training -------------------------------------------------------------------------


def mix_after(epochs: int, **settings: Any) -> ClassDistanceMix:
    """The mix as it stands after so many epochs of a network that shows M."""
    mix = build("class-distance-mix-ours", **settings)
    assert isinstance(mix, ClassDistanceMix)
    for index in range(epochs):
        mix.partner_order(np.arange(111), LABELS, Epoch(index, 30, 0))
        mix.end_epoch(logits_that_show(M), lambda: clean([0, 1, 2]))
    return mix


def test_partners_are_random_during_warm_up_and_chosen_after_it() -> None:
    mix = mix_after(0)
    for index in range(8):
        order = mix.partner_order(np.arange(111), LABELS, Epoch(index, 30, 0))
        assert (order is None) == (index < 5)
        mix.end_epoch(logits_that_show(M), lambda: clean([0, 1, 2]))


def test_the_network_is_measured_from_the_last_warm_up_epoch_on() -> None:
    passes = []

    def counted() -> Iterator[Batch]:
        passes.append(True)
        yield from clean([0, 1, 2])

    mix = mix_after(0)
    for index in range(7):
        mix.partner_order(np.arange(111), LABELS, Epoch(index, 30, 0))
        mix.end_epoch(logits_that_show(M), counted)
    assert len(passes) == 3  # after epochs 4, 5 and 6


def test_a_mix_that_starts_late_waits_for_its_first_measure() -> None:
    mix = mix_after(0)
    assert mix.partner_order(np.arange(111), LABELS, Epoch(20, 30, 0)) is None
    mix.end_epoch(logits_that_show(M), lambda: clean([0, 1, 2]))
    assert mix.partner_order(np.arange(111), LABELS, Epoch(21, 30, 0)) is not None


def test_state_survives_a_checkpoint() -> None:
    before, after = mix_after(8), mix_after(0)
    after.load_state_dict(before.state_dict())
    epoch, order = Epoch(8, 30, 0), np.arange(111)
    np.testing.assert_array_equal(after.partner_order(order, LABELS, epoch), before.partner_order(order, LABELS, epoch))


def test_partners_raise_the_label_share_of_rare_classes() -> None:
    # Epoch over counts 100, 10, 1: the partner label of class 0 is class 1 with .859166, class 2 with .140834, ...
    law = partner_law(class_distances(M, "l2"), 0.2)
    expected = (STATS.prior.double() @ law).tolist()
    order = np.tile(np.arange(111), 2000)
    partners = mix_after(6).partner_order(order, LABELS, Epoch(6, 30, 0))
    assert partners is not None
    share = np.bincount(LABELS[partners]) / len(partners)
    np.testing.assert_allclose(share, expected, atol=0.005)
    assert share[2] > 10 * STATS.prior[2]


@pytest.mark.parametrize(("generator", "pixels_blend"), [("mixup", True), ("cutmix", False)])
def test_generators(generator: str, pixels_blend: bool) -> None:
    mix = build("class-distance-mix-ours", generator=generator)
    batch, partner = batch_of(0), batch_of(1)
    mixed = mix(batch, partner, step_at(seed=3))
    from_one_image = (mixed.images == batch.images) | (mixed.images == partner.images)
    assert from_one_image.all() != pixels_blend
    assert torch.equal(mixed.terms[1][0], partner.labels)


# --- any mix as the generator ------------------------------------------------------------------------


def order_of(mix: Mix, index: int, order: IntArray | None = None) -> IntArray:
    found = mix.partner_order(np.arange(111) if order is None else order, LABELS, Epoch(index, 30, 0))
    assert found is not None
    return found


def test_after_warm_up_the_foregrounds_of_cmo_follow_the_distances() -> None:
    mix = mix_after(6, generator="cmo")
    law = partner_law(class_distances(M, "l2"), 0.2).numpy()
    drawn = order_of(mix, 6, np.repeat([5, 103, 110], 60_000)).reshape(3, -1)
    for label, partners in enumerate(drawn):
        np.testing.assert_allclose(np.bincount(LABELS[partners], minlength=3) / 60_000, law[label], atol=0.006)
    np.testing.assert_array_equal(drawn.ravel(), order_of(mix_after(6), 6, np.repeat([5, 103, 110], 60_000)))


def test_during_warm_up_the_generator_chooses_its_own_partners() -> None:
    mix = mix_after(4, generator="cmo")
    np.testing.assert_array_equal(order_of(mix, 4), order_of(build("cmo"), 4))
    assert mix_after(0, generator="cmo").partner_order(np.arange(111), LABELS, Epoch(3, 30, 0)) is None
    assert mix_after(4, generator="remix").partner_order(np.arange(111), LABELS, Epoch(4, 30, 0)) is None


def test_box_coin_and_epochs_are_those_of_cmo() -> None:
    settings = {"probability": 0.3, "beta": 0.7, "start_epoch": 7, "stop_before_end": 5}
    mix, cmo = mix_after(6, generator={"name": "cmo", **settings}), build("cmo", **settings)
    background, foreground = constant(0, [0, 1]), constant(1, [1, 2])
    plain = []
    for index in range(6, 30):
        found, expected = (one(background, foreground, step_at(index, 30, seed=index)) for one in (mix, cmo))
        assert torch.equal(found.images, expected.images)
        assert [share for _, share in found.terms] == [share for _, share in expected.terms]
        plain.append(len(found.terms) == 1)
    assert all(plain[:2])  # epochs 6 and 7
    assert all(plain[-5:])
    assert 0 < sum(plain[2:-5]) < 17


def test_the_words_and_the_mixes_of_their_names() -> None:
    word, mix = build("class-distance-mix-ours", generator="cutmix"), mix_after(0, generator={"name": "cutmix"})
    assert isinstance(word, ClassDistanceMix)
    assert word.generator is None
    assert mix.generator is not None
    assert mix.generator.config.model_dump() == {"beta": 1.0, "probability": 0.5}  # its coin, not the one beside it


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_mixes_with_the_partners_it_is_given(name: str) -> None:
    mix = mix_after(6, generator={"name": name})
    assert mix.generator in list(mix.modules())
    batch, partner = constant(0, [0, 0, 0]), constant(1, [1, 2, 1])
    order_of(mix, 10)
    mixtures = [mixed for seed in range(20) if len((mixed := mix(batch, partner, step_at(seed=seed))).terms) > 1]
    assert mixtures
    assert all(torch.equal(mixed.terms[1][0], partner.labels) for mixed in mixtures)
    assert any(mixed.images.amax() > 0 for mixed in mixtures)


# Attentive CutMix needs a teacher's maps, SaliencyMix reads pixels, Puzzle Mix cuts and assigns on the processor.
@pytest.mark.parametrize("name", sorted({*GENERATORS} - {"attentive-cutmix", "saliencymix", "puzzlemix"}))
def test_a_generator_never_waits_for_the_device(name: str) -> None:
    mix = build("class-distance-mix-ours", generator={"name": name}).to("meta")
    batch = Batch(torch.empty(4, 3, 8, 8, device="meta"), torch.empty(4, dtype=torch.int64, device="meta"))
    for seed in range(4):
        assert mix(batch, batch, step_at(seed=seed)).images.shape == batch.images.shape


class Following(Mix):
    """A mix with a state, which counts what it is told."""

    epochs: Tensor

    def prepare(self, stats: Any) -> None:
        self.register_buffer("epochs", torch.zeros(2))

    def partner_order(self, order: IntArray, labels: IntArray, epoch: Epoch) -> IntArray | None:
        self.epochs[0] += 1
        return None

    def forward(self, *_: Any) -> Any: ...

    def end_epoch(self, *_: Any) -> None:
        self.epochs[1] += 1

    def diagnostics(self) -> dict[str, Tensor]:
        return {"epochs": self.epochs}


def test_a_generator_lives_through_every_epoch() -> None:
    mix = mix_after(0)
    mix.generator = Following(STATS)
    for index in range(8):
        mix.partner_order(np.arange(111), LABELS, Epoch(index, 30, 0))
        mix.end_epoch(logits_that_show(M), lambda: clean([0, 1, 2]))
        assert set(mix.diagnostics()) == {"epochs"} | (MEASURED if index > 3 else set())
    assert mix.state_dict()["generator.epochs"].tolist() == [8, 8]


@pytest.mark.parametrize(("field", "value"), [("alpha", 0.5), ("probability", 0.5)])
def test_settings_of_the_words_are_refused_beside_a_mix(field: str, value: float) -> None:
    with pytest.raises(UserError, match="has no effect on cmo, which brings its own settings"):
        build("class-distance-mix-ours", generator="cmo", **{field: value})
    assert build("class-distance-mix-ours", generator="cmo", **{field: 1.0})  # as a resolved recipe holds it
    assert build("class-distance-mix-ours", generator="cutmix", **{field: value})


# --- diagnostics -------------------------------------------------------------------------------------


def test_diagnostics_are_what_this_epoch_measured() -> None:
    assert mix_after(4).diagnostics() == {}
    found = mix_after(5).diagnostics()
    assert set(found) == MEASURED
    torch.testing.assert_close(found["probability"], M)
    torch.testing.assert_close(found["accuracy"], torch.ones(3))
    assert found["distance"].dtype == torch.float32
    torch.testing.assert_close(found["distance"][0], torch.tensor([0, 0.565685, 0.927362]), atol=1e-6, rtol=0)


def test_diagnostics_tell_how_often_a_class_is_a_partner() -> None:
    mix = mix_after(5)
    found = mix.diagnostics()["partner_share"]
    law = partner_law(class_distances(M, "l2"), 0.2)
    torch.testing.assert_close(found.double(), (torch.tensor([100, 10, 1]) / 111).double() @ law, atol=1e-6, rtol=0)
    assert float(found.sum()) == pytest.approx(1)


def test_a_mix_without_a_state_leaves_nothing() -> None:
    assert all(build(name).diagnostics() == {} for name in members("mix"))
