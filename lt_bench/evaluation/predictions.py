"""What a network says about every image of a set: the one thing all metrics are derived from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lt_bench.data.types import ImageSet, IntArray
from lt_bench.errors import RunError
from lt_bench.ranks.division import gathered, own_batches


@dataclass(frozen=True)
class Predictions:
    """One row per image, in the order of the set, on the host."""

    labels: IntArray
    """int64 [N]."""
    predicted: np.ndarray
    """int16 [N], the class of the largest logit."""
    confidence: np.ndarray
    """float32 [N], the largest softmax probability."""
    logits: np.ndarray | None = None
    """float32 [N, C], None where they were not kept."""

    def __post_init__(self) -> None:
        if not len(self.labels) == len(self.predicted) == len(self.confidence):
            raise ValueError(
                f"{len(self.labels)} labels, {len(self.predicted)} predictions, {len(self.confidence)} confidences"
            )


def scores_of(score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Logits float32 [B, C] of images [B, 3, H, W], or their mean over V views of each, [B, V, 3, H, W]."""
    if images.ndim < 5:
        return score(images).float()
    # View after view: the network needs no more memory than for one.
    return torch.stack([score(view).float() for view in images.unbind(1)]).mean(0)


def predict(
    score: Callable[[Tensor], Tensor],
    image_set: ImageSet,
    batch_size: int,
    *,
    keep_logits: bool = False,
    on_batch: Callable[[], None] | None = None,
) -> Predictions:
    """Predict all images of a set.

    Args:
        score: Maps images [B, 3, H, W] to logits [B, C]; the network is expected to be in evaluation mode.
        image_set: The labelled images, read once in order under the evaluation transform, where logits of several
            views are averaged.
        batch_size: Images per call of `score`.
        keep_logits: Whether the logits are to be had afterwards; they take 4 bytes an image and class.
        on_batch: Called after every batch.

    Raises:
        RunError: A logit is not finite, as when training has diverged.
    """
    predicted, confidence, finite, kept = [], [], [], []
    own = own_batches(len(image_set.labels), batch_size)
    with torch.inference_mode():
        for batch in image_set.clean(batch_size) if own is None else image_set.clean(batch_size, own):
            logits = scores_of(score, batch.images)
            predicted.append(logits.argmax(1).short())
            confidence.append(logits.softmax(1).amax(1))
            finite.append(logits.isfinite().all(1))
            if keep_logits:
                kept.append(logits)
            if on_batch is not None:
                on_batch()
        # The results stay on the device until here: a transfer per batch would wait for each batch.
        whole, *found = gathered([torch.cat(parts) for parts in (finite, predicted, confidence, kept) if parts])
    broken = int((~whole).sum())
    if broken:
        raise RunError(f"the logits of {broken} of {len(image_set.labels)} images are not finite")
    return Predictions(image_set.labels, *found)
