"""Co-Mixup against its released code: the swaps, what is charged for what, and that mixtures are salient and differ."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mix_cases import batch_of, build, constant, step_at
from torch import Tensor

from lt_bench.data.types import Batch, generator
from lt_bench.losses.cross_entropy import CrossEntropy
from lt_bench.mixing import Answer, Objective, swap_moves
from lt_bench.mixing.co_mixup import CoMixup, apart, most_salient, put_together, terms_of, told_apart, with_halves
from lt_bench.mixing.swap_moves import swapped_labels, total_cost
from lt_bench.models import build_network

COUNTS = [100, 10, 1]


def co_mixup(**fields: Any) -> CoMixup:
    mix = build("co-mixup", **fields)
    assert isinstance(mix, CoMixup)
    return mix


def grid(seed: int, height: int, width: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Costs [h, w, L] and what jumps cost, [L, L]."""
    rng = generator(seed, "grid")
    jumps = rng.random((labels, labels)) * rng.choice([0.1, 1, 3])
    jumps += jumps.T
    np.fill_diagonal(jumps, 0)
    return rng.normal(size=(height, width, labels)), jumps


def no_compiler() -> None:
    """In place of the compiled form."""


# --- swaps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (4, 1), (3, 3), (3, 4)])
@pytest.mark.parametrize("compiled", [True, False])
def test_no_labelling_by_two_costs_less(
    height: int, width: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(swap_moves, "_native", no_compiler)
    for seed in range(5):
        costs, jumps = grid(seed, height, width, 2)
        every = (np.array(found).reshape(height, width) for found in product((0, 1), repeat=height * width))
        least = min(total_cost(found, costs, jumps) for found in every)
        assert total_cost(swapped_labels(costs, jumps), costs, jumps) == pytest.approx(least)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5))
def test_no_swap_makes_it_cheaper(seed: int, height: int, width: int, labels: int) -> None:
    costs, jumps = grid(seed, height, width, labels)
    found = swapped_labels(costs, jumps)
    least = total_cost(found, costs, jumps)
    for pair in combinations(range(labels), 2):
        free = np.isin(found, pair)
        for chosen in product(pair, repeat=int(free.sum())):
            other = found.copy()
            other[free] = chosen
            assert total_cost(other, costs, jumps) >= least - 1e-9


def test_grids_are_no_wider_than_a_swap_can_weigh() -> None:
    assert swapped_labels(np.zeros((9, 8, 2)), 1 - np.eye(2)).shape == (9, 8)
    for costs, jumps in ((np.zeros((2, 9, 2)), 1 - np.eye(2)), (np.zeros((2, 2, 3)), 1 - np.eye(2))):
        with pytest.raises(ValueError, match="8 cells a row at the most"):
            swapped_labels(costs, jumps)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5), st.integers(1, 8))
def test_a_machine_without_a_compiler_finds_the_same(seed: int, height: int, width: int, labels: int) -> None:
    costs, jumps = grid(seed, height, width, labels)
    with pytest.MonkeyPatch.context() as without:
        without.setattr(swap_moves, "_native", no_compiler)
        plain = swapped_labels(costs, jumps)
    assert (swapped_labels(costs, jumps) == plain).all()


def test_swaps_end_where_two_labels_at_once_cannot_be_had() -> None:
    costs = np.array([[[0.5, 0, 9], [0.5, 9, 0]]])
    jumps = np.array([[0.0, 1, 1], [1, 0, 0], [1, 0, 0]])
    assert swapped_labels(costs, jumps).tolist() == [[0, 0]]  # 1 and 2 side by side would cost nothing
    assert swapped_labels(costs, jumps / 4).tolist() == [[1, 2]]  # by way of 0 beside 2


# --- what a block can show -----------------------------------------------------------------------------


def test_two_images_of_a_mixture_may_share_a_block() -> None:
    parts, jumps = with_halves(np.array([0.0, 5, 0, 11]))
    assert parts.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0.5, 0, 0.5]]
    assert jumps[4].tolist() == [1, 0.25, 1, 0.25, 0]
    assert (jumps == jumps.T).all()
    assert (jumps[:4, :4] == 1 - np.eye(4)).all()


def test_of_more_images_the_three_with_most_blocks_may() -> None:
    parts, jumps = with_halves(np.array([2.0, 1, 0, 9, 4]))
    assert parts[5:].tolist() == [[0.5, 0, 0, 0.5, 0], [0.5, 0, 0, 0, 0.5], [0, 0, 0, 0.5, 0.5]]
    assert jumps[5:, :5].tolist() == [[0.25, 1, 1, 0.25, 1], [0.25, 1, 1, 1, 0.25], [1, 1, 1, 0.25, 0.25]]
    assert (jumps[5:, 5:] == 1 - np.eye(3)).all()  # also where they have an image in common


