"""A try-out: a few steps of everything that a run would do, on its data, with nothing left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lt_bench.data.opening import open_split
from lt_bench.data.sets import ImageSets, image_sets
from lt_bench.data.split import Split
from lt_bench.data.types import Batch, Epoch, ImageSet, IntArray
from lt_bench.evaluation.predictions import predict
from lt_bench.methods import Method
from lt_bench.protocol import Protocol
from lt_bench.recipe import Recipe
from lt_bench.stages import DecoupledNetwork
from lt_bench.training.checkpoint import State
from lt_bench.training.loop import EVALUATION_BATCH, Job, check_finite, mean_loss, train_epoch, views_of
from lt_bench.training.options import Options
from lt_bench.training.recording import draft_record
from lt_bench.training.run import build_job, initial_state
from lt_bench.training.runtime import peak_memory_mb
from lt_bench.training.second_stage import prepare_second_stage
from lt_bench.training.weights import Trained, Weights

WARM_UP, STEPS, SECONDS = 2, 6, 0.3
"""Steps before the clock starts; steps, and seconds from then on, after which it is enough."""
TEST_BATCHES = 2


@dataclass(frozen=True)
class Tried:
    """A few steps of the first of some epochs in which the same parts act."""

    epochs: range
    first_loss: float
    last_loss: float
    steps: int
    images: int
    """Of one of these epochs, all its steps."""
    images_per_s: float


@dataclass(frozen=True)
class Trial:
    """One training, which has to do with a second stage or not, that was tried."""

    recipe: Recipe
    seconds: float
    """What all of it would take, by estimate."""
    peak_memory_mb: float
    """Of the device, or of the whole process."""


Tell = Callable[[Recipe, Tried], None]


def try_out(recipe: Recipe, seed: int, options: Options, tell: Tell = lambda *_: None) -> tuple[Trial, ...]:
    """Try a recipe, its first stage before the second; `tell` hears of every part that went well.

    Epochs are counted as in the whole training, so that phases, windows and rates are those that it will have. Raises
    RunError where loss, weights or logits are not finite, UserError for what the user can mend.
    """
    split = open_split(recipe.data, options.data_root)
    first = recipe.first()
    if first is None:
        return (_try_stage(recipe, split, seed, options, tell)[0],)
    before, start = _try_stage(first, split, seed, options, tell)
    return before, _try_stage(recipe, split, seed, options, tell, start)[0]


def alike(recipe: Recipe) -> list[range]:
    """The epochs of a training, parted wherever another sampler, mix, loss or part of the method begins to act."""
    total = recipe.training.epochs
    edges, begin = {0, total}, 0
    for phase in recipe.phase_choices():
        here = range(begin, min(phase.until, total))
        for choice in (phase.sampler, phase.mix, phase.loss):
            edges |= choice.component.turns(choice.config, here, total)
        begin = phase.until
        edges.add(begin)
    method = recipe.method_choice()
    edges |= method.component.turns(method.config, range(total), total)
    return [range(*pair) for pair in pairwise(sorted(edge for edge in edges if edge <= total))]


def _try_stage(
    recipe: Recipe, split: Split, seed: int, options: Options, tell: Tell, start: Weights | None = None
) -> tuple[Trial, Weights]:
    """Try one training, from the weights `start` if it is a second stage; its weights are those that were left."""
    job = build_job(recipe, split, seed, options, epochs=recipe.training.epochs, start=start)
    if (choice := recipe.start_choice()) is not None:
        choice.component(choice.config).check(split.class_names)
    draft_record(recipe, split, job, start)
    job = replace(job, sets=_few_images(job, recipe, split, options))
    state = initial_state(job)
    began = time.perf_counter()
    if isinstance(job.network, DecoupledNetwork):
        prepare_second_stage(job, job.network, state)
    seconds = (time.perf_counter() - began) * _scale(split.train.labels, job.sets.train)
    for epochs in alike(recipe):
        tried = _few_steps(job, state, epochs)
        tell(recipe, tried)
        seconds += len(epochs) * (tried.images / tried.images_per_s + _end_s(job, epochs))
    seconds += _evaluation_s(job, split) * _evaluations(job.protocol)
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in job.evaluated.state_dict().items()}
    weights = Weights(recipe, seed, Trained(), tensors, Path("what was tried"), split.digest, split.class_names)
    return Trial(recipe, seconds, peak_memory_mb(job.runtime.device)), weights


# --- few images ----------------------------------------------------------------------------------------


@dataclass
class _Part:
    """The images to train on, of which only a few of every class are there to be looked at."""

    all: ImageSet
    few: ImageSet
    labels: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.labels = self.all.labels

    def stream(
        self,
        order: IntArray,
        batch_size: int,
        rng: np.random.Generator,
        progress: float = 0.0,
        places: Sequence[slice] | None = None,
    ) -> Iterator[Batch]:
        return self.all.stream(order, batch_size, rng, progress, places)

    def clean(self, batch_size: int, places: Sequence[slice] | None = None) -> Iterator[Batch]:
        return self.few.clean(batch_size, places)

    def whole(self, batch_size: int) -> Iterator[Tensor]:
        return self.few.whole(batch_size)


def _few_images(job: Job, recipe: Recipe, split: Split, options: Options) -> ImageSets:
    seen = _of_every_class(split.training.labels, EVALUATION_BATCH)
    tested = np.unique(np.linspace(0, len(split.test.labels) - 1, TEST_BATCHES * EVALUATION_BATCH).astype(np.int64))
    train, test = split.training.take(seen), split.test.take(tested)
    few = replace(split, train=train, test=test, validation=None, given=None)
    sets = image_sets(few, recipe.training.augmentation, job.runtime.device, options.workers)
    return ImageSets(_Part(job.sets.train, sets.train), None, sets.test, split.counts, job.sets.views)


def _of_every_class(labels: IntArray, most: int) -> IntArray:
    """Positions of about `most` images, but of one at least of every class."""
    each = max(1, most // (int(labels.max()) + 1))
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:each] for label in np.unique(labels)]))


def _scale(labels: IntArray, part: ImageSet) -> float:
    """How many times what was looked at there is to look at."""
    return len(labels) / len(part.few.labels if isinstance(part, _Part) else part.labels)


# --- few steps -----------------------------------------------------------------------------------------


class _Enough(Exception):  # noqa: N818 (not an error)
    """Ends an epoch after a few steps."""


class _Stopwatch:
    """Counts steps, and stops when there were enough of them."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self.device, self.warm_up = device, min(WARM_UP, steps - 1)
        self.done, self.start = 0, time.perf_counter()
        self.all = steps

    def step(self, steps: int) -> None:
        """One is done of so many."""
        self.done, self.all, self.warm_up = self.done + 1, steps, min(self.warm_up, steps - 1)
        if self.done == self.warm_up:
            self.start = self.now()
        elif self.done >= STEPS and time.perf_counter() - self.start > SECONDS:
            raise _Enough

    def now(self) -> float:
        """The time at which the device is done with what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _few_steps(job: Job, state: State, epochs: range) -> Tried:
    epoch, size = Epoch(epochs.start, job.protocol.epochs, job.seed), job.protocol.images_per_step
    images = len(job.sets.train.labels)
    usual = -(-images // size)
    watch = _Stopwatch(job.runtime.device, usual)
    with _losses(job.method) as losses:
        try:
            train_epoch(job, state, epoch, watch.step)
        except _Enough:
            mean_loss(torch.stack(losses), epoch)
    seconds = watch.now() - watch.start
    check_finite(job)
    images = round(images * watch.all / usual)
    measured = min(images, watch.done * size) - watch.warm_up * size
    return Tried(
        epochs=epochs,
        first_loss=float(losses[0]),
        last_loss=float(losses[-1]),
        steps=watch.done,
        images=images,
        images_per_s=measured / seconds,
    )


@contextmanager
def _losses(method: Method) -> Iterator[list[Tensor]]:
    """The loss of every step, on the device."""
    kept: list[Tensor] = []
    real = method.loss

    def loss(*arguments: object) -> Tensor:
        value = real(*arguments)  # type: ignore[arg-type]
        kept.append(value.detach())
        return value

    method.loss = loss  # type: ignore[assignment, method-assign]
    try:
        yield kept
    finally:
        del method.loss


def _end_s(job: Job, epochs: range) -> float:
    """Seconds of what the method does when an epoch is over, as it would on all images; done for the last of them."""
    epoch = Epoch(epochs[-1], job.protocol.epochs, job.seed)
    job.method.streams(epoch)  # which is how its parts learn what epoch it is
    job.network.eval()
    job.method.eval()
    start = time.perf_counter()
    with torch.no_grad():
        job.method.end_epoch(epoch, job.scores, lambda: job.sets.train.clean(EVALUATION_BATCH))
        seconds = (time.perf_counter() - start) * _scale(job.sets.train.labels, job.sets.train)
        return seconds + _look_s(job, epoch)


def _look_s(job: Job, epoch: Epoch) -> float:
    """Seconds of what the method makes of single images, of which one batch alone is predicted; then undone."""
    if type(job.method).look is Method.look:
        return 0.0
    batches: list[tuple[int, float]] = []

    def predict_once(images: Tensor) -> Tensor:
        start = time.perf_counter()
        logits = torch.zeros(len(images), job.num_classes, device=images.device) if batches else job.scores(images)
        batches.append((len(images), time.perf_counter() - start))
        return logits

    before, start = deepcopy(job.method.state_dict()), time.perf_counter()
    job.method.look(epoch, predict_once, partial(views_of, job.sets.train, epoch))
    seconds = time.perf_counter() - start
    job.method.load_state_dict(before)
    left = sum(size for size, _ in batches[1:])
    return seconds + (left * batches[0][1] / batches[0][0] if batches else 0.0)


def _evaluation_s(job: Job, split: Split) -> float:
    """Seconds of an evaluation on all images that there are for it."""
    job.network.eval()
    job.method.eval()
    start = time.perf_counter()
    predict(job.scores, job.sets.test, EVALUATION_BATCH)
    seconds = time.perf_counter() - start
    images = len(split.test.labels) + (0 if split.validation is None else len(split.validation.labels))
    return seconds * images / len(job.sets.test.labels)


def _evaluations(protocol: Protocol) -> int:
    return max(1, -(-protocol.epochs // protocol.evaluate_every))
