"""Which images of a batch a network still gets right, whatever a trial does to them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lt_bench.adversary.ascent import perturb
from lt_bench.adversary.objectives import cross_entropy, margin
from lt_bench.data.augment import Normalisation
from lt_bench.data.types import Batch
from lt_bench.errors import UserError
from lt_bench.robustness.corruptions import corrupted
from lt_bench.robustness.trials import Trial

Scores = Callable[[Tensor], Tensor]
"""From normalised images [B, 3, H, W] to logits float32 [B, C], with a gradient."""
OBJECTIVES = {"cross-entropy": cross_entropy, "margin": margin}
BATCH = 250
"""Images that a library attacks at once, as AutoAttack's authors have it."""


@torch.no_grad()
def right(scores: Scores, batch: Batch) -> Tensor:
    """Whether each image is predicted right, bool [B]."""
    return scores(batch.images).argmax(1) == batch.labels


def withstood(
    trial: Trial, scores: Scores, batch: Batch, clean: Tensor, normalisation: Normalisation, rng: np.random.Generator
) -> Tensor:
    """Whether each image [B] is right under a trial; `clean` [B], whether it is without.

    An attack is let loose on images that are right without one, and the others count as lost: an image withstands what
    searches for the worst only if it is right as it is.
    """
    if trial.kind == "corruption":
        changed = _normalised(_corrupted(trial, _pixels(batch.images, normalisation), rng), normalisation)
        return right(scores, Batch(changed, batch.labels))
    found = clean.clone()
    if clean.any():
        left = Batch(batch.images[clean], batch.labels[clean])
        attack = _by_ascent if trial.kind == "attack" else _by_library
        found[clean] = attack(trial, scores, left, normalisation, rng)
    return found


def _by_ascent(
    trial: Trial, scores: Scores, batch: Batch, normalisation: Normalisation, rng: np.random.Generator
) -> Tensor:
    """Right at every place that the ascent comes by, so that more steps of it never find fewer; not looked at again
    once it was wrong.
    """
    assert trial.attack is not None
    objective, still = OBJECTIVES[trial.objective], torch.ones_like(batch.labels, dtype=torch.bool)

    def watched(images: Tensor) -> Tensor:
        left = still.nonzero()[:, 0]
        if not len(left):
            return 0 * images.sum((1, 2, 3))
        logits, labels = scores(images[left]), batch.labels[left]
        still[left] = logits.detach().argmax(1) == labels
        gained = objective(trial.scale * logits, labels)
        return gained.new_zeros(len(images)).index_put((left,), gained)

    last = perturb(watched, batch.images, normalisation, trial.attack, rng)
    left = still.nonzero()[:, 0]
    if len(left):
        still[left] = right(scores, Batch(last, batch.labels)[left])
    return still


def _by_library(
    trial: Trial, scores: Scores, batch: Batch, normalisation: Normalisation, rng: np.random.Generator
) -> Tensor:
    """By AutoAttack's parts, each on what the one before has left. Raises UserError where it is not installed."""
    seed, device = int(rng.integers(2**31)), batch.images.device
    # It seeds torch's global generator.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        library = auto_attack()(
            _OnPixels(scores, normalisation),
            norm={"linf": "Linf", "l2": "L2"}[trial.norm],
            eps=trial.radius / 255,
            seed=seed,
            device=device,
            version="standard",
        )
        library.attacks_to_run = list(trial.parts)
        others = scores(batch.images[:1]).shape[1] - 1
        for targeted in (library.apgd_targeted, library.fab):
            targeted.n_target_classes = min(targeted.n_target_classes, others)
        pixels = _pixels(batch.images, normalisation).clamp(0, 1)
        changed, _ = library.run_standard_evaluation(pixels, batch.labels, batch_size=BATCH)
    return right(scores, Batch(_normalised(changed, normalisation), batch.labels))


def auto_attack() -> type:
    """AutoAttack. Raises UserError where it is not installed."""
    try:
        from pyautoattack import AutoAttack  # noqa: PLC0415 (an extra)
    except ImportError:
        raise UserError("--with autoattack: needs the package pyautoattack: pip install 'lt-bench[robust]'") from None
    found: type = AutoAttack
    return found


class _OnPixels(nn.Module):
    """The network with its normalisation, from pixels in [0, 1] to logits."""

    def __init__(self, scores: Scores, normalisation: Normalisation) -> None:
        super().__init__()
        self.scores, self.normalisation = scores, normalisation

    def forward(self, pixels: Tensor) -> Tensor:
        return self.scores(_normalised(pixels, self.normalisation))


def _corrupted(trial: Trial, pixels: Tensor, rng: np.random.Generator) -> Tensor:
    return corrupted(pixels.clamp(0, 1), trial.name.rpartition("-")[0], trial.severity, rng)


def _pixels(images: Tensor, by: Normalisation) -> Tensor:
    mean, std = (torch.tensor(values, device=images.device).view(-1, 1, 1) for values in by)
    return images * std + mean


def _normalised(pixels: Tensor, by: Normalisation) -> Tensor:
    mean, std = (torch.tensor(values, device=pixels.device).view(-1, 1, 1) for values in by)
    return (pixels - mean) / std
