"""How AugMix and PixMix vary the pixels of images: one operation for each, as far as a share says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.augment import Normalisation
from lt_bench.data.augmentations.operations import FUNCTIONS
from lt_bench.mixing import sent

OPERATIONS = (
    *("AutoContrast", "Equalize", "Posterize", "Rotate", "Solarize"),
    *("ShearX", "ShearY", "TranslateX", "TranslateY"),
)
"""None that changes colour, contrast, brightness or sharpness: test sets of corruptions hold these."""
LEVELS = 10
LEAST = 0.1
"""Level of an operation."""


def pixels_of(images: Tensor, normalisation: Normalisation) -> Tensor:
    """Normalised images [B, 3, H, W] as uint8."""
    mean, std = mean_and_std(normalisation, images.device)
    return ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def mean_and_std(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of pixels in 0..1, [3, 1, 1] each."""
    mean, std = (sent(np.array(values), device).view(-1, 1, 1) for values in normalisation)
    return mean, std


def each_varied(pixels: Tensor, operation: np.ndarray, share: np.ndarray) -> Tensor:
    """Images uint8 [B, 3, H, W], each after the operation of its number in OPERATIONS [B], -1 for none.

    The shares [B] are those of the farthest that it reaches, negative where it goes the other way.
    """
    for index, name in enumerate(OPERATIONS):
        members = np.flatnonzero(operation == index)
        if len(members):
            where = torch.from_numpy(members).to(pixels.device, non_blocking=True)
            change = varied(pixels[where], name, sent(share[members], pixels.device))
            pixels = pixels.index_copy(0, where, change)
    return pixels


def varied(pixels: Tensor, name: str, share: Tensor) -> Tensor:
    """One operation on uint8 [B, 3, H, W], as far as the shares [B] say, whose signs only geometry knows."""
    if name in MATRICES:
        return moved(pixels, MATRICES[name](share))
    far = share.abs().view(-1, 1, 1, 1)
    match name:
        case "Posterize":
            lost = 4 + (4 * far).round().int()
            return ((pixels.int() >> lost) << lost).to(torch.uint8)
        case "Solarize":
            return torch.where(pixels >= 255 * (1 - far), 255 - pixels, pixels)
        case _:
            changed: Tensor = FUNCTIONS[name](pixels, 0.0, [])
            return changed


def moved(pixels: Tensor, matrices: Tensor) -> Tensor:
    """Images seen through matrices [B, 2, 3], in sides of the image around its centre; black comes into sight."""
    # In bf16 the grid, a product of matrices, would be nearly a pixel off where images are large.
    with torch.autocast(pixels.device.type, enabled=False):
        grid = F.affine_grid(matrices, list(pixels.shape), align_corners=False)
        return F.grid_sample(pixels.float(), grid, align_corners=False).round().to(torch.uint8)


def _matrix(share: Tensor, *entries: Tensor | float) -> Tensor:
    """[B, 2, 3] of six entries row by row, each a number or [B]."""
    rows = [entry if isinstance(entry, Tensor) else torch.full_like(share, entry) for entry in entries]
    return torch.stack(rows, -1).view(-1, 2, 3)


def _turned(share: Tensor) -> Tensor:
    angle = share * math.radians(30)
    return _matrix(share, angle.cos(), angle.sin(), 0.0, -angle.sin(), angle.cos(), 0.0)


MATRICES: dict[str, Callable[[Tensor], Tensor]] = {
    "Rotate": _turned,
    # About the upper left corner, which is at (-1, -1): x' = x + s (y + 1).
    "ShearX": lambda share: _matrix(share, 1.0, 0.3 * share, 0.3 * share, 0.0, 1.0, 0.0),
    "ShearY": lambda share: _matrix(share, 1.0, 0.0, 0.0, 0.3 * share, 1.0, 0.3 * share),
    # By a third of a side, where the whole is 2.
    "TranslateX": lambda share: _matrix(share, 1.0, 0.0, share * 2 / 3, 0.0, 1.0, 0.0),
    "TranslateY": lambda share: _matrix(share, 1.0, 0.0, 0.0, 0.0, 1.0, share * 2 / 3),
}
"""From shares [B] to where a place of the varied image is in the given one."""
