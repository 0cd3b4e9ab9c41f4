"""SaliencyMix: where its box lies, and what OpenCV is shown."""

from __future__ import annotations

import sys

import pytest
import torch
from mix_cases import build, constant, step_at
from run_cases import tiny
from torch import Tensor

from lt_bench.data.types import Batch, Views, generator
from lt_bench.errors import UserError
from lt_bench.mixing.boxes import Box, paste
from lt_bench.mixing.saliencymix import SaliencyMix, fine_grained, most_salient, visible
from lt_bench.models import build_network

needs_opencv = pytest.mark.skipif("not __import__('importlib').util.find_spec('cv2')", reason="the extra [saliency]")


def with_a_bright_square(row: int, column: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    image = torch.full((3, 32, 32), low)
    image[:, row - 1 : row + 2, column - 1 : column + 2] = high
    return image


@needs_opencv
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-2.1, 2.6), (-1, 0)])
def test_the_most_salient_pixel_is_in_what_stands_out_whatever_the_scale(low: float, high: float) -> None:
    row, column = most_salient(with_a_bright_square(20, 7, low, high))
    assert abs(row - 20) <= 1
    assert abs(column - 7) <= 1


@needs_opencv
def test_an_image_without_contrast_has_a_pixel_too() -> None:
    assert most_salient(torch.full((3, 8, 6), 0.3)) == (0, 0)


@needs_opencv
def test_of_the_released_floats_each_is_read_as_four_pixels() -> None:
    image = torch.zeros(3, 32, 32)
    image[:, 20, 7] = 2.5
    row, column = most_salient(image, as_pixels=False)
    assert abs(row - 20) <= 2
    assert column // 4 == 7


@needs_opencv
def test_one_box_around_that_pixel_of_the_first_partner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_bench.mixing.saliencymix.draw_share", lambda *_: 0.75)
    batch, partner = constant(0, [0, 1]), constant(0, [2, 2])
    images = torch.stack([with_a_bright_square(20, 10), with_a_bright_square(5, 25)]) + 1
    partner = Batch(images, partner.labels)
    mixed = build("saliencymix", probability=1)(batch, partner, step_at())
    row, column = most_salient(images[0])
    assert torch.equal(mixed.images, paste(batch.images, images, Box(row - 8, row + 8, column - 8, column + 8)))
    (own, share), (other, rest) = mixed.terms
    assert (share, rest) == (0.75, 0.25)
    assert (own is batch.labels, other is partner.labels) == (True, True)


@pytest.mark.parametrize(
    ("box", "mirrored", "expected"),
    [
        ([0.0, 0.0, 1.0, 1.0], False, (0, 32, 0, 32)),
        ([-0.125, 0.0625, 0.875, 1.0625], False, (0, 30, 4, 32)),  # four columns of padding on the left, two rows below
        ([-0.125, 0.0625, 0.875, 1.0625], True, (0, 30, 0, 28)),
        ([0.2, 0.2, 0.6, 0.6], False, (0, 32, 0, 32)),
    ],
)
def test_padding_does_not_stand_out(box: list[float], mirrored: bool, expected: tuple[int, int, int, int]) -> None:
    views = Views(torch.zeros(1).long(), torch.tensor([box]), torch.tensor([mirrored]))
    assert visible(Batch(torch.zeros(1, 3, 32, 32), torch.zeros(1).long(), views)) == expected


@needs_opencv
def test_the_centre_lies_on_what_the_image_shows() -> None:
    views = Views(torch.zeros(1).long(), torch.tensor([[-0.125, 0.0625, 0.875, 1.0625]]), torch.zeros(1).bool())
    places = []
    for seed in range(20):
        image = torch.from_numpy(generator(seed, "image").uniform(0.4, 1, (1, 3, 32, 32))).float()
        image[:, :, 30:], image[..., :4] = -2.0, -2.0
        places.append(SaliencyMix([5, 5]).centre(Batch(image, torch.zeros(1).long(), views)))
    assert all(row < 30 and column >= 4 for row, column in places)
    assert len(set(places)) > 5


@needs_opencv
def test_a_law_with_zero_parameter_does_not_mix() -> None:
    batch = constant(0, [0, 1])
    mixed = build("saliencymix", probability=1, beta=0)(batch, constant(1, [2, 2]), step_at())
    assert torch.equal(mixed.images, batch.images)
    assert mixed.terms[0][1] == 1


@pytest.mark.usefixtures("tiny_backbone")
def test_without_the_extra_a_training_says_so_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("saliencymix")  # which needs no OpenCV
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"pip install 'lt-bench\[saliency\]'"):
        fine_grained()
    choice = recipe.phase_choices()[0].mix
    with pytest.raises(UserError, match="saliencymix needs OpenCV"):
        choice.component([3, 2], choice.config).attach(build_network("resnet8", "linear", num_classes=2))