@pytest.mark.parametrize("amounts", [[0.0, 0, 0], [0, 16.0, 0]])
def test_a_mixture_of_one_image_has_none_to_share(amounts: list[float]) -> None:
    parts, jumps = with_halves(np.array(amounts))
    assert (parts == np.eye(3)).all()
    assert (jumps == 1 - np.eye(3)).all()


def test_a_block_is_shared_where_both_are_salient() -> None:
    costs = -np.array([[[0.5, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0]]]) / 3
    mix = co_mixup(beta=0.001)
    assert mix.chosen(costs, None)[0, :, 0].tolist() in ([1, 1, 0], [1, 0, 0])
    assert mix.chosen(costs, np.array([2.0, 1, 0])).tolist() == [[[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]]]


def test_mixtures_of_the_same_images_are_charged_for_one_of_them() -> None:
    shown = np.array([[1, 0, 1, 1], [0, 1, 0, 0], [1, 0, 1, 1], [0, 1, 0, 0], [1, 1, 0, 0]]) > 0
    charged = told_apart(np.pad(shown, ((0, 0), (0, 1))))
    assert charged[0].tolist() == [1, 0, 0, 0, 0]
    assert charged[2].tolist() == [0, 0, 1, 0, 0]
    assert not charged[[1, 3, 4]].any()  # those of one image are left alone


# --- what is minimised ---------------------------------------------------------------------------------


def searched(mix: CoMixup, saliency: np.ndarray, seed: int = 0) -> np.ndarray:
    count, blocks, _ = saliency.shape
    rng = generator(seed, "search")
    return mix.mixtures(saliency, np.zeros((count, 2)), rng.random(count), rng.random((count, blocks, blocks)))


def test_with_nothing_else_each_block_is_the_most_salient_one() -> None:
    saliency = generator(0, "saliency").random((6, 4, 4))
    shares = searched(co_mixup(beta=0, gamma=0, eta=0), saliency)
    best = (saliency / saliency.sum((1, 2), keepdims=True)).argmax(0)
    # Blocks of two images are a little cheaper than the mean of both: only where they are alike within that.
    assert (shares.argmax(-1) == best).mean() > 0.9
    assert np.allclose(shares.sum(-1), 1)


def test_mixtures_are_made_to_differ() -> None:
    saliency = generator(1, "saliency").random((8, 4, 4))
    amounts = {gamma: searched(co_mixup(gamma=gamma), saliency).sum((0, 1, 2)) for gamma in (0.0, 1.0)}
    assert amounts[0.0].max() > 2 * 16  # the few most salient ones, again and again
    assert amounts[1.0].max() < 1.5 * 16  # about as often as they are there


def test_an_image_is_charged_for_above_the_threshold_only() -> None:
    """Image 0 has the better prior. The first mixture takes it; for the second it has then been shown once, whole."""
    saliency, start = np.ones((2, 1, 1)), np.full((2, 1, 1), 0.9)
    for tau, shown in ((0.83, [0, 1]), (1.0, [0, 0])):
        mix = co_mixup(tau=tau, rounds=1)
        shares = mix.mixtures(saliency, np.zeros((2, 2)), np.array([0.9, 0.1]), start)
        assert shares.argmax(-1).ravel().tolist() == shown


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_no_other_image_in_a_block_makes_a_mixture_cheaper(seed: int) -> None:
    count, blocks = 5, 3
    costs = generator(seed, "objective").normal(size=(blocks, blocks, count)) / blocks**2

    def objective(labels: np.ndarray) -> float:
        own = sum(costs[row, column, labels[row, column]] for row, column in np.ndindex(blocks, blocks))
        borders = (labels[1:] != labels[:-1]).sum() + (labels[:, 1:] != labels[:, :-1]).sum()
        return float(own + 0.32 / blocks**2 * borders)

    found = co_mixup().chosen(costs, None).argmax(-1)
    for row, column, label in product(range(blocks), range(blocks), range(count)):
        other = found.copy()
        other[row, column] = label
        assert objective(other) >= objective(found) - 1e-9


def test_rounds_make_the_whole_cheaper() -> None:
    saliency = generator(2, "saliency").random((8, 4, 4))
    normed = saliency / saliency.sum((1, 2), keepdims=True)
    costs = -normed.transpose(1, 2, 0)
    found = [co_mixup(eta=0, tau=0, rounds=rounds) for rounds in (1, 4)]
    first, last = (mix.cost(searched(mix, saliency), costs) for mix in found)
    assert last < first


