"""DropBlock: square blocks of feature maps left out at random (Ghiasi et al., NeurIPS 2018)."""

from __future__ import annotations

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from lt_bench.data.types import Epoch
from lt_bench.models.changes import Change, behind
from lt_bench.models.network import Network
from lt_bench.registry import Info
from lt_bench.regularisers import Regulariser
from lt_bench.validation import in_words


class DropBlock(Regulariser):
    """Sets squares of the maps behind the last stages to zero, in every channel others, and scales up what is left.

    This is torchvision's: a mask for each channel, where timm shares one among all, and a law that knows that no square
    leaves the map. On a smaller map the square is as large as an odd one can be.
    """

    name = "drop-block"
    info = Info("squares of the last maps dropped at random", "Ghiasi et al., NeurIPS 2018", 2018)

    class Config(Regulariser.Config):
        """How much is dropped, when, and where."""

        rate: float = Field(default=0.1, gt=0, lt=1)
        """Share of a map that is dropped, about; with `ramp` in the last epoch."""
        side: int = Field(default=7, ge=1)
        """Of a square, in pixels of the map; odd."""
        ramp: bool = True
        """Whether the rate rises linearly from epoch to epoch; else it is there from the first."""
        stages: int = Field(default=2, ge=1)
        """Behind how many of the last stages it acts: 2 is this project's choice."""

        @field_validator("side")
        @classmethod
        def _odd(cls, side: int) -> int:
            if side % 2 == 0:
                raise in_words(f"should be odd, found {side}")
            return side

    config: Config
    rate: float

    def place(self, network: Network) -> None:
        self.rate = self.config.rate
        # Or it would be compiled anew for every rate.
        act = torch.compiler.disable(self.dropped)  # type: ignore[no-untyped-call]
        for stage in self.stages(network, self.config.stages):
            if not any(isinstance(part, nn.Conv2d) for part in stage.modules()):
                raise self.refused("needs stages that give maps, and those of this network give tokens")
            behind(stage, Change(act))

    def begin(self, epoch: Epoch) -> None:
        share = (epoch.index + 1) / epoch.total if self.config.ramp else 1.0
        self.rate = share * self.config.rate

    def dropped(self, maps: Tensor) -> Tensor:
        """Maps [B, C, H, W] in training."""
        from torchvision.ops import drop_block2d  # noqa: PLC0415 (as slow to import as torch itself)

        shorter = min(maps.shape[-2:])
        dropped: Tensor = drop_block2d(maps, self.rate, min(self.config.side, shorter - 1 + shorter % 2))
        return dropped
