from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_data import TRAIN
from torch import Tensor
from torchvision.transforms import v2

from lt_bench.data.autoaugment import OPERATIONS, SUB_POLICIES, PolicyDraws, apply_operation, apply_policy
from lt_bench.data.types import generator

REFERENCE = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=[128.0, 128.0, 128.0])


@pytest.fixture
def images() -> Tensor:
    noise = torch.from_numpy(TRAIN.images[:3]).permute(0, 3, 1, 2)
    ramp = torch.arange(32).mul(4).expand(1, 3, 32, 32).to(torch.uint8)  # low contrast: AutoContrast and Equalize bite
    return torch.cat([noise, ramp])


def test_the_policy_is_torchvisions() -> None:
    theirs = [[(name, p, m or 0) for name, p, m in pair] for pair in REFERENCE._policies]
    assert theirs == SUB_POLICIES


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize(("name", "magnitude"), OPERATIONS)
def test_operations_are_torchvisions_with_grey_corners(
    images: Tensor, name: str, magnitude: int, negative: bool
) -> None:
    magnitudes, signed = REFERENCE._AUGMENTATION_SPACE[name]
    table = magnitudes(10, 32, 32)
    value = 0.0 if table is None else float(table[magnitude])
    value = -value if signed and negative else value
    got = apply_operation(images, name, magnitude, negative)
    for image, ours in zip(images, got, strict=True):
        theirs = REFERENCE._apply_image_or_video_transform(image, name, value, REFERENCE.interpolation, REFERENCE._fill)
        torch.testing.assert_close(ours, theirs, atol=1, rtol=0)  # magnitudes are float32 there, float64 here


def test_a_moved_image_leaves_grey_behind() -> None:
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    moved = apply_operation(white, "TranslateX", 9)  # 150 / 331 * 32 = 14 pixels to the right
    assert torch.all(moved[..., :14] == 128)
    assert torch.all(moved[..., 14:] == 255)


def test_a_batch_is_its_images_one_by_one() -> None:
    images = torch.from_numpy(TRAIN.images).permute(0, 3, 1, 2)
    draws = PolicyDraws.draw(len(images), generator(0, "policy"))
    before = images.clone()
    together = apply_policy(images, draws)
    alone = torch.cat([apply_policy(images[i : i + 1], draws[i : i + 1]) for i in range(len(images))])
    assert torch.equal(together, alone)
    assert torch.equal(images, before)


def test_draws_follow_the_policys_probabilities() -> None:
    size = 100_000
    draws = PolicyDraws.draw(size, generator(0, "policy"))
    for step in (0, 1):
        expected = np.zeros(len(OPERATIONS))
        for pair in SUB_POLICIES:
            name, probability, magnitude = pair[step]
            expected[OPERATIONS.index((name, magnitude))] += probability / 25
        seen = np.bincount(draws.operation[:, step] + 1, minlength=len(OPERATIONS) + 1)[1:] / size
        np.testing.assert_allclose(seen, expected, atol=0.005)
    assert abs(draws.negative.mean() - 0.5) < 0.005
