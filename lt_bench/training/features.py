"""Features of images by a network that is trained, or was before."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from lt_bench.data.types import Batch
from lt_bench.training.runtime import Runtime


@torch.no_grad()
def features_of(
    features: Callable[[Tensor], Tensor], batches: Iterable[Batch], runtime: Runtime
) -> tuple[Tensor, Tensor]:
    """What `features` makes of all images, float32 [N, D], and their labels [N]."""
    found, labels = [], []
    for batch in batches:
        with runtime.autocast():
            found.append(features(batch.images).float())
        labels.append(batch.labels)
    return torch.cat(found), torch.cat(labels)
