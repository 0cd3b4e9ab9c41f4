"""Puzzle Mix against its card: what is minimised, that it is the minimum, and which blocks move."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from mix_cases import batch_of, build, constant, step_at
from torch import Tensor

from lt_bench.data.types import Batch, generator
from lt_bench.losses.cross_entropy import CrossEntropy
from lt_bench.mixing import Answer, Objective
from lt_bench.mixing.puzzlemix import PuzzleMix, assigned, differences, ways
from lt_bench.mixing.smooth_cut import smoothest_levels
from lt_bench.models import build_network

COUNTS = [100, 10, 1]


def puzzlemix(**fields: Any) -> PuzzleMix:
    mix = build("puzzlemix", **fields)
    assert isinstance(mix, PuzzleMix)
    return mix


def total(levels: np.ndarray, costs: np.ndarray, down: np.ndarray, right: np.ndarray) -> float:
    """What a labelling [h, w] of one picture costs."""
    jumps = (np.diff(levels, axis=0) ** 2 / 4 * down).sum() + (np.diff(levels, axis=1) ** 2 / 4 * right).sum()
    return float(np.take_along_axis(costs, levels[None], 0).sum() + jumps)


def labellings(height: int, width: int, levels: tuple[int, ...] = (0, 1, 2)) -> list[np.ndarray]:
    return [np.array(found).reshape(height, width) for found in product(levels, repeat=height * width)]


# --- the cut -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (2, 3), (3, 2)])
def test_no_labelling_costs_less(height: int, width: int) -> None:
    rng = generator(0, "cut")
    costs = rng.normal(size=(3, 9, height, width))  # more pictures than are cut at once
    down, right = rng.random((9, height - 1, width)) * 2, rng.random((9, height, width - 1)) * 2
    found = smoothest_levels(costs, down, right)
    for k, levels in enumerate(found):
        least = min(total(each, costs[:, k], down[k], right[k]) for each in labellings(height, width))
        assert total(levels, costs[:, k], down[k], right[k]) == pytest.approx(least, abs=1e-6)


def test_jumps_smooth_and_nothing_is_done_for_nothing() -> None:
    costs = np.zeros((3, 1, 1, 5))
    costs[0, 0, 0] = [0, 0, 1, 0, 0]  # the middle one wants to be 2, the others 0
    costs[2, 0, 0] = [1, 1, 0, 1, 1]
    costs[1] = costs.mean(0)
    rough, smooth = (
        smoothest_levels(costs, np.zeros((1, 0, 5)), np.full((1, 1, 4), weight)) for weight in (0.01, 10.0)
    )
    assert rough.tolist() == [[[0, 0, 2, 0, 0]]]
    assert smooth.tolist() == [[[0, 0, 0, 0, 0]]]
    assert not smoothest_levels(np.zeros((3, 2, 2, 2)), np.ones((2, 1, 2)), np.ones((2, 2, 1))).any()


# --- what is minimised ---------------------------------------------------------------------------------


def test_saliency_that_is_lost_and_the_prior() -> None:
    s1, s2 = torch.tensor([[0.4, 0.3], [0.2, 0.1]]), torch.tensor([[0.1, 0.1], [0.2, 0.6]])
    pictures = torch.rand(2, 1, 3, 8, 8)
    costs, down, right = puzzlemix(gamma=0).energy(torch.stack([s1, s2])[:, None], pictures, 0.3)
    for level, prior in enumerate([0.49, 0.42, 0.09]):
        m = level / 2
        expected = m * s2 + (1 - m) * s1 - 0.2 / 4 * np.log(prior)
        np.testing.assert_allclose(costs[level, 0], expected, atol=1e-6)
    np.testing.assert_allclose(down, np.full((1, 1, 2), 1.2 / 32), rtol=1e-6)
    np.testing.assert_allclose(right, np.full((1, 2, 1), 1.2 / 32), rtol=1e-6)


def test_pixels_that_fit_make_a_border_cheap() -> None:
    """Of masks of zeros and ones the energy is that of the paper, but for what all of them have."""
    saliency, pictures = torch.full((2, 1, 2, 2), 0.25), torch.rand(2, 1, 3, 4, 4)
    costs, down, right = puzzlemix(eta=0).energy(saliency, pictures, 0.5)
    below, beside = (differences(each, 2)[:, :, 0] for each in (pictures, pictures.mT))
    left = []
    for levels in labellings(2, 2, (0, 2)):
        shown = 1 - levels // 2  # of which picture a block is: 0 or 1
        expected = sum(float(below[shown[0, k], shown[1, k], 0, k]) for k in range(2))
        expected += sum(float(beside[shown[k, 0], shown[k, 1], 0, k]) for k in range(2))
        jumps = (np.diff(shown, axis=0) ** 2).sum() + (np.diff(shown, axis=1) ** 2).sum()
        ours = total(levels, costs[:, 0], down[0], right[0])
        left.append(ours - 1.2 / 32 * (jumps + 0.5 * expected))
    np.testing.assert_allclose(left, left[0], atol=1e-6)


def test_differences_are_those_across_a_border() -> None:
    one = torch.arange(4.0).view(1, 1, 4, 1).expand(1, 3, 4, 4)  # rows 0, 1, 2, 3
    found = differences(torch.stack([one, one + 10]), 2)
    assert found.shape == (2, 2, 1, 1, 2)
    assert found[..., 0, 0].squeeze(2).tolist() == [[1, 11], [9, 1]]


# --- blocks that move ----------------------------------------------------------------------------------


def test_a_salient_block_comes_to_where_it_shows_and_none_is_lost() -> None:
    saliency, shown = np.zeros((1, 4)), np.array([[0.0, 1, 0, 0]])
    saliency[0, 0] = 1
    assert assigned(0.8 * ways(2), saliency, shown).tolist() == [[0, 1, 2, 3]]  # as far as from end to end: 1.6 for 1
    assert assigned(0.4 * ways(2), saliency, shown).tolist() == [[1, 0, 2, 3]]
    mix, images = puzzlemix(distance=0.4), torch.arange(48.0).view(1, 3, 4, 4)
    moved = mix.transported(images, torch.from_numpy(saliency).view(1, 2, 2), torch.from_numpy(shown).view(1, 2, 2))
    torch.testing.assert_close(moved[..., :2, :], images[..., :2, :].roll(2, -1))
    torch.testing.assert_close(moved[..., 2:, :], images[..., 2:, :])


def test_ways_are_squares_in_sides() -> None:
    assert ways(3)[0].tolist() == [0, 0.25, 1, 0.25, 0.5, 1.25, 1, 1.25, 2]
    assert ways(1).tolist() == [[0]]


# --- the mix -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", [False, True])
def test_each_image_shows_where_it_is_salient(transport: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_bench.mixing.puzzlemix.draw_share", lambda *_: 0.5)
    batch, partner = constant(1, [0, 1]), constant(0, [2, 2])
    saliency = torch.zeros(2, 32, 32)
    saliency[:, :, :16] = 1  # of the first images; of their partners the right half

    def saliency_of(seen: Batch) -> Tensor:
        return saliency if seen is batch else saliency.flip(2)

    for seed in range(4):
        mixed = puzzlemix(beta=0, transport=transport).mixed(batch, partner, step_at(seed=seed), saliency_of)
        torch.testing.assert_close(mixed.images[:, 0], saliency)
        (own, share), (other, rest) = mixed.terms
        assert (own is batch.labels, other is partner.labels) == (True, True)
        torch.testing.assert_close(share, torch.full((2,), 0.5))
        torch.testing.assert_close(rest, torch.full((2,), 0.5))


def test_the_first_pass_leaves_the_network_as_it_was() -> None:
    network, batch, asked = build_network("resnet8", "linear", 3).train(), batch_of(size=5, height=32, width=32), []

    def reading(net: Any, images: Tensor) -> Answer:
        asked.append((net.training, images.shape))
        return Answer(net(images))

    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    objective = Objective(network, reading, lambda answer, terms: CrossEntropy(COUNTS).of_terms(answer.logits, terms))
    puzzlemix().loss(objective, batch, None, step_at()).backward()
    assert [training for training, _ in asked] == [False, True]
    moved = [name for name, buffer in network.named_buffers() if not torch.equal(buffer, before[name])]
    assert moved  # by the second pass
    assert all(part.training for part in network.modules())
    gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    # The gradients are those of the mixed images alone.
    network.load_state_dict(network.state_dict() | before)
    puzzlemix().loss(objective, batch, None, step_at()).backward()
    for found, parameter in zip(gradients, network.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad)


def test_a_law_with_zero_parameter_does_not_mix() -> None:
    batch = batch_of()
    assert puzzlemix(alpha=0)(batch, batch_of(1), step_at()).images is batch.images
