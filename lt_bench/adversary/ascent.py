"""Projected gradient ascent on the pixels of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lt_bench.adversary import LEVELS, Attack
from lt_bench.data.augment import Normalisation
from lt_bench.mixing import sent
from lt_bench.ranks.division import for_images

ADAM_EPS = 1e-9
"""Against gradients of a sum over the batch, which the objective is."""
Objective = Callable[[Tensor], Tensor]
"""From normalised images [B, 3, H, W] to what the adversary wants large, one value an image [B]."""


def perturb(
    objective: Objective, images: Tensor, normalisation: Normalisation, attack: Attack, rng: np.random.Generator
) -> Tensor:
    """Images [B, 3, H, W], normalised like those given, in the ball around them where the ascent has ended.

    No gradient leads through them. With a radius of 0 they are those given, bit for bit.
    """
    ball = Ball.around(images, normalisation, attack)
    change = ball.projected(start(images, attack, rng)).requires_grad_()
    chosen = torch.optim.Adam([change], eps=ADAM_EPS) if attack.ascent == "adam" else torch.optim.SGD([change])
    for index in range(attack.steps):
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(objective(images + ball.normalised(change)).sum(), change)
        change.grad = -(gradient if attack.ascent == "adam" else steepest(gradient, attack))
        chosen.param_groups[0]["lr"] = attack.step_at(index)
        chosen.step()
        with torch.no_grad():
            change.copy_(ball.projected(change))
    return images + ball.normalised(change.detach())


@dataclass(frozen=True)
class Ball:
    """What may be added to the pixels of images: the ball, cut off where a pixel would leave [0, 1]."""

    lowest: Tensor
    highest: Tensor
    """By pixel, [B, 3, H, W]."""
    length: float | None
    """Of the whole change of an image; None under linf, where the bounds of each pixel say all."""
    std: Tensor

    @classmethod
    def around(cls, images: Tensor, normalisation: Normalisation, attack: Attack) -> Ball:
        """Around normalised images. A pixel that an augmentation left outside [0, 1] may only come nearer."""
        mean, std = (torch.tensor(values, device=images.device).view(-1, 1, 1) for values in normalisation)
        pixels, radius = images * std + mean, attack.radius / LEVELS
        reach = radius if attack.norm == "linf" else 1.0
        lowest, highest = (-pixels).clamp(-reach, 0), (1 - pixels).clamp(0, reach)
        return cls(lowest, highest, None if attack.norm == "linf" else radius, std)

    def projected(self, change: Tensor) -> Tensor:
        """The nearest change inside; under l2 first by its length, then pixel by pixel, which only shortens it."""
        if self.length is not None:
            change = change * (self.length / lengths(change)).clamp(max=1.0)
        return torch.minimum(torch.maximum(change, self.lowest), self.highest)

    def normalised(self, change: Tensor) -> Tensor:
        """A change of pixels as one of normalised images."""
        return change / self.std


def start(images: Tensor, attack: Attack, rng: np.random.Generator) -> Tensor:
    """Where the ascent begins, as a change of pixels [B, 3, H, W], before it is projected."""
    radius = attack.radius / LEVELS

    def draw(law: Callable[..., np.ndarray]) -> np.ndarray:
        return for_images(len(images), lambda size: law((size, *images.shape[1:]), np.float32))

    match attack.start:
        case "uniform":
            drawn = radius * (2 * draw(rng.random) - 1)
        case "normal":
            drawn = 0.001 * draw(rng.standard_normal)
        case "one-sided":
            drawn = radius * draw(rng.random)
        case "image":
            return torch.zeros_like(images)
    return sent(drawn, images.device)


def steepest(gradient: Tensor, attack: Attack) -> Tensor:
    """The change of length 1 that gains most to first order."""
    if attack.norm == "linf":
        return gradient.sign()
    return gradient / lengths(gradient)


def lengths(change: Tensor) -> Tensor:
    """Euclidean length of each image's change, [B, 1, 1, 1], above 0."""
    found: Tensor = change.flatten(1).norm(dim=1).clamp(min=1e-12)
    return found.view(-1, 1, 1, 1)
