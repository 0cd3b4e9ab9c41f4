"""The operations that learned and random policies are made of, applied to all images that share one."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lt_bench.data.augmentations import COLOUR, Augment

Operation = tuple[str, float]
"""A name of FUNCTIONS and a value in the unit of the operation, with its sign."""
UNSIGNED = ("Posterize", "Solarize", "AutoContrast", "Equalize")
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
"""Operations that go either way, each with probability 1/2."""
FOURTEEN = ("Identity", *SIGNED, *UNSIGNED)
"""What RandAugment and TrivialAugment choose from."""


class Operations(Augment):
    """One operation or several after each other on every image, each from a table."""

    place = COLOUR
    batches_at_once = 64
    fill: ClassVar[int]
    """Grey level of the corners that geometry leaves empty."""

    @abstractmethod
    def table(self, height: int, width: int) -> Sequence[Operation]:
        """All operations that can come, for images of this size."""

    def apply(self, images: Tensor, *draws: Any) -> Tensor:
        """`draws` is one int64 [B, K]: rows of the table, -1 for none, in the order in which they come.

        The operations are torchvision's, by nearest pixel.
        """
        (chosen,) = draws
        images, table = images.clone(), self.table(*images.shape[-2:])
        for step in chosen.T:
            for row in np.unique(step[step >= 0]).tolist():
                members = torch.from_numpy(np.flatnonzero(step == row)).to(images.device)
                images[members] = perform(images[members], table[row], self.fill)
        return images


@dataclass(frozen=True)
class Space:
    """The largest values of the operations; a magnitude is a share of them."""

    slope: float
    translation: Callable[[int], float]
    """Pixels, from those on a side."""
    degrees: float
    change: float
    """Of a factor from 1, for brightness, colour, contrast and sharpness."""
    bits: int
    """That posterising takes away."""

    def value(self, name: str, share: float, height: int, width: int) -> float:
        """What the operation takes at this share; 0 for one that takes nothing."""
        values = {
            **dict.fromkeys(("ShearX", "ShearY"), self.slope * share),
            "TranslateX": self.translation(width) * share,
            "TranslateY": self.translation(height) * share,
            "Rotate": self.degrees * share,
            **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), self.change * share),
            "Posterize": 8 - round(self.bits * share),
            "Solarize": 255 * (1 - share),
        }
        return values.get(name, 0.0)


USUAL = Space(0.3, lambda side: 150 / 331 * side, 30, 0.9, 4)
"""Of AutoAugment and RandAugment."""
WIDE = Space(0.99, lambda side: 32, 135, 0.99, 6)
"""Of TrivialAugment."""


def either_way(name: str, value: float) -> list[Operation]:
    """Both signs of an operation, where it has two; they are told apart by one more draw."""
    return [(name, value), (name, -value if name in SIGNED else value)]


def perform(images: Tensor, operation: Operation, fill: int) -> Tensor:
    """One operation on uint8 [B, 3, H, W]."""
    name, value = operation
    changed = FUNCTIONS[name](images, value, [float(fill)] * 3)
    assert isinstance(changed, Tensor)
    return changed


@cache
def _torchvision() -> Any:
    """Its functional operations, which take a second to import."""
    from torchvision.transforms.v2 import functional  # noqa: PLC0415

    return functional


def _affine(images: Any, fill: list[float], translate: Sequence[int] = (0, 0), shear: Sequence[float] = (0, 0)) -> Any:
    angles = [math.degrees(math.atan(slope)) for slope in shear]
    # torchvision shears about the upper left corner, as Pillow does.
    centre: Any = [0.0, 0.0] if any(shear) else None
    return _torchvision().affine(images, 0.0, list(translate), 1.0, angles, fill=fill, center=centre)


FUNCTIONS: dict[str, Callable[[Any, float, list[float]], Any]] = {
    "Identity": lambda x, value, fill: x,
    "ShearX": lambda x, slope, fill: _affine(x, fill, shear=(slope, 0)),
    "ShearY": lambda x, slope, fill: _affine(x, fill, shear=(0, slope)),
    "TranslateX": lambda x, pixels, fill: _affine(x, fill, translate=(int(pixels), 0)),
    "TranslateY": lambda x, pixels, fill: _affine(x, fill, translate=(0, int(pixels))),
    "Rotate": lambda x, degrees, fill: _torchvision().rotate(x, degrees, fill=fill),
    "Brightness": lambda x, change, fill: _torchvision().adjust_brightness(x, 1 + change),
    "Color": lambda x, change, fill: _torchvision().adjust_saturation(x, 1 + change),
    "Contrast": lambda x, change, fill: _torchvision().adjust_contrast(x, 1 + change),
    "Sharpness": lambda x, change, fill: _torchvision().adjust_sharpness(x, 1 + change),
    "Posterize": lambda x, bits, fill: _torchvision().posterize(x, int(bits)),
    "Solarize": lambda x, threshold, fill: _torchvision().solarize(x, threshold),
    "AutoContrast": lambda x, value, fill: _torchvision().autocontrast(x),
    "Equalize": lambda x, value, fill: _torchvision().equalize(x),
    "Invert": lambda x, value, fill: _torchvision().invert(x),
}
