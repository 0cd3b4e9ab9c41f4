"""Corrupted images by torchvision's operators, nine kinds in five severities.

In the spirit of the common corruptions of Hendrycks and Dietterich (ICLR 2019), but not theirs: kinds, operators and
severities are this project's own, for images of 32 pixels, and figures on CIFAR-10-C are no figures on these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from lt_bench.mixing import sent

Operator = Callable[[Tensor, float, np.random.Generator], Tensor]
"""From pixels float32 [B, 3, H, W] in [0, 1], a strength and a source of randomness to pixels that may leave [0, 1]."""


def corrupted(pixels: Tensor, kind: str, severity: int, rng: np.random.Generator) -> Tensor:
    """Pixels [B, 3, H, W] in [0, 1], corrupted with a severity from 1 to 5."""
    operator, strengths = KINDS[kind]
    return operator(pixels, strengths[severity - 1], rng).clamp(0, 1)


def _gaussian_noise(pixels: Tensor, sigma: float, rng: np.random.Generator) -> Tensor:
    return pixels + sigma * sent(rng.standard_normal(pixels.shape, np.float32), pixels.device)


def _impulse_noise(pixels: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """A share of all values becomes black or white."""
    drawn = sent(rng.random(pixels.shape, np.float32), pixels.device)
    return torch.where(drawn < share / 2, 0.0, torch.where(drawn > 1 - share / 2, 1.0, pixels))


def _gaussian_blur(pixels: Tensor, sigma: float, rng: np.random.Generator) -> Tensor:
    from torchvision.transforms.v2 import functional as tv  # noqa: PLC0415 (slow to import)

    size = 2 * round(3 * sigma) + 1
    found: Tensor = tv.gaussian_blur(pixels, [size, size], [sigma, sigma])
    return found


def _pixelate(pixels: Tensor, factor: float, rng: np.random.Generator) -> Tensor:
    from torchvision.transforms.v2 import InterpolationMode  # noqa: PLC0415
    from torchvision.transforms.v2 import functional as tv  # noqa: PLC0415

    full = list(pixels.shape[-2:])
    small = tv.resize(pixels, [max(1, round(side * factor)) for side in full], antialias=True)
    found: Tensor = tv.resize(small, full, interpolation=InterpolationMode.NEAREST_EXACT)
    return found


def _by_torchvision(name: str) -> Operator:
    """An operator on float images with one factor."""

    def operator(pixels: Tensor, factor: float, rng: np.random.Generator) -> Tensor:
        from torchvision.transforms.v2 import functional as tv  # noqa: PLC0415

        found: Tensor = getattr(tv, name)(pixels, factor)
        return found

    return operator


def _by_levels(name: str) -> Operator:
    """An operator on uint8 images, on the host, with one whole number."""

    def operator(pixels: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
        from torchvision.transforms.v2 import functional as tv  # noqa: PLC0415

        levels = (255 * pixels).round().to(torch.uint8).cpu()
        found = torch.stack([getattr(tv, name)(image, int(strength)) for image in levels])
        return found.to(pixels.device).float() / 255

    return operator


KINDS: Mapping[str, tuple[Operator, tuple[float, float, float, float, float]]] = {
    "gaussian-noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.1, 0.14)),
    "impulse-noise": (_impulse_noise, (0.01, 0.02, 0.05, 0.1, 0.15)),
    "gaussian-blur": (_gaussian_blur, (0.4, 0.6, 0.8, 1.0, 1.4)),
    "pixelate": (_pixelate, (0.75, 0.6, 0.5, 0.375, 0.25)),
    "brightness": (_by_torchvision("adjust_brightness"), (1.2, 1.4, 1.6, 1.8, 2.0)),
    "contrast": (_by_torchvision("adjust_contrast"), (0.75, 0.6, 0.45, 0.3, 0.2)),
    "saturation": (_by_torchvision("adjust_saturation"), (0.7, 0.5, 0.3, 0.15, 0.0)),
    "jpeg": (_by_levels("jpeg"), (80, 60, 40, 25, 15)),
    "posterize": (_by_levels("posterize"), (5, 4, 3, 2, 1)),
}
"""Operator and the strengths of the severities: standard deviation, share, standard deviation in pixels, factor on the
side, factors, quality, bits."""
