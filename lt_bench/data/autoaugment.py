"""AutoAugment's CIFAR-10 policy on a batch, with draws of their own for every image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from lt_bench.data.types import IntArray

# Each line a sub-policy of Cubuk et al., CVPR 2019: operation, probability, magnitude 0..9, twice.
_POLICY = """
Invert 0.1 0        Contrast 0.2 6
Rotate 0.7 2        TranslateX 0.3 9
Sharpness 0.8 1     Sharpness 0.9 3
ShearY 0.5 8        TranslateY 0.7 9
AutoContrast 0.5 0  Equalize 0.9 0
ShearY 0.2 7        Posterize 0.3 7
Color 0.4 3         Brightness 0.6 7
Sharpness 0.3 9     Brightness 0.7 9
Equalize 0.6 0      Equalize 0.5 0
Contrast 0.6 7      Sharpness 0.6 5
Color 0.7 7         TranslateX 0.5 8
Equalize 0.3 0      AutoContrast 0.4 0
TranslateY 0.4 3    Sharpness 0.2 6
Brightness 0.9 6    Color 0.2 8
Solarize 0.5 2      Invert 0.0 0
Equalize 0.2 0      AutoContrast 0.6 0
Equalize 0.2 0      Equalize 0.6 0
Color 0.9 9         Equalize 0.6 0
AutoContrast 0.8 0  Solarize 0.2 8
Brightness 0.1 3    Color 0.7 0
Solarize 0.4 5      AutoContrast 0.9 0
TranslateY 0.9 9    TranslateY 0.7 9
AutoContrast 0.9 0  Solarize 0.8 3
Equalize 0.8 0      Invert 0.1 0
TranslateY 0.7 9    AutoContrast 0.9 0
"""
_ROWS = [line.split() for line in _POLICY.strip().splitlines()]
SUB_POLICIES = [[(row[i], float(row[i + 1]), int(row[i + 2])) for i in (0, 3)] for row in _ROWS]
"""(operation, probability, magnitude) twice, for each of the 25 sub-policies."""

OPERATIONS = sorted({(name, magnitude) for row in SUB_POLICIES for name, _, magnitude in row})
_INDEX = np.array([[OPERATIONS.index((name, m)) for name, _, m in row] for row in SUB_POLICIES])  # [25, 2]
_PROBABILITY = np.array([[p for _, p, _ in row] for row in SUB_POLICIES])  # [25, 2]
_FILL = [128.0, 128.0, 128.0]


@dataclass(frozen=True)
class PolicyDraws:
    """For each image and each of the two steps: index into OPERATIONS or -1 for none, and the sign; each [N, 2]."""

    operation: IntArray
    negative: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

    @classmethod
    def draw(cls, size: int, rng: np.random.Generator) -> PolicyDraws:
        row = rng.integers(0, len(SUB_POLICIES), size)
        applied = rng.random((size, 2)) < _PROBABILITY[row]
        return cls(np.where(applied, _INDEX[row], -1), rng.random((size, 2)) < 0.5)

    def __getitem__(self, part: slice) -> PolicyDraws:
        return PolicyDraws(self.operation[part], self.negative[part])


def apply_policy(images: Tensor, draws: PolicyDraws) -> Tensor:
    """Augment uint8 [B, 3, H, W]; the input is left as it is.

    The operations are torchvision's, applied to all images of the batch that share operation, magnitude and sign.
    Empty corners are filled with grey 128, as in the port that the long-tail repositories copy from each other.
    That port differs from torchvision in the rest: it rotates in the positive direction only, shears
    bicubically (here: nearest), solarises from 256 (here: 255) and does not round translations.
    """
    images = images.clone()
    for step in (0, 1):
        key = draws.operation[:, step] * 2 + draws.negative[:, step]
        for k in np.unique(key[draws.operation[:, step] >= 0]).tolist():
            members = torch.from_numpy(np.flatnonzero(key == k)).to(images.device)
            name, magnitude = OPERATIONS[k // 2]
            images[members] = apply_operation(images[members], name, magnitude, bool(k % 2))
    return images


def apply_operation(images: Tensor, name: str, magnitude: int, negative: bool = False) -> Tensor:
    """One operation at magnitude 0..9 on uint8 [B, 3, H, W]. Operations without a sign ignore `negative`."""
    return _FUNCTIONS[name](images, magnitude / 9, -1 if negative else 1)


def _shear_y(images: Tensor, slope: float) -> Tensor:
    angle = math.degrees(math.atan(slope))
    return _tensor(F.affine(images, 0.0, [0, 0], 1.0, [0.0, angle], fill=_FILL, center=[0.0, 0.0]))


def _translate(images: Tensor, x: float, y: float) -> Tensor:
    return _tensor(F.affine(images, 0.0, [int(x), int(y)], 1.0, [0.0, 0.0], fill=_FILL))


def _tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor)
    return value


# Images, the magnitude's share of its largest value, and the sign.
_FUNCTIONS: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "ShearY": lambda x, share, sign: _shear_y(x, sign * 0.3 * share),
    "TranslateX": lambda x, share, sign: _translate(x, sign * 150 / 331 * x.shape[-1] * share, 0),
    "TranslateY": lambda x, share, sign: _translate(x, 0, sign * 150 / 331 * x.shape[-2] * share),
    "Rotate": lambda x, share, sign: _tensor(F.rotate(x, sign * 30 * share, fill=_FILL)),
    "Brightness": lambda x, share, sign: _tensor(F.adjust_brightness(x, 1 + sign * 0.9 * share)),
    "Color": lambda x, share, sign: _tensor(F.adjust_saturation(x, 1 + sign * 0.9 * share)),
    "Contrast": lambda x, share, sign: _tensor(F.adjust_contrast(x, 1 + sign * 0.9 * share)),
    "Sharpness": lambda x, share, sign: _tensor(F.adjust_sharpness(x, 1 + sign * 0.9 * share)),
    "Posterize": lambda x, share, sign: _tensor(F.posterize(x, 8 - round(4 * share))),
    "Solarize": lambda x, share, sign: _tensor(F.solarize(x, 255 * (1 - share))),
    "AutoContrast": lambda x, share, sign: _tensor(F.autocontrast(x)),
    "Equalize": lambda x, share, sign: _tensor(F.equalize(x)),
    "Invert": lambda x, share, sign: _tensor(F.invert(x)),
}
