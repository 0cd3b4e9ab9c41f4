"""Stochastic depth: residual branches left out at random (Huang et al., ECCV 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from pydantic import Field

from lt_bench.models.changes import Change
from lt_bench.models.network import Network
from lt_bench.models.residual import ResidualBranch, residual_branches
from lt_bench.registry import Info
from lt_bench.regularisers import Regulariser


class BranchRegulariser(Regulariser):
    """Acts on the residual branches of a network, the deeper the stronger: rate * l / L in the l-th of L blocks."""

    class Config(Regulariser.Config):
        """How often it acts."""

        rate: float = Field(default=0.5, gt=0, lt=1)
        """Its probability in the last block, to which it rises linearly."""

    config: Config

    def place(self, network: Network) -> None:
        for branch, depth in self.branches(network):
            branch.change(self.change(self.config.rate * depth))

    def change(self, rate: float) -> Change:
        """What is done to a branch at this probability."""
        raise NotImplementedError

    def branches(self, network: Network) -> Sequence[tuple[ResidualBranch, float]]:
        """The residual branches of a network with their depth in (0, 1]. Raises UserError where it has none to drop."""
        found = residual_branches(network)
        if not found:
            raise self.refused("needs a network of residual blocks, such as resnet32, and this one has none")
        if any(branch.dropped for branch, _ in found):
            raise self.refused("this network drops its branches by itself; set drop_path or drop_path_rate to 0")
        return found


class StochasticDepth(BranchRegulariser):
    """Leaves residual branches out at random, and scales up those that it leaves in, as torchvision does.

    In evaluation nothing is scaled, which is in expectation the same as the paper's scaling then.
    """

    name = "stochastic-depth"
    info = Info("residual branches left out at random, the deep ones more often", "Huang et al., ECCV 2016", 2016)

    class Config(BranchRegulariser.Config):
        """How often, and what shares a draw."""

        per: Literal["batch", "image"] = "batch"
        """Whether a block is left out for a whole batch or image by image, as in later networks."""

    config: Config

    def change(self, rate: float) -> Change:
        from torchvision.ops import stochastic_depth  # noqa: PLC0415 (as slow to import as torch itself)

        mode = {"batch": "batch", "image": "row"}[self.config.per]
        return Change(partial(stochastic_depth, p=rate, mode=mode))
