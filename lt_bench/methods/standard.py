"""The standard method: one network, one sampler, one mix and one loss, each of which may change by phase."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from lt_bench.data.samplers import PURPOSE, Sampler
from lt_bench.data.types import Batch, Epoch, IntArray, Step
from lt_bench.losses import Loss, terms_loss
from lt_bench.methods import Method, Task
from lt_bench.mixing import Answer, Mix, Objective, Term
from lt_bench.models.network import Network
from lt_bench.registry import Choice, Info


class Standard(Method):
    """Composes sampler, mix and loss; the loss of a mixed image is the shares' sum of its labels' losses."""

    name = "standard"
    info = Info("sampler, mix and loss composed, changed by phase")
    uses = frozenset({"sampler", "mix", "loss"})

    def prepare(self, task: Task) -> None:
        self.labels = task.labels
        self.stats = task.stats
        self.normalisation = task.normalisation
        self.untils = [phase.until for phase in task.phases]
        self.samplers = [
            phase.sampler.component(task.labels, task.stats.num_classes, phase.sampler.config) for phase in task.phases
        ]
        # Phases that name the same component share one instance, so that its state lives on between them.
        self.built: list[Choice] = []
        self.parts = nn.ModuleList()
        self.mix_index = [self._build(phase.mix) for phase in task.phases]
        self.loss_index = [self._build(phase.loss) for phase in task.phases]

    def attach(self, network: Network) -> None:
        for part in self.parts:
            if isinstance(part, Mix):
                part.attach(network)

    def streams(self, epoch: Epoch) -> Mapping[str, IntArray]:
        sampler, mix, _ = self.phase(epoch)
        order = sampler.order(epoch, epoch.rng(PURPOSE))
        partner = mix.partner_order(order, self.labels, epoch)
        return {"main": order} if partner is None else {"main": order, "partner": partner}

    def loss(self, network: Network, batches: Mapping[str, Batch], step: Step) -> Tensor:
        _, mix, _ = self.phase(step.epoch)
        reading, criterion = partial(self.answer, step), partial(self.terms_loss, step)
        objective = Objective(network, reading, criterion, self.normalisation)
        return mix.loss(objective, batches["main"], batches.get("partner"), step)

    def answer(self, step: Step, network: Network, images: Tensor) -> Answer:
        """What the network says of images that the loss of this step asks for."""
        _, _, loss = self.phase(step.epoch)
        if loss.takes_features:
            features, logits = network.features_and_logits(images)
            return Answer(logits, features, loss.scores, loss.trained)
        return Answer(network(images), None, loss.scores, loss.trained)

    def terms_loss(self, step: Step, answer: Answer, terms: Sequence[Term]) -> Tensor:
        """The loss, a scalar, of an answer to images that are made of these terms."""
        _, _, loss = self.phase(step.epoch)
        features = () if answer.features is None else (answer.features,)
        return terms_loss(loss, answer.logits, terms, step, *features)

    def scores(self, network: Network, images: Tensor) -> Tensor:
        # All phases read their logits alike; the last is the one that trained the final network.
        loss = self.parts[self.loss_index[-1]]
        assert isinstance(loss, Loss)
        return loss.scores(network(images))

    def after_step(self, network: Network, step: Step) -> None:
        self.phase(step.epoch)[1].after_step(network, step)

    def evaluated(self, network: Network) -> Network:
        mix = self.parts[self.mix_index[-1]]
        assert isinstance(mix, Mix)
        return mix.evaluated(network)

    def end_epoch(
        self, epoch: Epoch, predict: Callable[[Tensor], Tensor], clean: Callable[[], Iterable[Batch]]
    ) -> None:
        self.phase(epoch)[1].end_epoch(predict, clean)

    def diagnostics(self, epoch: Epoch) -> Mapping[str, Tensor]:
        return self.phase(epoch)[1].diagnostics()

    def phase(self, epoch: Epoch) -> tuple[Sampler, Mix, Loss]:
        """The sampler, mix and loss that hold in an epoch."""
        index = next(i for i, until in enumerate(self.untils) if epoch.index < until)
        mix, loss = self.parts[self.mix_index[index]], self.parts[self.loss_index[index]]
        assert isinstance(mix, Mix)
        assert isinstance(loss, Loss)
        return self.samplers[index], mix, loss

    def _build(self, choice: Choice) -> int:
        if choice not in self.built:
            self.built.append(choice)
            self.parts.append(choice.component(self.stats, choice.config))
        return self.built.index(choice)
