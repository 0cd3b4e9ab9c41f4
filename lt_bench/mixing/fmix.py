"""FMix: masks cut out of low-frequency noise."""

from __future__ import annotations

import math

import numpy as np
import torch
from pydantic import Field, FiniteFloat

from lt_bench.data.types import Batch, Step
from lt_bench.mixing import Mix, Mixed, permuted, sent
from lt_bench.mixing.mixup import draw_share
from lt_bench.registry import Info

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


class FMix(Mix):
    """One mask per batch, the l H W highest pixels of a grey noise whose spectrum falls as f^-decay; l ~ Beta(a, a).

    Labels have the share that was drawn, which the mask has but for one pixel. Paper: Harris et al., arXiv 2002.12047.
    """

    name = "fmix"
    info = Info("masks of low-frequency noise", "Harris et al. 2020", 2020)

    class Config(Mix.Config):
        """As in the authors' code."""

        alpha: FiniteFloat = Field(default=1.0, ge=0)
        """Both parameters of the Beta law of the share. 0 is no mixing."""
        decay: FiniteFloat = Field(default=3.0, ge=0)
        """Of the amplitudes with the frequency: the larger, the smoother the mask."""
        released_spectrum: bool = False
        """Read the noise as the released code does, its first two rows for real and imaginary parts: the grey picture
        then has rank 3, and masks are close to products of rows and columns."""

    config: Config

    def forward(self, batch: Batch, partner: Batch | None, step: Step) -> Mixed:
        partner = partner or permuted(batch, step.rng)
        share = draw_share(self.config.alpha, step.rng)
        height, width = batch.images.shape[2:]
        released = self.config.released_spectrum
        grey = low_frequency_noise(height, width, self.config.decay, step.rng, released=released)
        mask = sent(highest(grey, share, step.rng), batch.images.device)
        images = torch.where(mask.bool(), batch.images, partner.images)
        return Mixed(images, ((batch.labels, share), (partner.labels, 1 - share)))


def low_frequency_noise(
    height: int, width: int, decay: float, rng: np.random.Generator, *, released: bool = False
) -> FloatArray:
    """A grey picture [H, W]: complex Gaussian noise, divided by max(f, 1 / max(H, W))^decay, transformed back."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    frequency = np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    noise = rng.standard_normal((*frequency.shape, 2)) / frequency[..., None] ** decay
    parts = (noise[0], noise[min(1, height - 1)]) if released else (noise[..., 0], noise[..., 1])
    return np.fft.irfft2(parts[0] + 1j * parts[1], (height, width))


def highest(grey: FloatArray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The mask [H, W] of the highest pixels: a share of all, rounded up or down by a coin."""
    count = (math.ceil if rng.random() > 0.5 else math.floor)(share * grey.size)
    mask = np.zeros(grey.size)
    mask[np.argsort(-grey, axis=None, kind="stable")[:count]] = 1
    return mask.reshape(grey.shape)
