"""Batch augmentation: every image several times in a batch, each time varied otherwise (Hoffer et al., CVPR 2020)."""

from __future__ import annotations

from pydantic import Field

from lt_bench.protocol import Protocol
from lt_bench.registry import Info
from lt_bench.regularisers import Regulariser


class BatchAugmentation(Regulariser):
    """Batches in which every image stands `times` times, so many times larger; the loss is the mean over all of it.

    A step costs as much more. A protocol's repeated augmentation keeps the size of the batch, and shows fewer images.
    """

    name = "batch-augmentation"
    info = Info("every image several times in a larger batch", "Hoffer et al., CVPR 2020", 2020, cost="2x")

    class Config(Regulariser.Config):
        """How often."""

        times: int = Field(default=2, ge=2, le=100)
        """How often each image comes in its batch; the paper has up to 40."""

    config: Config

    def trained_under(self, protocol: Protocol) -> Protocol:
        return protocol.model_copy(update={"batch_augmentation": self.config.times * protocol.batch_augmentation})
