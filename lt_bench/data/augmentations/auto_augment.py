"""AutoAugment: learned pairs of operations (Cubuk et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
import torch

from lt_bench.data.augmentations import Augment, Draws
from lt_bench.data.augmentations.operations import USUAL, Operation, Operations, either_way
from lt_bench.registry import Info

PolicyName = Literal["cifar10", "imagenet", "svhn"]
SubPolicy = tuple[tuple[str, float, int], ...]
"""(operation, probability, magnitude 0..9) twice."""


class AutoAugment(Operations):
    """One of the 25 sub-policies for every image, each of its two operations with its probability.

    Empty corners are grey 128, as in the port that the long-tail repositories copy from each other. That port differs
    from torchvision in the rest: it rotates in the positive direction only, shears bicubically (here: nearest),
    solarises from 256 (here: 255) and does not round translations.
    """

    name = "auto-augment"
    info = Info("a learned pair of operations for every image", "Cubuk et al., CVPR 2019", 2019)
    fill = 128

    class Config(Augment.Config):
        """The data set that the policy was learned on; long-tail papers take CIFAR-10's for CIFAR-100 as well."""

        policy: PolicyName = "cifar10"

    config: Config

    def draw(self, size: int, height: int, width: int, rng: np.random.Generator, device: torch.device) -> Draws:
        policy = sub_policies(self.config.policy)
        pairs = np.arange(4 * len(policy)).reshape(-1, 2, 2)  # [25, 2, sign]: rows of the table
        chosen = rng.integers(0, len(policy), size)
        probability = np.array([[p for _, p, _ in pair] for pair in policy])
        applied = rng.random((size, 2)) < probability[chosen]
        negative = (rng.random((size, 2)) < 0.5).astype(np.int64)
        return (np.where(applied, pairs[chosen[:, None], [0, 1], negative], -1),)

    def table(self, height: int, width: int) -> Sequence[Operation]:
        return [
            signed
            for pair in sub_policies(self.config.policy)
            for name, _, magnitude in pair
            for signed in either_way(name, USUAL.value(name, magnitude / 9, height, width))
        ]


@cache
def sub_policies(name: PolicyName) -> tuple[SubPolicy, ...]:
    """The policy as torchvision lists it."""
    from torchvision import transforms  # noqa: PLC0415 (a second)

    policies = transforms.AutoAugment(transforms.AutoAugmentPolicy(name)).policies
    return tuple(tuple((op, p, m or 0) for op, p, m in pair) for pair in policies)