def test_the_objective_of_a_few_mixtures() -> None:
    shares = np.zeros((2, 1, 2, 3))
    shares[0, 0, 0, 0] = shares[0, 0, 1, 1] = 1  # a border
    shares[1, 0, 0, 0] = 1
    shares[1, 0, 1] = [0.5, 0.5, 0]  # half a jump, squared twice and halved
    costs = np.array([[[-0.4, 0, 0], [0, -0.2, 0]]])
    common = (1.0 + 1.5) ** 2 + 1.5**2 - (1 + 1 + 1.5**2 + 0.5**2)
    expected = -0.4 - 0.2 - 0.4 - 0.1 + 0.5 * (1 + 0.25) / 2 + 2.0 * common / 2
    assert co_mixup(beta=0.5, gamma=2.0).cost(shares, costs) == pytest.approx(expected)


OFFICIAL = """
0/0/3/3 0/03/3/3 3/3/3/3 3/3/3/3
0/0/7/7 0/4/7/7 4/4/5/5 4/45/5/5
1/1/1/1 1/1/1/1 1/1/1/1 1/1/1/1
2/2/7/7 2/2/7/7 2/2/5/5 2/25/5/5
4/4/7/7 4/4/47/7 4/4/4/47 4/4/4/4
0/0/0/0 0/0/0/03 6/6/3/3 6/6/3/3
2/2/2/2 2/2/2/25 2/2/5/5 2/25/5/5
6/67/7/7 6/6/67/7 6/6/6/67 6/6/6/6
"""
"""Images in the blocks of eight mixtures, a line each: what the authors' code with its gco finds in four rounds.

It depends on the prior, on omega and the places, on where the search begins, and on telling mixtures apart.
"""


def test_the_mixtures_are_those_of_the_released_code() -> None:
    image, row, column = np.mgrid[:8, :4, :4]
    saliency = 0.1 + np.exp(-((row - 4 * image % 7 / 2) ** 2 + (column - 5 * image % 9 / 2.5) ** 2) / 3)
    weights, start = 1.0 + np.arange(8) * 5 % 7, ((7 * image + 3 * row + 5 * column) % 8 + 0.1) / 8
    places = np.stack([4 * np.arange(8) % 25, 7 * np.arange(8) % 25], 1)
    shares = co_mixup(omega=0.05).mixtures(saliency, places, weights, start)
    shown = [
        " ".join("/".join("".join(map(str, block.nonzero()[0])) for block in blocks) for blocks in mixture)
        for mixture in shares
    ]
    assert shown == OFFICIAL.split("\n")[1:-1]


# --- places --------------------------------------------------------------------------------------------


def test_the_most_salient_place_is_a_window() -> None:
    saliency = torch.zeros(2, 32, 32)
    saliency[0, 3:11, 20:28] = 1
    saliency[1, 24:, :8] = 1
    saliency[1, 0, 31] = 5  # a single pixel does not make a place
    assert most_salient(saliency).tolist() == [[3, 20], [24, 0]]
    assert most_salient(torch.ones(2, 4, 5)).tolist() == [[0, 0], [0, 0]]


def test_how_far_places_are_apart() -> None:
    ways = apart(np.array([[0.0, 0], [0, 3], [2, 0]]))
    assert ways == pytest.approx(np.array([[0, 3, 2], [3, 0, 5], [2, 5, 0]]) * 3 / 20)
    assert not apart(np.zeros((4, 2))).any()


# --- the batch -----------------------------------------------------------------------------------------


def test_images_and_labels_are_those_of_the_blocks() -> None:
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 4, 6)
    shares = torch.zeros(3, 2, 2, 3)
    shares[0, :, :, 2] = 1
    shares[1, 0, :, 0] = shares[1, 1, 0, 1] = 1
    shares[1, 1, 1] = torch.tensor([0, 0.5, 0.5])
    shares[2, :, 0, 1] = shares[2, :, 1, 2] = 1
    mixed = put_together(images, shares)
    assert (mixed[0] == 2).all()
    assert mixed[1, 0, :, 0].tolist() == [0, 0, 1, 1]
    assert mixed[1, 2, :, 5].tolist() == [0, 0, 1.5, 1.5]
    assert mixed[2, 1, 3].tolist() == [1, 1, 1, 2, 2, 2]
    terms = terms_of(shares.numpy().mean((1, 2)), torch.tensor([7, 8, 9]))
    assert len(terms) == 3
    assert [label.tolist() for label, _ in terms] == [[9, 7, 8], [9, 8, 9], [9, 9, 8]]  # none of its own: the first
    found = [{int(label[i]): float(share[i]) for label, share in terms if share[i]} for i in range(3)]
    assert found == [{9: 1.0}, {7: 0.5, 8: 0.375, 9: 0.125}, {8: 0.5, 9: 0.5}]


