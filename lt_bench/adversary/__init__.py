"""Adversaries: what changes images as far as a ball of pixels allows. This page says how far, `perturb` does it.

Attacks act on pixels in [0, 1]; normalisation is a part of the network that they differentiate through.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, FiniteFloat

from lt_bench.settings import Settings

LEVELS = 255
"""Radii and steps are told in 255ths of a pixel's range, as the field writes them: 8 stands for 8/255."""


class Attack(Settings):
    """Projected gradient ascent (Madry et al., ICLR 2018) in a ball around an image, cut off at black and white."""

    norm: Literal["linf", "l2"] = "linf"
    """Of the ball: each pixel's change, or the Euclidean length of all of an image's."""
    radius: FiniteFloat = Field(default=8.0, ge=0)
    """Of the ball, in 255ths: 8 under linf and 128 under l2 are usual."""
    step: FiniteFloat = Field(default=2.0, gt=0)
    """Length of a step, in 255ths: under linf that of each pixel's change. With `adam`, its learning rate."""
    later_steps: tuple[tuple[int, FiniteFloat], ...] = ()
    """From which step on, counted from 0, another length holds: [[5, 2.55]]."""
    steps: int = Field(default=10, ge=0, le=10_000)
    ascent: Literal["steepest", "adam"] = "steepest"
    """`steepest`: along the gradient's sign under linf, along the gradient under l2; `adam`: by Adam on the pixels."""
    start: Literal["uniform", "normal", "one-sided", "image"] = "uniform"
    """In which distance of the image: U(-radius, radius), 0.001 N(0, 1) or U(0, radius) in each pixel; or none."""
    statistics: Literal["running", "batch"] = "running"
    """How the attacked network normalises a batch: as in evaluation mode, or by the batch itself. Neither moves the
    running statistics."""

    def step_at(self, index: int) -> float:
        """The length of a step, on the scale of pixels in [0, 1]."""
        passed = [length for first, length in self.later_steps if index >= first]
        return (passed[-1] if passed else self.step) / LEVELS
