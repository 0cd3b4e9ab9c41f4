"""What mixes that say their loss themselves are given: a small network, and how its answers are read."""

from __future__ import annotations

from typing import Any

from method_cases import batch_of
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch
from lt_bench.mixing import Answer, Objective
from lt_bench.models import Network, build_network
from lt_bench.registry import lookup

COUNTS = [100, 10, 1]


def small(head: str = "linear") -> Network:
    return build_network("resnet8", head, num_classes=3)


def reading(network: Network, images: Tensor) -> Answer:
    return Answer(network(images))


def criterion(answer: Answer, terms: Any) -> Tensor:
    return lookup("loss", "cross-entropy")(COUNTS).of_terms(answer.logits.float(), terms)  # type: ignore[no-any-return]


def objective(network: Any) -> Objective:
    return Objective(network, reading, criterion)


def images_of(size: int = 6) -> Batch:
    batch = batch_of(size=size)
    return Batch(F.interpolate(batch.images, 32), batch.labels)
