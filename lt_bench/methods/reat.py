"""REAT without its TAIL term: an adversary that weighs classes by how often it saw them predicted.

Paper: Li et al., Alleviating the Effect of Data Imbalance on Adversarial Training, arXiv 2307.10205. The released code
of its second term, TAIL, does another thing than its formula says, and which was meant we could not read: left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from lt_bench.adversary.ascent import Objective
from lt_bench.data.types import Batch, Epoch, Step
from lt_bench.methods import Task
from lt_bench.methods.pgd_at import PGDAT
from lt_bench.mixing import Answer, Mixed
from lt_bench.models.network import Network
from lt_bench.ranks.division import summed
from lt_bench.registry import Info


class REAT(PGDAT):
    """Adversarial training whose adversary ascends a weighted cross entropy.

    The weights fall with the effective number of the predictions of a class on the epoch's perturbed images. Along the
    sign of the gradient and on running statistics an image's weight changes nothing but rounding: then this is
    `pgd-at`.
    """

    name = "reat"
    info = Info("an adversary that weighs classes by their predictions", "Li et al., 2023", 2023, cost="8x")

    predictions: Tensor
    weights: Tensor

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        counts = task.stats.counts
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("predictions", torch.zeros_like(counts))
        self.register_buffer("weights", prediction_weights(counts, counts))

    def objective(self, step: Step, network: Network, batch: Batch) -> Objective:
        plain, weights = super().objective(step, network, batch), self.weights[batch.labels]
        return lambda images: weights * plain(images)

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        batch = batches["main"]
        found = self.attacked(network, batch.images, self.objective(step, network, batch), step.rng)
        answer = self.answer(step, network, found)
        self.count(answer)
        return self.terms_loss(step, answer, Mixed.plain(batch).terms)

    @torch.no_grad()
    def count(self, answer: Answer) -> None:
        """Remember which classes were predicted."""
        predicted = answer.prediction.argmax(1)
        self.predictions.scatter_add_(0, predicted, torch.ones_like(predicted))

    def end_epoch(
        self, epoch: Epoch, predict: Callable[[Tensor], Tensor], clean: Callable[[], Iterable[Batch]]
    ) -> None:
        super().end_epoch(epoch, predict, clean)
        counts = self.get_buffer("counts")
        self.weights.copy_(prediction_weights(counts, summed(self.predictions)))
        self.predictions.zero_()


def prediction_weights(counts: Tensor, predictions: Tensor) -> Tensor:
    """Weights float32 [C], summing to C, that fall with E = (1 - b^a) / (1 - b), b = (n - 1) / n, of a predictions."""
    base = 1 - 1 / counts.double()
    effective = (1 - base**predictions) / (1 - base)
    inverse = 1 / (effective + 1e-5)
    return (len(counts) * inverse / inverse.sum()).float()
