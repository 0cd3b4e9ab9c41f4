"""Gradients stopped through the amplitude or the phase of feature maps: the operator of PADDLES.

Paper: Huang et al., PADDLES: Phase-Amplitude Spectrum Disentangled Early Stopping for Learning with Noisy Labels,
ICCV 2023, arXiv 2212.03462.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Block = Literal["batch", "map"]


def stopped(x: Tensor, *, amplitude: bool = False, phase: bool = False, over: Block = "batch") -> Tensor:
    """The maps x [B, C, H, W] as they are, up to rounding, but without gradient through amplitude or phase.

    They are those of the Fourier transform, always in float32: of the whole batch as one block of four dimensions, as
    in the authors' code, or of every single map.
    """
    if not (amplitude or phase):
        return x
    dims = tuple(range(x.ndim)) if over == "batch" else (-2, -1)
    with torch.autocast(x.device.type, enabled=False):
        # Of real numbers half the spectrum says all, and moves in the same directions.
        spectrum = torch.fft.rfftn(x.float(), dim=dims)
        size, angle = spectrum.abs(), spectrum.angle()
        kept = torch.polar(size.detach() if amplitude else size, angle.detach() if phase else angle)
        maps: Tensor = torch.fft.irfftn(kept, s=[x.shape[dim] for dim in dims], dim=dims)
    return maps.to(x.dtype)
