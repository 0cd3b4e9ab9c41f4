"""JoCoR: two networks that agree, trained on the images of which both say the same as the label."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import Batch, Epoch
from lt_bench.errors import UserError
from lt_bench.methods import Method, Suspects
from lt_bench.methods.experts import MultiExpert, cross_entropies
from lt_bench.mixing import Share
from lt_bench.models.heads.experts import Ensemble
from lt_bench.models.network import Network
from lt_bench.registry import Info


class JoCoR(MultiExpert):
    """Joint losses l = (1 - c) (CE_1 + CE_2) + c (KL(p_1 || p_2) + KL(p_2 || p_1)), of which a step takes the smallest.

    The share that is left out rises to `forget_rate`. Gradients reach both networks through both divergences. Both
    predict, by the mean of their logits (the paper has an accuracy for each).

    Paper: Wei, Feng, Chen, An, Combating Noisy Labels by Agreement: A Joint Training Method with Co-Regularization,
    CVPR 2020, arXiv 2003.02752.
    """

    name = "jocor"
    info = Info(
        "two networks that agree, on the images of the smallest losses", "Wei et al., CVPR 2020", 2020, cost="2x"
    )
    uses = frozenset({"sampler"})
    heads = frozenset({"ensemble"})

    class Config(Method.Config):
        """What is left out, and how much agreement counts."""

        forget_rate: float = Field(default=0.4, ge=0, lt=1)
        """Share of a batch that is left out: the rate of wrong labels, half of it where noise is asymmetric."""
        gradual: int = Field(default=10, ge=1)
        """Epochs over which that share rises, in a shorter training too: a network learns what is right before."""
        agreement: float = Field(default=0.9, ge=0, le=1)
        """c: 0.9 on CIFAR-10, 0.85 on CIFAR-100 and 0.65 under symmetric noise of 0.8; the code's default is 0.1."""

    config: Config

    @classmethod
    def check(cls, config: Config, head: Ensemble.Config, num_classes: int) -> None:
        if head.num_networks < 2:
            raise UserError(f"model.head.num_networks: {cls.name} needs two, found {head.num_networks}")

    def criterion(self, logits: Tensor, labels: Tensor, share: Share, epoch: Epoch) -> Tensor:
        losses = joint_losses(logits, labels, self.config.agreement)
        kept = max(1, int((1 - self.forgotten(epoch)) * len(labels)))
        return (share * losses).topk(kept, largest=False).values.mean()

    def forgotten(self, epoch: Epoch) -> float:
        """The share of a batch that is left out in an epoch."""
        rising = min(self.config.gradual, epoch.total)
        if rising == 1 or epoch.index >= rising:
            return self.config.forget_rate
        return float(np.linspace(0, self.config.forget_rate, rising)[epoch.index])

    def suspects(self, network: Network, clean: Callable[[], Iterable[Batch]]) -> Suspects:
        """The labels of the largest joint losses over all training images as they are, in the share of the last epoch.

        (A step chooses inside of its batch, of augmented images.)
        """
        found = [
            joint_losses(network.all_logits(batch.images).float(), batch.labels, self.config.agreement)
            for batch in clean()
        ]
        losses = torch.cat(found)
        kept = int((1 - self.config.forget_rate) * len(losses))
        flagged = torch.ones(len(losses), dtype=torch.bool, device=losses.device)
        flagged[losses.argsort(stable=True)[:kept]] = False
        return Suspects(flagged, losses)


def joint_losses(logits: Tensor, labels: Tensor, agreement: float) -> Tensor:
    """Joint losses [B] of the logits [E, B, C] of networks, over all pairs of them where they are more than two."""
    log_p = logits.log_softmax(2)
    apart = [
        F.kl_div(log_p[j], log_p[i], reduction="none", log_target=True).sum(1)
        for i in range(len(logits))
        for j in range(len(logits))
        if i != j
    ]
    return (1 - agreement) * cross_entropies(logits, labels).sum(0) + agreement * torch.stack(apart).sum(0)
