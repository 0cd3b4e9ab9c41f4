"""The training loop: the only one, for every method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lt_bench import ranks
from lt_bench.data.sets import ImageSets
from lt_bench.data.types import Batch, Epoch, ImageSet, IntArray, Step
from lt_bench.errors import RunError
from lt_bench.evaluation.metrics import accuracy_by_class, group_accuracy, per_class_counts, top1
from lt_bench.evaluation.predictions import Predictions, predict
from lt_bench.leaderboard.record import Selection
from lt_bench.methods import Method
from lt_bench.models import Network
from lt_bench.models.backbones import Provenance
from lt_bench.models.norm import single_values
from lt_bench.protocol import Protocol
from lt_bench.ranks.division import Division, divisions, places, shared, summed, weighted
from lt_bench.ranks.gradients import as_first, sum_gradients
from lt_bench.training.checkpoint import History, State
from lt_bench.training.runtime import Runtime

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Job:
    """What to train on what; constant over the run."""

    method: Method
    network: Network
    protocol: Protocol
    sets: ImageSets
    runtime: Runtime
    seed: int
    num_classes: int
    provenance: Provenance | None = None
    """Which trained weights the backbone began at."""
    preparation_s: float = 0.0
    """Seconds that it took to let the classifier begin as `model.start` says."""

    def scores(self, images: Tensor) -> Tensor:
        """Logits float32 [B, C] for prediction."""
        with self.runtime.uncompiled(), self.runtime.autocast():
            return self.method.scores(self.evaluated, images).float()

    @property
    def evaluated(self) -> Network:
        """The network that predicts and is saved: the trained one, unless the method has another."""
        return self.method.evaluated(self.network)


def fit(job: Job, state: State, on_step: Callable[[int], None], on_epoch: Callable[[], None]) -> None:
    """Train from where `state` stands to the protocol's last epoch.

    `on_step` is called after every optimizer step with the number of steps in its epoch, `on_epoch` when `state` holds
    a finished epoch. Raises RunError when loss, weights or logits are no longer finite. Without epochs there is only
    an evaluation.
    """
    with _told("as the training begins"):
        check_finite(job)
    if not job.protocol.epochs and not state.curve:
        _evaluate_untrained(job, state)
        on_epoch()
    for index in range(len(state.curve), job.protocol.epochs):
        start = time.perf_counter()
        epoch = Epoch(index, job.protocol.epochs, job.seed)
        before = state.images
        train_loss = train_epoch(job, state, epoch, on_step)
        train_s = time.perf_counter() - start
        with _told(f"after epoch {index + 1} of {epoch.total}"):
            _end_epoch(job, state, epoch, train_loss)
        seconds = time.perf_counter() - start
        state.curve[-1] |= {"images_per_s": round((state.images - before) / train_s, 1), "seconds": round(seconds, 3)}
        state.train_s += train_s
        state.wall_s += seconds
        on_epoch()


def _end_epoch(job: Job, state: State, epoch: Epoch, train_loss: float) -> None:
    """All that follows the last step of an epoch."""
    check_finite(job)
    job.network.eval()
    job.method.eval()
    with torch.no_grad():
        job.method.end_epoch(epoch, job.scores, lambda: job.sets.train.clean(EVALUATION_BATCH))
        job.method.look(epoch, job.scores, partial(views_of, job.sets.train, epoch))
        as_first(job.method)
    state.curve.append({"epoch": epoch.index, "lr": job.protocol.lr(epoch.index), "train_loss": train_loss})
    if (epoch.index + 1) % job.protocol.evaluate_every == 0 or epoch.index + 1 == epoch.total:
        evaluate(job, state)


def views_of(images: ImageSet, epoch: Epoch, purpose: str) -> Iterator[Batch]:
    """All images of a set once, in order, augmented with draws of their own."""
    order = np.arange(len(images.labels))
    return images.stream(order, EVALUATION_BATCH, epoch.rng(f"views/{purpose}"), epoch.progress)


def _evaluate_untrained(job: Job, state: State) -> None:
    """An entry of the curve for what is not trained."""
    start = time.perf_counter()
    job.network.eval()
    job.method.eval()
    state.curve.append({"epoch": 0, "lr": 0.0, "train_loss": math.nan})
    with _told("without training"):
        evaluate(job, state)
    state.wall_s += time.perf_counter() - start


def check_finite(job: Job) -> None:
    """Raise RunError if not all weights are finite, running statistics included. Waits for the device, once."""
    tensors = {**job.network.state_dict(), **dict(job.method.named_parameters(prefix="method"))}
    numbers = {name: t for name, t in tensors.items() if isinstance(t, Tensor) and t.is_floating_point()}
    finite = torch.stack([tensor.isfinite().all() for tensor in numbers.values()]).tolist()
    broken = [name for name, whole in zip(numbers, finite, strict=True) if not whole]
    if broken:
        raise RunError(f"{len(broken)} of {len(numbers)} weights are not finite, the first is {broken[0]}")


@contextmanager
def _told(when: str) -> Iterator[None]:
    """Let a RunError say when it arose."""
    try:
        yield
    except RunError as error:
        raise RunError(f"{error}, {when}") from None


def train_epoch(job: Job, state: State, epoch: Epoch, on_step: Callable[[int], None]) -> float:
    """One pass over the method's streams. Returns the mean training loss."""
    _begin_epoch(job, epoch)
    size, accumulate, copies = job.protocol.batch_size, job.protocol.accumulate, job.protocol.batch_augmentation
    orders = _orders(job, epoch)
    images = len(next(iter(orders.values())))
    steps, divided = math.ceil(images / size), divisions(copies * images, copies * size)
    streams = _streams(job, epoch, orders, divided)
    shares = weighted(shares_of_batches(images, size, accumulate), divided).to(job.runtime.device)
    rng = epoch.rng("method")
    updates = math.ceil(steps / accumulate)
    losses = []
    for index, batches in enumerate(zip(*streams, strict=True)):
        if index % accumulate == 0:
            set_rate(state.optimizer, job.protocol.lr(epoch.index, index // accumulate, updates))
            state.optimizer.zero_grad(set_to_none=True)
        job.runtime.begin_step()
        step, length = Step(epoch, index, steps, rng), divided[index].total
        # An epoch may end in a batch of one image, of which a deep stage may make one pixel.
        single = single_values(job.network, job.method) if length == 1 else nullcontext()
        with (
            job.runtime.uncompiled(when=length < copies * size),
            job.runtime.autocast(),
            single,
            shared(divided[index]),
        ):
            loss = job.method.loss(job.network, dict(zip(orders, batches, strict=True)), step)
        if not isinstance(loss, Tensor):
            raise RunError(f"method {job.method.name}: loss should return a Tensor, found {type(loss).__name__}")
        loss.backward(shares[index].expand_as(loss))  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        if (index + 1) % accumulate == 0 or index + 1 == steps:
            sum_gradients(state.optimizer)
            state.optimizer.step()
            job.method.after_step(job.network, step)
            on_step(updates)
    state.images += images
    return mean_loss(summed(weighted(torch.stack(losses), divided)), epoch)


def _begin_epoch(job: Job, epoch: Epoch) -> None:
    """All that goes before its first batch."""
    job.network.train()
    job.method.train()
    for regulariser in job.network.regularisers:
        regulariser.begin(epoch)
    # Nothing here draws from torch's global generator, but a network may, and what regularises it does.
    torch.manual_seed(int(epoch.rng("torch").integers(2**63)) + ranks.rank())


def _streams(
    job: Job, epoch: Epoch, orders: Mapping[str, IntArray], divided: Sequence[Division]
) -> list[Iterator[Batch]]:
    """The batches of each stream; of several processes, this one's part of each.

    Raises RunError where a stream that has views of its own is none of the method's.
    """
    if strangers := job.sets.views.keys() - orders.keys():
        raise RunError(f"views.{min(strangers)}: {job.method.name} has the streams {', '.join(sorted(orders))}")
    copies, own = job.protocol.batch_augmentation, places(divided)
    size = copies * job.protocol.batch_size
    return [
        job.sets.of(name).stream(np.repeat(order, copies), size, epoch.rng(f"augment/{name}"), epoch.progress, own)
        for name, order in orders.items()
    ]


def _orders(job: Job, epoch: Epoch) -> dict[str, IntArray]:
    """What each of the method's streams visits."""
    images, times = len(job.sets.train.labels), job.protocol.repeated_augmentation
    return {name: repeated(checked(order, name, images), times) for name, order in job.method.streams(epoch).items()}


def checked(order: IntArray, stream: str, images: int) -> IntArray:
    """The order of a stream. Raises RunError where it is none of positions [N] among so many images."""
    fits = isinstance(order, np.ndarray) and order.ndim == 1 and order.dtype.kind in "iu" and len(order)
    if not fits or order.min() < 0 or order.max() >= images:
        found = f"{order.dtype} {list(order.shape)}" if isinstance(order, np.ndarray) else type(order).__name__
        span = f", from {order.min()} to {order.max()}" if fits else ""
        raise RunError(f"stream {stream}: expected integer positions [N] in 0..{images - 1}, found {found}{span}")
    return order


def repeated(order: IntArray, times: int) -> IntArray:
    """The first images of an order [N], each so many times in a row, as many as there were."""
    return np.repeat(order[: math.ceil(len(order) / times)], times)[: len(order)]


def shares_of_batches(images: int, size: int, accumulate: int) -> Tensor:
    """What each batch of an epoch counts for in its step of the optimizer, float32 [steps]: its part of the images."""
    starts = np.arange(0, images, size)
    sizes = np.diff(starts, append=images)
    step = np.arange(len(sizes)) // accumulate
    return torch.from_numpy(sizes / np.bincount(step, sizes)[step]).float()


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group of parameters its own factor on the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = group.get("lr_factor", 1.0) * lr


def mean_loss(losses: Tensor, epoch: Epoch) -> float:
    """The mean of an epoch's losses [steps]. Raises RunError that names the first step whose loss is not finite."""
    mean = float(losses.mean())  # the one synchronisation of an epoch's steps
    if math.isfinite(mean):
        return mean
    values = losses.tolist()
    for step, value in enumerate(values, 1):
        if not math.isfinite(value):
            where = f"in epoch {epoch.index + 1} of {epoch.total}, step {step} of {len(values)}"
            raise RunError(f"the training loss is {value} {where}")
    return math.fsum(values) / len(values)  # the sum alone is too large for float32


def evaluate(job: Job, state: State) -> None:
    """Evaluate on test, and on validation where there is one; let each rule keep what it selects.

    Raises RunError where a logit is not finite.
    """
    held_out = job.sets.validation
    with state.evaluated():
        test = predict(job.scores, job.sets.test, EVALUATION_BATCH)
        validation = None if held_out is None else predict(job.scores, held_out, EVALUATION_BATCH)
    select(state, test, validation, job.num_classes)
    accuracy = accuracy_by_class(*per_class_counts(test.labels, test.predicted, job.num_classes))
    groups = group_accuracy(accuracy, job.sets.counts)
    state.curve[-1] |= {f"test_{name}": value for name, value in groups.items() if value is not None}


def select(history: History, test: Predictions, validation: Predictions | None, num_classes: int) -> None:
    """Enter the predictions made after the curve's last epoch, and let each rule keep them if it selects them."""
    entry = history.curve[-1]
    selection = Selection.of(test, entry["epoch"], num_classes)
    entry["test_top1"] = top1(selection.correct, selection.total)
    if validation is not None:
        entry["val_top1"] = float((validation.predicted == validation.labels).mean())
    history.predictions = {
        "predicted": torch.from_numpy(test.predicted),
        "confidence": torch.from_numpy(test.confidence),
    }
    summary = selection.model_dump(mode="json")
    chosen = history.chosen_epochs()
    history.selections |= {rule: summary for rule, epoch in chosen.items() if epoch == entry["epoch"]}
