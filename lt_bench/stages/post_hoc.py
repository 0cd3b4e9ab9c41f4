"""Post hoc: the trained classifier as it is, read by a loss that changes its logits at test time."""

from __future__ import annotations

from torch import Tensor, nn

from lt_bench.registry import Info
from lt_bench.stages import NoTraining, Stage, frozen


class PostHoc(Stage):
    """z as trained; its loss, which trains nothing here, reads it as z - tau log prior.

    Post-hoc logit adjustment of a network trained in any way; with tau = 1, after cross entropy, it is the PC softmax
    of Hong et al., CVPR 2021, for a balanced test set.
    """

    name = "post-hoc"
    info = Info("logits less tau log prior at test time, no training", "Menon et al., ICLR 2021", 2021, cost="none")
    keeps_classifier = True
    defaults = Stage.defaults | {"loss": {"name": "logit-adjustment", "post_hoc": True}}

    class Config(NoTraining):
        """No settings: nothing is trained, and tau is a setting of the loss."""

    def prepare(self, trained: nn.Linear) -> None:
        self.linear = frozen(trained)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)
        return logits
