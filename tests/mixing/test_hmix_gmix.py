"""HMix and GMix against their card."""

from __future__ import annotations

import pytest
import torch
from mix_cases import build, constant, step_at

from lt_bench.mixing.boxes import box_around
from lt_bench.mixing.cutmix import cutmix_pair
from lt_bench.mixing.gmix import gaussian, own_mask
from lt_bench.mixing.hmix import hmix_pair, mixed_around
from lt_bench.mixing.mixup import mixup_pair

OWN, OTHER = constant(1, [0, 0]), constant(0, [1, 2])


@pytest.mark.parametrize(
    ("share", "ratio", "centre", "span", "blend"),
    [
        (0.5, 0.5, 16, (8, 24), 0.6666667),
        (0.5, 0.5, 0, (0, 8), 0.5333333),
        (0.65, 0.5, 16, (10, 22), 0.7563636),
        (0.36, 0.25, 16, (10, 22), 0.4189091),
        (0.5, 1.0, 16, (5, 27), 0.9481481),
        (0.5, 1.0, 0, (0, 11), 0.5669989),
        (0.75, 1.0, 16, (8, 24), 1.0),
    ],
)
def test_a_box_and_the_blend_around_it(
    share: float, ratio: float, centre: int, span: tuple[int, int], blend: float
) -> None:
    box = box_around(centre, centre, 32, 32, 1 - (1 - share) * ratio)
    assert (box.top, box.bottom) == (box.left, box.right) == span
    mixed = mixed_around(OWN, OTHER, box, share)
    assert not mixed.images[..., span[0] : span[1], span[0] : span[1]].any()
    assert float(mixed.images[0, 0, 31, 31]) == pytest.approx(blend, abs=1e-6)
    assert mixed.terms[0][1] == share
    assert float(mixed.images.mean()) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_the_mean_of_the_pixels_is_the_share_of_the_label(seed: int) -> None:
    ratio = seed / 19
    mixed = hmix_pair(OWN, OTHER, 1.0, ratio, step_at(seed=seed).rng)
    own, other = (share for _, share in mixed.terms)
    assert float(mixed.images.mean()) == pytest.approx(float(own), abs=1e-5)
    assert own + other == 1


def test_its_ends_are_mixup_and_cutmix() -> None:
    plain = hmix_pair(OWN, OTHER, 1.0, 0.0, step_at(seed=1).rng)
    assert torch.equal(plain.images, mixup_pair(OWN, OTHER, 1.0, step_at(seed=1).rng).images)
    for seed in range(8):
        cut = cutmix_pair(OWN, OTHER, 1.0, step_at(seed=seed).rng)
        boxed = hmix_pair(OWN, OTHER, 1.0, 1.0, step_at(seed=seed).rng)
        assert torch.equal(cut.images == 0, boxed.images == 0)  # the same box
        assert cut.terms[0][1] >= boxed.terms[0][1] - 1e-9  # what clipping adds to the one, the other blends away


def test_a_box_over_the_whole_image() -> None:
    mixed = mixed_around(OWN, OTHER, box_around(16, 16, 32, 32, 0.0), 0.0)
    assert not mixed.images.any()
    assert mixed.terms[0][1] == 0


@pytest.mark.parametrize(
    ("share", "centre", "mean"),
    [(0.1, 16, 0.099984), (0.25, 16, 0.243856), (0.3, 16, 0.286739), (0.5, 16, 0.426315), (0.25, 0, 0.070557)],
)
def test_the_mean_of_a_gaussian_mask(share: float, centre: int, mean: float) -> None:
    assert float(gaussian(32, 32, centre, centre, share).mean()) == pytest.approx(mean, abs=1e-6)


def test_values_of_gaussian_masks() -> None:
    assert float(gaussian(32, 32, 16, 16, 0.25)[16, 8]) == pytest.approx(0.4559381, abs=1e-7)
    small = gaussian(4, 4, 2, 2, 0.25)
    torch.testing.assert_close(small[2], torch.tensor([0.043214, 0.455938, 1, 0.455938]).double(), atol=1e-6, rtol=0)
    assert float(small.mean()) == pytest.approx(0.238899, abs=1e-6)
    assert not gaussian(8, 8, 3, 3, 0.0).isnan().any()


def test_a_label_of_gmix_counts_the_pixels_it_is_of() -> None:
    mix = build("gmix", probability=1.0)
    for epoch in range(6):
        mixed = mix(constant(1, [0], 32, 32), constant(0, [1], 32, 32), step_at(epoch))
        (labels, share), (others, rest) = mixed.terms
        assert (int(labels[0]), int(others[0])) == (0, 1)  # type: ignore[index]
        assert float(mixed.images.mean()) == pytest.approx(share, abs=1e-6)
        assert float(rest) == pytest.approx(1 - float(share))


@pytest.mark.parametrize(("share", "mean"), [(0.1, 0.08097), (0.25, 0.17689), (0.4, 0.25533), (0.5, 0.30045)])
def test_the_mean_of_a_gaussian_mask_over_all_centres(share: float, mean: float) -> None:
    means = [gaussian(32, 32, row, column, share).mean() for row in range(32) for column in range(32)]
    assert float(torch.stack(means).mean()) == pytest.approx(mean, abs=5e-5)


def test_the_image_of_the_larger_share_is_all_but_the_peak() -> None:
    mask = own_mask(32, 32, 16, 16, 0.7)
    assert float(mask.mean()) == pytest.approx(0.713261, abs=1e-6)
    assert mask[16, 16] == 0
    assert float(own_mask(32, 32, 16, 16, 0.4999).mean()) == pytest.approx(0.4263, abs=1e-4)
    assert float(own_mask(32, 32, 16, 16, 0.5).mean()) == pytest.approx(0.5737, abs=1e-4)
