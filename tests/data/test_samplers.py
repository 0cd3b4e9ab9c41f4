"""Samplers: class probabilities of the papers on counts in the proportion 500 : 50 : 5."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from lt_bench.data import samplers
from lt_bench.data.samplers import ClassBalanced, EffectiveNumber, Progressive, Sampler, Weighted, draw_with_replacement
from lt_bench.data.types import Epoch, IntArray, effective_number, generator
from lt_bench.errors import UserError
from lt_bench.registry import lookup, members

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(3), [5000, 500, 50]))
NATURAL = [0.900901, 0.090090, 0.009009]
SAMPLERS = sorted(members("sampler"))


def build(name: str, **settings: Any) -> Sampler:
    component = lookup("sampler", name)
    sampler: Sampler = component(LABELS, 3, **settings)
    return sampler


def draw(sampler: Sampler, index: int = 0, total: int = 90, epochs: int = 40) -> IntArray:
    """The orders of many runs at one epoch, end to end."""
    steps = [Epoch(index, total, seed) for seed in range(epochs)]
    return np.concatenate([sampler.order(epoch, epoch.rng("order")) for epoch in steps])


@pytest.mark.parametrize(
    ("name", "settings", "probability"),
    [
        ("instance", {}, NATURAL),
        ("square-root", {}, [0.706101, 0.223289, 0.070610]),
        ("class-balanced", {}, [1 / 3, 1 / 3, 1 / 3]),
        ("class-aware", {}, [1 / 3, 1 / 3, 1 / 3]),
        ("reverse", {}, NATURAL[::-1]),
        ("weighted", {"exponent": 0}, NATURAL),
        ("weighted", {"exponent": 0.5}, [0.706101, 0.223289, 0.070610]),
        ("weighted", {}, [1 / 3, 1 / 3, 1 / 3]),
        ("weighted", {"exponent": 2}, NATURAL[::-1]),
        ("effective-number", {"beta": 0}, NATURAL),
        ("effective-number", {"beta": 0.99999999}, [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_class_probability(name: str, settings: dict[str, Any], probability: list[float]) -> None:
    order = draw(build(name, **settings))
    np.testing.assert_allclose(np.bincount(LABELS[order]) / len(order), probability, atol=0.004)


@pytest.mark.parametrize(
    ("index", "probability"),
    [(0, NATURAL), (45, [0.613929, 0.213078, 0.172993]), (89, [1 / 3, 1 / 3, 1 / 3])],
)
def test_progressive_moves_from_natural_to_balanced(index: int, probability: list[float]) -> None:
    order = draw(build("progressive"), index)
    np.testing.assert_allclose(np.bincount(LABELS[order]) / len(order), probability, atol=0.004)


def test_the_law_of_the_effective_number() -> None:
    counts = np.array([500.0, 50.0, 5.0])
    effective = effective_number(counts, 0.9999)
    assert effective == pytest.approx([487.7, 49.88, 4.999], rel=1e-4)
    law = counts / effective
    assert law / law.sum() == pytest.approx([0.338581, 0.331082, 0.330338], abs=1e-6)


def test_effective_number_draws_by_that_law(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(samplers, "draw_with_replacement", lambda weights, size, _: asked.append((weights, size)))
    labels = np.repeat(np.arange(3), [500, 50, 5])
    EffectiveNumber(labels, 3).order(Epoch(0, 1, 0), generator(0, "order"))
    ((weights, size),) = asked
    assert size == len(labels)
    law = np.bincount(labels, weights) / weights.sum()
    assert law == pytest.approx([0.338581, 0.331082, 0.330338], abs=1e-6)


def test_class_aware_deals_from_packs() -> None:
    """Four images a visit, every class once in three visits, every image of a class once before any comes again."""
    order = draw(build("class-aware"), epochs=1)
    visits = LABELS[order][: len(order) // 12 * 12].reshape(-1, 3, 4)
    assert (visits == visits[..., :1]).all()
    assert (np.sort(visits[..., 0], axis=1) == [0, 1, 2]).all()
    for label, size in enumerate((5000, 500, 50)):
        shown = order[LABELS[order] == label]
        packs = shown[: len(shown) // size * size].reshape(-1, size)
        assert all(len(set(pack)) == size for pack in packs)
        assert len(shown) > size or len(set(shown)) == len(shown)


def test_progressive_of_one_epoch_is_natural() -> None:
    order = draw(build("progressive"), index=0, total=1)
    np.testing.assert_allclose(np.bincount(LABELS[order]) / len(order), NATURAL, atol=0.004)


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_is_as_long_as_the_training_set_and_repeatable(name: str) -> None:
    sampler = build(name)
    first, again, other = (sampler.order(Epoch(3, 9, 0), generator(0, "order", e)) for e in (3, 3, 4))
    assert first.dtype == np.int64
    assert first.shape == LABELS.shape
    assert first.min() >= 0
    assert first.max() < len(LABELS)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_instance_visits_every_image_once() -> None:
    order = draw(build("instance"), epochs=1)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(LABELS)))


def test_balanced_draws_are_uniform_inside_a_class() -> None:
    order = draw(build("class-balanced"))
    rare = np.bincount(order, minlength=len(LABELS))[LABELS == 2]
    np.testing.assert_allclose(rare / rare.sum(), np.full(50, 1 / 50), atol=0.002)


class _Ends(np.random.Generator):
    """Draws the two ends of [0, 1) and nothing between."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def random(self, size: int) -> np.ndarray:  # type: ignore[override]
        return np.resize([0.0, np.nextafter(1.0, 0.0)], size)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30))
