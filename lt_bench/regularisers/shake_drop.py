"""ShakeDrop: residual branches multiplied at random, by another number in the backward pass (Yamada et al. 2019)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lt_bench.models.changes import Change
from lt_bench.models.shaking import scaled, uniform
from lt_bench.registry import Info
from lt_bench.regularisers.stochastic_depth import BranchRegulariser


class ShakeDrop(BranchRegulariser):
    """Leaves a branch as it is or, for a batch at a time, multiplies it by a and its gradient by b, both per image.

    a is uniform in (-1, 1) and b in (0, 1). In evaluation the branch is multiplied by the probability of being left as
    it is, which is the expected factor in training.

    The paper has it in PyramidNet; branches that end in a normalisation, which bounds them, take it best. The gradient
    of a negated branch points the wrong way, and a network of few blocks may diverge, as ResNet-32 does at the default.
    """

    name = "shake-drop"
    info = Info("residual branches multiplied at random, their gradient too", "Yamada et al., IEEE Access 2019", 2019)
    in_evaluation = True

    def change(self, rate: float) -> Change:
        return Change(partial(shaken, rate=rate), partial(torch.mul, other=1 - rate))


def shaken(branch: Tensor, rate: float) -> Tensor:
    """A branch [B, ...] in training, `rate` being the probability with which a batch is not left as it is."""
    kept = uniform(branch, "batch") >= rate
    forward, backward = 2 * uniform(branch, "image") - 1, uniform(branch, "image")
    return scaled(branch, torch.where(kept, 1.0, forward), torch.where(kept, 1.0, backward))
