"""What the methods that train several experts jointly have in common; each brings its loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lt_bench.data.types import ClassStats, Epoch, Step
from lt_bench.methods.standard import Standard
from lt_bench.mixing import Answer, Share, Term, each_class
from lt_bench.models.network import Network


class MultiExpert(Standard):
    """Sampler and mix as in the standard method, and a loss on the logits [E, B, C] of all experts.

    Prediction is what the network makes of the raw logits: behind the head `experts` their mean.
    """

    uses = frozenset({"sampler", "mix"})
    heads = frozenset({"experts"})

    def answer(self, step: Step, network: Network, images: Tensor) -> Answer:
        return Answer(network.all_logits(images).float())

    def terms_loss(self, step: Step, answer: Answer, terms: Sequence[Term]) -> Tensor:
        pairs = each_class(terms, answer.logits)
        return torch.stack([self.criterion(answer.logits, labels, share, step.epoch) for labels, share in pairs]).sum()

    @abstractmethod
    def criterion(self, logits: Tensor, labels: Tensor, share: Share, epoch: Epoch) -> Tensor:
        """The loss, a scalar, of logits [E, B, C] and one of the labels [B] of the mixed images, times its share."""


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropies [E, B] of every expert's logits [E, B, C] with the labels [B]."""
    losses = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
    return losses.view(logits.shape[:2])


def safe_log(prior: Tensor) -> Tensor:
    """log(prior + 1e-9), the form of the released code; float32 [C]."""
    return torch.log(prior.double() + 1e-9).float()


def reversed_prior(stats: ClassStats) -> Tensor:
    """The prior's values handed out in reverse order of rank: the largest class gets the smallest; float32 [C]."""
    values, order = stats.prior.sort(stable=True)
    return torch.empty_like(values).scatter(0, order, values.flip(0))