def salient_spots(size: int, seed: int = 0) -> Tensor:
    """Saliencies [B, 32, 32] with one spot each."""
    places = torch.from_numpy(generator(seed, "spots").random((size, 2))).float() * 32
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    way = (rows - places[:, :1, None]) ** 2 + (columns - places[:, 1:, None]) ** 2
    return torch.exp(-way / 50) + 0.05


def test_a_batch_is_mixed_in_parts() -> None:
    labels = [*[0] * 20, *[1] * 20, *[2] * 10]
    batch = constant(0, labels)
    batch = Batch(batch.images + batch.labels.view(-1, 1, 1, 1), batch.labels)
    mixed = co_mixup().mixed(batch, salient_spots(50), step_at())
    torch.testing.assert_close(mixed.images, batch.images)  # each part of its own images
    shares = torch.stack([share for _, share in mixed.terms], 1)  # type: ignore[arg-type]
    torch.testing.assert_close(shares.sum(1), torch.ones(50))
    assert ((shares > 0).sum(1) > 1).float().mean() > 0.7
    for found, share in mixed.terms:
        assert torch.equal(found[share > 0], batch.labels[share > 0])  # type: ignore[index, operator]


def test_the_prior_is_of_the_law_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_they_are(_: Any, saliency: np.ndarray, places: np.ndarray, *drawn: np.ndarray) -> np.ndarray:
        found.extend(drawn)
        return np.eye(1000)[:, None, None]

    monkeypatch.setattr(CoMixup, "mixtures", as_they_are)
    for alpha in (0.1, 2.0, 100.0):
        found: list[np.ndarray] = []
        co_mixup(alpha=alpha, part=1000, blocks=1).mixed(batch_of(size=1000), torch.ones(1000, 8, 8), step_at())
        weights, start = found
        assert weights.mean() == pytest.approx(alpha, rel=0.25)  # Gamma(alpha), whose parts of the sum are Dirichlet
        assert weights.var() == pytest.approx(alpha, rel=0.35)
        assert start.mean() == pytest.approx(0.5, abs=0.02)
        assert start.min() >= 0
        assert start.max() < 1


def test_autocast_takes_no_digits_from_images_and_saliency() -> None:
    batch, spots = batch_of(size=20, height=32, width=32), salient_spots(20)
    plain = co_mixup().mixed(batch, spots, step_at())
    with torch.autocast("cpu", torch.bfloat16):
        cast = co_mixup().mixed(batch, spots, step_at())
    assert cast.images.dtype == torch.float32
    assert torch.equal(cast.images, plain.images)


def test_blocks_divide_the_sides() -> None:
    for sides, shown in (((28, 28), 4), ((30, 30), 3), ((7, 5), 1), ((32, 24), 4)):
        assert co_mixup()._blocks(*sides) == shown
    assert co_mixup(blocks=8)._blocks(32, 32) == 8


# --- the loss ------------------------------------------------------------------------------------------


def objective_of(network: torch.nn.Module, asked: list[Any]) -> Objective:
    def reading(net: Any, images: Tensor) -> Answer:
        asked.append((net.training, images))
        return Answer(net(images))

    return Objective(network, reading, lambda answer, terms: CrossEntropy(COUNTS).of_terms(answer.logits, terms))  # type: ignore[arg-type]


@pytest.mark.parametrize("clean", [0.0, 0.5, 1.0])
def test_the_loss_is_that_of_the_images_and_of_their_mixtures(clean: float) -> None:
    network, batch, asked = build_network("resnet8", "linear", 3).train(), batch_of(size=6, height=32, width=32), []
    mix, objective = co_mixup(clean=clean), objective_of(network, asked)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    mix.loss(objective, batch, None, step_at()).backward()
    found = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    assert [training for training, _ in asked] == [clean > 0, True]
    assert torch.equal(asked[0][1], batch.images)
    network.load_state_dict(state)
    network.zero_grad()
    images = batch.images.clone().requires_grad_()
    network.train(clean > 0)
    loss = objective.loss(objective.answer(images), ((batch.labels, 1.0),))
    (gradient,) = torch.autograd.grad(loss, images)
    network.load_state_dict(state)
    network.train()
    expected = objective.of(mix.mixed(batch, gradient.square().mean(1).sqrt(), step_at()))
    if clean:
        expected = expected + clean * objective.loss(objective.answer(batch.images), ((batch.labels, 1.0),))
    expected.backward()
    for one, parameter in zip(found, network.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, atol=1e-5, rtol=1e-4)


def test_the_batch_has_no_gradient_left() -> None:
    batch = batch_of(size=6, height=32, width=32)
    co_mixup().loss(objective_of(build_network("resnet8", "linear", 3), []), batch, None, step_at()).backward()
    assert not batch.images.requires_grad
    assert batch.images.grad is None
