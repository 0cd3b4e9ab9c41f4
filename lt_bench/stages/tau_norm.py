"""tau-normalisation: weights of all classes brought towards one length, without training."""

from __future__ import annotations

from pydantic import FiniteFloat
from torch import Tensor, nn
from torch.nn import functional as F

from lt_bench.registry import Info
from lt_bench.stages import NoTraining, Stage, row_norms


class TauNormalisation(Stage):
    """z_c = w_c h / |w_c|^tau, without bias.

    The released script prints the accuracy of 21 values of tau between 0 and 2; a value chosen on the test set
    is not a result. Choose it with `data.validation_per_class`, or take 1, where all weights have one length.
    """

    name = "tau-norm"
    scores_are_probabilities = False
    info = Info(
        "classifier weights divided by a power of their norms, no training", "Kang et al., ICLR 2020", 2020, cost="none"
    )

    class Config(NoTraining):
        """The power of the norms."""

        tau: FiniteFloat = 1.0
        """0 leaves the weights as they are."""

    config: Config
    weight: Tensor

    def prepare(self, trained: nn.Linear) -> None:
        weight = trained.weight.detach()
        self.register_buffer("weight", weight / row_norms(weight) ** self.config.tau)

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight)
