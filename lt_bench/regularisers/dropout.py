"""Dropout: features left out at random (Srivastava et al., JMLR 2014)."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from pydantic import Field

from lt_bench.models.changes import Change, before
from lt_bench.models.network import Network
from lt_bench.registry import Info
from lt_bench.regularisers import Regulariser


class Dropout(Regulariser):
    """Sets each feature of each image to zero with a probability, before the classifier, and scales up the others.

    Every classifier of several draws by itself. Wide ResNets have, as a setting of the backbone, a dropout of their own
    inside of the blocks.
    """

    name = "dropout"
    info = Info("features before the classifier dropped at random", "Srivastava et al., JMLR 2014", 2014)

    class Config(Regulariser.Config):
        """How much is dropped."""

        rate: float = Field(default=0.5, gt=0, lt=1)
        """Probability of dropping a feature. The default is torch's."""

    config: Config

    def place(self, network: Network) -> None:
        for classifier in network.classifiers:
            before(classifier, Change(partial(F.dropout, p=self.config.rate)))
