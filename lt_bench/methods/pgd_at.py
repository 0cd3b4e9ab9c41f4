"""Adversarial training: a network trained on the worst images that projected gradient ascent finds around its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import field_validator
from torch import Tensor

from lt_bench.adversary import Attack
from lt_bench.adversary.ascent import Objective, perturb
from lt_bench.adversary.objectives import cross_entropy
from lt_bench.data.types import Batch, Step
from lt_bench.methods import Method, Task
from lt_bench.methods.standard import Standard
from lt_bench.mixing import Mixed
from lt_bench.models.modes import looking
from lt_bench.models.network import Network
from lt_bench.registry import Info


class PGDAT(Standard):
    """The loss of the recipe on x', which ascends the cross entropy of the network's own prediction from x.

    Whatever the loss, the adversary ascends plain cross entropy, of logits as that loss has them read at test time:
    class priors and margins in it would have it attack another prediction than the one that is made then.
    """

    name = "pgd-at"
    info = Info("the loss on images perturbed against the network", "Madry et al., ICLR 2018", 2018, cost="8x")
    uses = frozenset({"sampler", "loss"})
    adversarial = True

    class Config(Method.Config):
        """The adversary."""

        attack: Attack = Attack()
        """What is left out of one that is given is as in the method's own."""

        @field_validator("attack")
        @classmethod
        def _completed(cls, given: Attack) -> Attack:
            own: Attack = cls.model_fields["attack"].default
            return own.model_copy(update={name: getattr(given, name) for name in given.model_fields_set})

    config: Config

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.normalisation = task.normalisation

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        batch = batches["main"]
        found = self.attacked(network, batch.images, self.objective(step, network, batch), step.rng)
        return self.terms_loss(step, self.answer(step, network, found), Mixed.plain(batch).terms)

    def objective(self, step: Step, network: Network, batch: Batch) -> Objective:
        """What the adversary of a batch ascends."""
        return lambda images: cross_entropy(self.answer(step, network, images).prediction, batch.labels)

    def attacked(self, network: Network, images: Tensor, objective: Objective, rng: np.random.Generator) -> Tensor:
        """Images [B, 3, H, W] with what the adversary adds; the network stays as it was."""
        attack = self.config.attack
        with looking(network, attack.statistics):
            return perturb(objective, images, self.normalisation, attack, rng)
