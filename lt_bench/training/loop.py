"""The training loop: the only one, for every method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lt_bench.data.sets import ImageSets
from lt_bench.data.types import Epoch, Step
from lt_bench.errors import RunError
from lt_bench.evaluation.metrics import top1
from lt_bench.evaluation.predictions import predict
from lt_bench.leaderboard.record import Selection
from lt_bench.methods import Method
from lt_bench.models import Network
from lt_bench.protocol import Protocol
from lt_bench.training.checkpoint import State
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

    def scores(self, images: Tensor) -> Tensor:
        """Logits float32 [B, C] for prediction."""
        with self.runtime.uncompiled(), self.runtime.autocast():
            return self.method.scores(self.network, images).float()


def fit(job: Job, state: State, on_step: Callable[[], None], on_epoch: Callable[[], None]) -> None:
    """Train from where `state` stands to the protocol's last epoch.

    `on_step` is called after every optimizer step, `on_epoch` when `state` holds a finished epoch.
    Raises RunError when the loss is no longer finite. Without epochs there is only an evaluation.
    """
    if not job.protocol.epochs and not state.curve:
        _evaluate_untrained(job, state)
        on_epoch()
    for index in range(len(state.curve), job.protocol.epochs):
        start = time.perf_counter()
        epoch = Epoch(index, job.protocol.epochs, job.seed)
        train_loss = train_epoch(job, state, epoch, on_step)
        if not math.isfinite(train_loss):
            raise RunError(f"the training loss is {train_loss} in epoch {index + 1} of {epoch.total}")
        state.train_s += time.perf_counter() - start

        job.network.eval()
        job.method.eval()
        with torch.no_grad():
            job.method.end_epoch(epoch, job.scores, lambda: job.sets.train.clean(EVALUATION_BATCH))
        state.curve.append({"epoch": index, "lr": job.protocol.lr(index), "train_loss": train_loss})
        if (index + 1) % job.protocol.evaluate_every == 0 or index + 1 == epoch.total:
            evaluate(job, state)
        state.wall_s += time.perf_counter() - start
        on_epoch()


def _evaluate_untrained(job: Job, state: State) -> None:
    """An entry of the curve for what is not trained."""
    start = time.perf_counter()
    job.network.eval()
    job.method.eval()
    state.curve.append({"epoch": 0, "lr": 0.0, "train_loss": math.nan})
    evaluate(job, state)
    state.wall_s += time.perf_counter() - start


def train_epoch(job: Job, state: State, epoch: Epoch, on_step: Callable[[], None]) -> float:
    """One pass over the method's streams. Returns the mean training loss."""
    job.network.train()
    job.method.train()
    # Nothing here draws from torch's global generator, but a user's network may, for example in dropout.
    torch.manual_seed(int(epoch.rng("torch").integers(2**63)))
    orders = job.method.streams(epoch)
    size = job.protocol.batch_size
    streams = [job.sets.train.stream(order, size, epoch.rng(f"augment/{name}")) for name, order in orders.items()]
    images = len(next(iter(orders.values())))
    steps = math.ceil(images / size)
    rng = epoch.rng("method")
    losses = []
    for index, batches in enumerate(zip(*streams, strict=True)):
        for group in state.optimizer.param_groups:
            group["lr"] = group.get("lr_factor", 1.0) * job.protocol.lr(epoch.index, index, steps)
        state.optimizer.zero_grad(set_to_none=True)
        job.runtime.begin_step()
        short = any(len(batch.labels) < size for batch in batches)
        with job.runtime.uncompiled(when=short), job.runtime.autocast():
            loss = job.method.loss(job.network, dict(zip(orders, batches, strict=True)), Step(epoch, index, steps, rng))
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        losses.append(loss.detach())
        on_step()
    state.images += images
    return float(torch.stack(losses).mean())  # the one synchronisation of an epoch


def evaluate(job: Job, state: State) -> None:
    """Evaluate on test, and on validation where there is one; let each rule keep what it selects."""
    entry = state.curve[-1]
    predictions = predict(job.scores, job.sets.test, EVALUATION_BATCH)
    selection = Selection.of(predictions, entry["epoch"], job.num_classes)
    entry["test_top1"] = top1(selection.correct, selection.total)
    summary = selection.model_dump(mode="json")
    state.selections["last"] = summary
    state.predictions = {
        "predicted": torch.from_numpy(predictions.predicted),
        "confidence": torch.from_numpy(predictions.confidence),
    }
    _keep_best(state, "test_top1", "best-on-test", summary)
    if job.sets.validation is not None:
        validation = predict(job.scores, job.sets.validation, EVALUATION_BATCH)
        entry["val_top1"] = float((validation.predicted == validation.labels).mean())
        _keep_best(state, "val_top1", "best-on-val", summary)


def _keep_best(state: State, figure: str, rule: str, summary: dict[str, Any]) -> None:
    """Let `rule` select the present epoch if its figure is above that of every epoch before."""
    earlier = [entry[figure] for entry in state.curve[:-1] if figure in entry]
    if not earlier or state.curve[-1][figure] > max(earlier):
        state.selections[rule] = summary
