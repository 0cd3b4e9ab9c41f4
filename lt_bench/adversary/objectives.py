"""What an adversary wants large, one value [B] an image, of the logits [B, C] of changed images; in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of labels int64 [B]."""
    return F.cross_entropy(logits.float(), labels, reduction="none")


def divergence(logits: Tensor, target: Tensor) -> Tensor:
    """KL(target || softmax of the logits), for fixed probabilities [B, C]: with the gradient of cross entropy."""
    return F.kl_div(F.log_softmax(logits.float(), dim=1), target, reduction="none").sum(1)


def divergence_from(reference: Tensor, logits: Tensor) -> Tensor:
    """KL(softmax of the reference || softmax of the logits), with the gradient of both."""
    # In logarithms: a probability that is no more than 0 in float32 has NaN for a gradient.
    log_p, log_q = (F.log_softmax(side.float(), dim=1) for side in (reference, logits))
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the best wrong class is above the label's: positive where the prediction is wrong."""
    logits, own = logits.float(), labels.unsqueeze(1)
    others = logits.scatter(1, own, -torch.inf)
    return others.amax(1) - logits.gather(1, own).squeeze(1)
