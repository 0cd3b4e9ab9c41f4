"""Which class an image is taken for under asymmetric noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lt_bench.errors import UserError

if TYPE_CHECKING:
    from lt_bench.data.types import IntArray

CIFAR10 = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
"""The map of Patrini et al., CVPR 2017; the other five classes keep their labels."""
SUPER_CLASSES = (
    "beaver dolphin otter seal whale",
    "aquarium_fish flatfish ray shark trout",
    "orchid poppy rose sunflower tulip",
    "bottle bowl can cup plate",
    "apple mushroom orange pear sweet_pepper",
    "clock keyboard lamp telephone television",
    "bed chair couch table wardrobe",
    "bee beetle butterfly caterpillar cockroach",
    "bear leopard lion tiger wolf",
    "bridge castle house road skyscraper",
    "cloud forest mountain plain sea",
    "camel cattle chimpanzee elephant kangaroo",
    "fox porcupine possum raccoon skunk",
    "crab lobster snail spider worm",
    "baby boy girl man woman",
    "crocodile dinosaur lizard snake turtle",
    "hamster mouse rabbit shrew squirrel",
    "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "bicycle bus motorcycle pickup_truck train",
    "lawn_mower rocket streetcar tank tractor",
)
"""Of CIFAR-100, the classes of each in the order of their labels."""


def confused_with(class_names: Sequence[str]) -> IntArray:
    """The class that each is taken for, itself for one that is taken for none; int64 [C].

    Raises UserError for classes of which nothing is known.
    """
    place = {name: index for index, name in enumerate(class_names)}
    for known in (CIFAR10, _circles()):
        if known.keys() <= place.keys() and {*known.values()} <= place.keys():
            return np.array([place[known.get(name, name)] for name in class_names])
    raise UserError("data.noise.name: asymmetric noise is known for the classes of CIFAR-10 and CIFAR-100, not these")


def _circles() -> dict[str, str]:
    """Each class to the next one of its super-class, the last to the first."""
    groups = [group.split() for group in SUPER_CLASSES]
    return {name: group[(k + 1) % len(group)] for group in groups for k, name in enumerate(group)}