def test_zero_weights_are_never_drawn(weights: list[float]) -> None:
    padded = np.array([0.0, *weights, 0.0])
    drawn = draw_with_replacement(padded, 2, _Ends())
    assert drawn.tolist() == [1, len(weights)]


@pytest.mark.parametrize("exponent", [-1, float("inf"), float("nan")])
def test_weighted_refuses_an_exponent_out_of_range(exponent: float) -> None:
    with pytest.raises(UserError):
        build("weighted", exponent=exponent)


# --- as a sampler of torch ----------------------------------------------------------------------------


def test_a_script_draws_what_a_run_draws() -> None:
    sampler = ClassBalanced(LABELS, seed=3, epochs=10)
    sampler.set_epoch(4)
    epoch = Epoch(4, 10, 3)
    assert list(sampler) == sampler.order(epoch, epoch.rng("sampler")).tolist()
    assert list(sampler) == list(sampler)
    assert len(sampler) == len(list(sampler)) == len(LABELS)


def test_epochs_and_seeds_differ_and_a_restart_goes_on() -> None:
    first = ClassBalanced(LABELS, seed=0)
    orders = []
    for epoch in range(3):
        first.set_epoch(epoch)
        orders.append(list(first))
    assert orders[0] != orders[1] != orders[2]
    restarted = ClassBalanced(LABELS, seed=0)
    restarted.set_epoch(2)
    assert list(restarted) == orders[2]
    assert list(ClassBalanced(LABELS, seed=1)) != orders[0]


def test_a_loader_takes_it_with_labels_in_any_form() -> None:
    for labels in (LABELS, LABELS.tolist(), torch.from_numpy(LABELS)):
        loader = DataLoader(range(len(LABELS)), batch_size=4, sampler=ClassBalanced(labels))  # type: ignore[arg-type]
        assert torch.cat(list(loader)).tolist() == list(ClassBalanced(LABELS))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_processes_of_a_training_share_what_one_draws(ranks: int) -> None:
    whole = list(DataLoader(range(len(LABELS)), batch_size=12, sampler=ClassBalanced(LABELS, seed=1)))  # type: ignore[arg-type]
    parts = [ClassBalanced(LABELS, seed=1, rank=rank, ranks=ranks) for rank in range(ranks)]
    loaders = [DataLoader(range(len(LABELS)), batch_size=12 // ranks, sampler=part) for part in parts]  # type: ignore[arg-type]
    batches = [list(loader) for loader in loaders]
    for k, batch in enumerate(whole):
        shared = torch.cat([one[k][:, None] for one in batches], 1) if k + 1 < len(whole) else None
        assert shared is None or torch.equal(shared.ravel(), batch)  # in order too
    assert sorted(position for part in parts for position in part) == sorted(torch.cat(whole).tolist())
    assert [len(part) for part in parts] == [len(list(part)) for part in parts]


def test_processes_take_equally_many_steps_where_the_rest_is_dropped() -> None:
    parts = [ClassBalanced(LABELS, rank=rank, ranks=4, drop_last=True) for rank in range(4)]
    assert {len(list(part)) for part in parts} == {len(part) for part in parts} == {len(LABELS) // 4}
    assert [next(iter(part)) for part in parts] == list(ClassBalanced(LABELS))[:4]


def test_progressive_asks_how_many_epochs_there_will_be() -> None:
    with pytest.raises(UserError, match="Progressive: needs epochs="):
        iter(Progressive(LABELS))
    natural, balanced = Progressive(LABELS, epochs=200), Progressive(LABELS, epochs=200)
    balanced.set_epoch(199)
    # P(k) = 1 / C in the last epoch, n_k / N in the first.
    rarest = LABELS.max() == LABELS
    assert np.mean(rarest[list(balanced)]) > 2 * np.mean(rarest[list(natural)])


def test_what_it_cannot_draw_from_is_refused() -> None:
    with pytest.raises(UserError, match="1 of 3 classes have no training image, the first is 1"):
        ClassBalanced([0, 2, 2])
    with pytest.raises(UserError, match=r"there is no epoch 5 of 5; the first is 0"):
        ClassBalanced(LABELS, epochs=5).set_epoch(5)
    with pytest.raises(UserError, match="ClassBalanced: there is no rank 2 of 2; the first is 0"):
        ClassBalanced(LABELS, rank=2, ranks=2)
    with pytest.raises(UserError, match=r"did you mean exponent\?"):
        Weighted(LABELS, exponnent=1.0)
