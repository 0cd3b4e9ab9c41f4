"""DisAlign: logits moved by a scale and an offset per class, as far as the image calls for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lt_bench.registry import Info
from lt_bench.stages import Stage, frozen


class DisAlign(Stage):
    """z' = (1 + s(h) a) z + s(h) b with z as trained, scale a [C], offset b [C] and s(h) = sigmoid(v h + v0).

    As in the released code, where a starts at 1, b at 0 and v at 0.1; the paper writes s (a z + b) + (1 - s) z,
    the same family from another start. Natural sampling; the loss is weighted by prior^-rho
    with rho = 1.2, as on ImageNet-LT, where the authors have batches of 256 and a weight decay of 5e-4.
    """

    name = "disalign"
    info = Info(
        "logits scaled and moved per class where an image calls for it", "Zhang et al., CVPR 2021", 2021, cost="0.3x"
    )
    defaults = Stage.defaults | {
        "loss": {"name": "cross-entropy", "weights": {"name": "inverse-frequency", "exponent": 1.2}}
    }

    def prepare(self, trained: nn.Linear) -> None:
        self.linear = frozen(trained)
        self.scale = nn.Parameter(torch.ones(trained.out_features))
        self.offset = nn.Parameter(torch.zeros(trained.out_features))
        self.confidence = nn.Linear(trained.in_features, 1)
        nn.init.constant_(self.confidence.weight, 0.1)
        nn.init.zeros_(self.confidence.bias)

    def forward(self, features: Tensor) -> Tensor:
        logits, needed = self.linear(features), torch.sigmoid(self.confidence(features))  # [B, C], [B, 1]
        aligned: Tensor = (1 + needed * self.scale) * logits + needed * self.offset
        return aligned
