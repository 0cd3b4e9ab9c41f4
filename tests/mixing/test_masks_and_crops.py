"""Mixes by other masks than boxes, and what stands in front of a mix: FMix to GuidedMixup, against their cards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mix_cases import batch_of, build, constant, step_at, whole
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from lt_bench.data.types import Batch, generator
from lt_bench.errors import UserError
from lt_bench.losses.cross_entropy import CrossEntropy
from lt_bench.mixing import Answer, Mixed, Objective, Term
from lt_bench.mixing.decouple_mix import DecoupleMix, without
from lt_bench.mixing.fmix import highest, low_frequency_noise
from lt_bench.mixing.gridmixup import lattice
from lt_bench.mixing.guided_mixup import GuidedMixup, blurred, greedy_cycle, spectral_residual
from lt_bench.mixing.resizemix import draw_corners, pasted
from lt_bench.mixing.smoothmix import gaussian

COUNTS = [100, 10, 1, 1]
BY_AREA = [
    "fmix",
    "resizemix",
    "smoothmix",
    "mixed-example",
    "guided-mixup",
    "gridmixup",
    "cutmix",
    "mixup",
    "attentive-cutmix",
    "saliencymix",
    "puzzlemix",
    "co-mixup",
]
SO_THAT_IT_MIXES: dict[str, dict[str, Any]] = {
    "guided-mixup": {"pairing": "random", "probability": 1.0},
    "co-mixup": {"beta": 0.0},
}


@pytest.mark.parametrize("name", BY_AREA)
def test_the_mean_of_ones_in_zeros_is_the_share(name: str) -> None:
    """It finds labels that are exchanged, which a public toolbox has for SmoothMix."""
    for seed in range(12):
        images = torch.cat([torch.ones(3, 3, 32, 32), torch.zeros(3, 3, 32, 32)])
        ones = Batch(images, torch.tensor([0, 0, 0, 1, 1, 1]), whole(6))
        mix = build(name, **SO_THAT_IT_MIXES.get(name, {}))
        mixed = mix(ones, None, step_at(seed=seed))
        shares = torch.zeros(6)
        for labels, share in mixed.terms:
            assert labels is not None
            shares += torch.as_tensor(share).float() * (labels == 0)
        torch.testing.assert_close(mixed.images.mean((1, 2, 3)), shares, atol=1.01 / 1024, rtol=0)


# --- FMix ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "ones"), [(0.3, {307, 308}), (0.5, {512}), (0.25, {256}), (0.0, {0}), (1.0, {1024})])
def test_as_many_pixels_as_the_share(share: float, ones: set[int]) -> None:
    rng = generator(0, "fmix")
    assert {int(highest(rng.normal(size=(32, 32)), share, rng).sum()) for _ in range(40)} == ones


def test_the_highest_pixels_are_the_mask() -> None:
    mask = highest(np.array([[0.1, 0.9], [0.5, 0.3]]), 0.5, generator(0, "fmix"))
    assert mask.tolist() == [[0, 1], [1, 0]]


def test_the_noise_is_smooth_and_the_released_one_has_rank_three() -> None:
    grey = [low_frequency_noise(32, 32, 3.0, generator(seed, "f")) for seed in range(4)]
    assert all(np.linalg.matrix_rank(picture) >= 31 for picture in grey)
    released = low_frequency_noise(32, 32, 3.0, generator(0, "f"), released=True)
    assert np.linalg.matrix_rank(released) == 3
    rough = low_frequency_noise(32, 32, 0.0, generator(0, "f"))
    assert (
        np.abs(np.diff(grey[0], axis=0)).mean() / grey[0].std()
        < np.abs(np.diff(rough, axis=0)).mean() / rough.std() / 3
    )


# --- ResizeMix -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "side", "share"), [(0.1, 3, 0.9912109), (0.5, 16, 0.75), (0.8, 25, 0.3896484)])
def test_resizemix_at_the_scales_of_the_card(scale: float, side: int, share: float) -> None:
    mix = build("resizemix", smallest=scale, largest=scale)
    mixed = mix(constant(0, [0, 1]), constant(1, [2, 2]), step_at())
    assert mixed.terms[0][1] == pytest.approx(share)
    assert int(mixed.images[0, 0].sum()) == side**2


def test_the_mean_share_of_resizemix() -> None:
    mix, image = build("resizemix"), constant(0, [0])
    shares = [mix(image, image, step).terms[0][1] for step in [step_at()] for _ in range(3000)]
    assert np.mean(shares) == pytest.approx(0.7567, abs=0.012)


def test_the_shrunk_image_is_the_nearest_pixels_of_the_whole_one() -> None:
    images = torch.arange(64.0).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    found = pasted(torch.full((1, 3, 8, 8), -1.0), images, torch.tensor([[2, 1]]), 0.4)
    rows = [0, 2, 5]  # floor(i / 0.4)
    assert found[0, 0, 2:5, 1:4].tolist() == [[8.0 * row + column for column in rows] for row in rows]
    assert (found[0, 0] >= 0).sum() == 9


def test_corners_lie_inside_and_differ_within_a_batch() -> None:
    corners = draw_corners(1000, 32, 10, generator(0, "corners"))
    assert (corners.min(), corners.max()) == (0, 22)
    assert 0.15 < (corners == 0).mean() < 0.22  # centres near a border are moved to it


# --- SmoothMix, RICAP, VH-Mixup ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "deviation", "mean"), [(15.5, 8, 0.3579), (15.5, 16, 0.7323), (0, 8, 0.1082), (0, 16, 0.3741)]
)
def test_the_hole_of_smoothmix(place: float, deviation: float, mean: float) -> None:
    assert gaussian(32, 32, place, place, deviation).mean() == pytest.approx(mean, abs=5e-5)


def test_ricap_has_the_areas_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cuts:
        """Draws h = 10 and w = 20 of 32 first, then what a generator would."""

        def __init__(self) -> None:
            self.cuts, self.rng = iter([10 / 32, 20 / 32]), generator(0, "ricap")

        def beta(self, a: float, b: float) -> float:
            return next(self.cuts)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.rng, name)

    step = step_at()
    object.__setattr__(step, "rng", Cuts())
    batch = Batch(torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 32, 32), torch.arange(4))
    mixed = build("ricap")(batch, None, step)
    assert [share for _, share in mixed.terms] == [0.1953125, 0.1171875, 0.4296875, 0.2578125]
    for image, *labels in zip(mixed.images[:, 0], *(labels for labels, _ in mixed.terms), strict=True):
        corners = [image[0, 0], image[0, -1], image[-1, 0], image[-1, -1]]
        assert [int(corner) for corner in corners] == [int(label) for label in labels]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 5), height=st.integers(1, 12), width=st.integers(1, 12))
def test_ricap_of_any_images(seed: int, size: int, height: int, width: int) -> None:
    batch = batch_of(seed, size, height, width)
    mixed = build("ricap")(batch, None, step_at(seed=seed))
    assert mixed.images.shape == batch.images.shape
    assert sum(float(share) for _, share in mixed.terms) == pytest.approx(1)


def test_vh_mixup_draws_for_every_pair() -> None:
    mixed = build("mixed-example")(constant(1, [0] * 16), constant(0, [1] * 16), step_at())
    (_, share), _ = mixed.terms
    assert isinstance(share, Tensor)
    assert len(share.unique()) == 16
    for image in mixed.images[:, 0]:
        # The top left is of i in both concatenations, the bottom right of j; the other two corners share what is left.
        assert image[0, 0] == 1
        assert image[-1, -1] == 0
        assert image[0, -1] + image[-1, 0] == pytest.approx(1)


# --- GridMixup -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("side", [1, 5, 32])
def test_a_lattice_has_two_to_six_holes_in_a_row_and_leaves_about_the_share(side: int, share: float) -> None:
    rng, found = step_at().rng, []
    for _ in range(200):
        mask = lattice(side, side, share, rng)
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        assert np.array_equal(mask, np.outer(mask.any(1), mask.any(0)))
        found.append(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        if side == 32:
            holes = int((np.diff(mask.any(0).astype(int), prepend=0) == 1).sum())
            assert 2 <= holes <= 6
    if (side, share) == (32, 0.3):
        # A hole of 0.8 or so of the sides of its cell: 0.7 of the pixels, less what whole pixels cost.
        assert np.mean([part.mean() for part in found]) == pytest.approx(0.7, abs=0.1)


# --- DecoupleMix ---------------------------------------------------------------------------------------

Z = torch.tensor([[2.0, 1, 0, -1]])


def decouple(**fields: Any) -> DecoupleMix:
    mix = build("decouple-mix", **fields)
    assert isinstance(mix, DecoupleMix)
    return mix


def mixture_loss(logits: Tensor, terms: tuple[Term, ...]) -> float:
    return float(CrossEntropy(COUNTS).of_terms(logits, terms))


def pair(own: list[int], other: list[int], share: float) -> tuple[Term, ...]:
    return (torch.tensor(own), share), (torch.tensor(other), 1 - share)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"power": 0.0}, 0.7979349),
        ({"power": 1.0}, 0.7643071),
        ({"power": 0.5, "form": "less"}, 0.7625152),
        ({"eta": 0.0}, 0.7401897),
    ],
)
def test_the_decoupled_loss_of_the_card(fields: dict[str, Any], expected: float) -> None:
    terms = pair([0], [1], 0.7)
    found = mixture_loss(Z, terms) + float(decouple(**fields).decoupled(Z, terms))
    assert found == pytest.approx(expected, abs=1e-6)


def test_each_class_competes_without_the_other() -> None:
    logits = Z.clone().requires_grad_()
    own = without(logits, torch.tensor([0]), torch.tensor([1]))
    assert own.exp().reciprocal().item() == pytest.approx(0.8437947, abs=1e-6)
    assert without(Z, torch.tensor([1]), torch.tensor([0])).exp().reciprocal().item() == pytest.approx(
        0.6652410, abs=1e-6
    )
    (gradient,) = torch.autograd.grad(own.sum(), logits)
    assert gradient[0, 1] == 0
    assert without(torch.randn(5, 2), torch.zeros(5).long(), torch.ones(5).long()).abs().max() < 1e-6  # of two classes


def test_the_terms_are_not_exchanged_by_the_order_of_the_classes() -> None:
    logits = torch.tensor([[2.0, 1, 0, -1], [0.5, 0, 1, 0]])
    terms = pair([1, 0], [0, 2], 0.7)
    mix = decouple(form="more", power=0.0)  # (0.1, 0) at a share of 0.7
    assert mixture_loss(logits, terms) + float(mix.decoupled(logits, terms)) == pytest.approx(1.2307584, abs=1e-6)
    both, half = decouple(power=0.0), pair([0, 1], [1, 2], 0.5)
    assert mixture_loss(logits, half) + float(both.decoupled(logits, half)) == pytest.approx(1.2732643, abs=1e-6)


def test_pairs_of_one_class_have_the_loss_of_the_mix_and_its_gradient_is_a_number() -> None:
    logits = torch.randn(3, 4).requires_grad_()
    terms = pair([0, 1, 2], [0, 1, 2], 0.3)
    added = decouple().decoupled(logits, terms)
    (gradient,) = torch.autograd.grad(added, logits)
    assert added == 0
    assert not gradient.any()


def test_a_mix_of_other_targets_cannot_be_decoupled() -> None:
    for name, reason in (
        ("soft-augmentation", "mixes no images"),
        ("ricap", "four images"),
        ("mixupe", "says its loss"),
    ):
        with pytest.raises(UserError, match=reason):
            decouple(generator=name)


# --- GuidedMixup ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "partners"),
    [
        ([[abs(a - b) for b in (0, 1, 3, 7, 12)] for a in (0, 1, 3, 7, 12)], [4, 3, 0, 2, 1]),
        ([[0, 5, 2, 1], [5, 0, 4, 3], [2, 4, 0, 6], [1, 3, 6, 0]], [2, 0, 3, 1]),
        ([[0.0]], [0]),
        ([[0, 1], [1, 0]], [1, 0]),
    ],
)
def test_the_cycles_of_the_card(rows: list[list[float]], partners: list[int]) -> None:
    assert greedy_cycle(torch.tensor(rows, dtype=torch.float64)).tolist() == partners


@settings(max_examples=30, deadline=None)
@given(size=st.integers(2, 40), seed=st.integers(0, 10**6))
def test_partners_are_one_cycle(size: int, seed: int) -> None:
    points = torch.from_numpy(generator(seed, "points").normal(size=(size, 3)))
    order, place, visited = greedy_cycle(torch.cdist(points, points)).tolist(), 0, set()
    for _ in range(size):
        visited.add(place)
        place = order[place]
    assert (len(visited), place) == (size, 0)


def test_equal_images_still_make_a_cycle() -> None:
    assert sorted(greedy_cycle(torch.zeros(6, 6)).tolist()) == list(range(6))


def test_the_mask_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_bench.mixing.guided_mixup.blurred", lambda maps: maps)
    saliency = torch.tensor([[[0.4, 0.3], [0.2, 0.1]], [[0.1, 0.1], [0.2, 0.6]]])
    batch = Batch(torch.stack([torch.ones(3, 2, 2), torch.zeros(3, 2, 2)]), torch.tensor([0, 1]))
    mix = build("guided-mixup")
    assert isinstance(mix, GuidedMixup)
    mixed = mix.guided(batch, saliency, step_at())
    torch.testing.assert_close(mixed.images[0, 0], torch.tensor([[0.8, 0.75], [0.5, 0.142857]]))
    (_, share), (_, rest) = mixed.terms
    torch.testing.assert_close(share, torch.tensor([0.5482143, 0.4517857]))
    torch.testing.assert_close(torch.as_tensor(share) + torch.as_tensor(rest), torch.ones(2))


def test_a_bright_pixel_stands_out_of_the_spectrum() -> None:
    images = torch.zeros(1, 3, 8, 8)
    images[0, :, 3, 4] = 1
    found = spectral_residual(images)
    assert found[0, 3, 4].item() == pytest.approx(0.0307091, abs=1e-5)
    point = torch.zeros(1, 15, 15)
    point[0, 7, 7] = 1
    line = blurred(point)[0, 7, 4:11]
    torch.testing.assert_close(
        line / 0.175240,
        torch.tensor([0.106289, 0.140321, 0.165770, 0.175240, 0.165770, 0.140321, 0.106289]),
        atol=1e-5,
        rtol=0,
    )


def test_the_blur_is_torchvisions() -> None:
    maps = torch.rand(3, 12, 9)
    torch.testing.assert_close(blurred(maps), gaussian_blur(maps[:, None], [7, 7], [3.0, 3.0])[:, 0])


def test_saliency_is_blurred_where_it_guides() -> None:
    """A single pixel of one image outweighs the other image in the whole window of the filter, and nowhere else."""
    saliency = torch.full((2, 16, 16), 1e-9)
    saliency[0, 8, 8] = 1.0
    saliency[1] = 1 / 256
    batch = Batch(torch.stack([torch.ones(3, 16, 16), torch.zeros(3, 16, 16)]), torch.tensor([0, 1]))
    mix = build("guided-mixup")
    assert isinstance(mix, GuidedMixup)
    mixed = mix.guided(batch, saliency, step_at()).images[0, 0]
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[5:12, 5:12] = True
    assert (mixed[inside] > 0.7).all()
    assert (mixed[~inside] < 0.01).all()


def test_large_images_are_looked_at_small() -> None:
    assert spectral_residual(torch.randn(2, 3, 200, 150)).shape == (2, 200, 150)


def test_gradients_guide_whatever_the_scale_of_the_loss() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
    batch, seen = batch_of(size=6), []

    def objective(scale: float) -> Objective:
        def criterion(answer: Answer, terms: Any) -> Tensor:
            seen.append(terms)
            return scale * CrossEntropy(COUNTS).of_terms(answer.logits, terms)

        return Objective(network, lambda net, images: Answer(net(images)), criterion)  # type: ignore[arg-type]

    mix = build("guided-mixup", saliency="gradient", probability=1.0)
    for scale in (1.0, 1000.0):
        mix.loss(objective(scale), batch, None, step_at()).backward()
    plain, mixed, _, again = seen
    assert len(plain) == 1
    torch.testing.assert_close(mixed[0][1], again[0][1], rtol=1e-4, atol=1e-5)
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_without_the_coin_a_batch_stays_as_it_is() -> None:
    batch = batch_of()
    mixed: Mixed = build("guided-mixup", probability=0.0)(batch, None, step_at())
    assert mixed.images is batch.images
