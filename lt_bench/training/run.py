"""One run from recipe to record: the way of the data, top to bottom."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from lt_bench import ranks
from lt_bench.data.opening import open_split
from lt_bench.data.sets import ImageSets, image_sets
from lt_bench.data.split import Split
from lt_bench.data.types import ClassStats, Epoch, ImageSet
from lt_bench.diagnostics import save_diagnostics
from lt_bench.errors import UserError
from lt_bench.files import TEMPORARY, in_words, sha256_of, write_atomically
from lt_bench.leaderboard.record import find_record, load_record, record_folder, slug, write_record
from lt_bench.methods import Method, Task
from lt_bench.mixing.teachers import Kind, Teacher, teach, training_maps
from lt_bench.models.norm import check_statistics
from lt_bench.protocol import Protocol
from lt_bench.ranks.gradients import as_first
from lt_bench.recipe import Recipe
from lt_bench.stages import DecoupledNetwork
from lt_bench.training.averaging import WeightAverage
from lt_bench.training.checkpoint import Owner, State, load_checkpoint, save_checkpoint
from lt_bench.training.loop import Job, fit
from lt_bench.training.network import build_recipe_network
from lt_bench.training.noise import measure_noise
from lt_bench.training.optimizers import build_optimizer
from lt_bench.training.options import BudgetSpent, Options, Outcome
from lt_bench.training.progress import Progress, on_screen
from lt_bench.training.recording import draft_record, last_top1, make_record, now
from lt_bench.training.runtime import choose_runtime
from lt_bench.training.second_stage import prepare_second_stage
from lt_bench.training.start import start_classifier
from lt_bench.training.tracking import Tracked, tracking
from lt_bench.training.weights import FILE, Trained, Weights, read_weights, save_weights

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
AGAIN = "records"
"""Folder, beside the weights, of the record of a first stage that is trained again although it has its record."""


def run(recipe: Recipe, seed: int, options: Options) -> Outcome:
    """Train a recipe with one seed and write its record, going on from a checkpoint where there is one.

    A run with a finished record is not repeated unless `options.force`. Raises UserError for what the user can
    mend, RunError for a run that failed, BudgetSpent when the deadline came first.
    """
    split = open_split(recipe.data, options.data_root)
    identity = recipe.identity(split.digest, seed)
    if (done := ranks.from_first(lambda: _finished(identity, options))) is not None:
        return done
    _check_budget(options)
    ranks.from_first(lambda: check_writable(options.records))
    first = recipe.first()
    of_first = replace(options, first_of=recipe.name, title="")
    start = None if first is None else _first_stage(first, split, seed, of_first)
    folder = _folder(recipe, split, seed, options)
    with _locked(folder, wait=options.wait) if ranks.is_first() else nullcontext():
        # Another process may have finished this run since.
        done = ranks.from_first(lambda: _finished(identity, options))
        return done or _complete(recipe, split, seed, options, folder, start)


def _complete(
    recipe: Recipe, split: Split, seed: int, options: Options, folder: Path, start: Weights | None = None
) -> Outcome:
    """Train to the end and write weights and record."""
    _check_budget(options)  # which a first stage, or waiting for another process, may have spent
    job = build_job(recipe, split, seed, options, epochs=recipe.training.epochs, start=start, begin=True)
    records = options.records / record_folder(draft_record(recipe, split, job, start))
    ranks.from_first(lambda: check_writable(records))
    state = train(recipe, split, job, folder, options)
    return ranks.from_first(lambda: _leave(recipe, split, job, state, options, folder, start))


def _leave(
    recipe: Recipe, split: Split, job: Job, state: State, options: Options, folder: Path, start: Weights | None
) -> Outcome:
    """Write weights and record of a finished training."""
    noise = None if split.given is None else measure_noise(job, split, split.given, folder)
    record = make_record(recipe, split, job, state, start, noise)
    environment, timing = record.environment, record.timing
    assert environment is not None and timing is not None, "it was trained here"
    trained = Trained(timing.wall_s, last_top1(record), environment.precision, environment.device)
    unkept = None
    try:
        save_weights(folder / FILE, job.evaluated, recipe, split, job.seed, trained)
        record = record.model_copy(update={"weights_sha256": sha256_of(folder / FILE)})
    except UserError as error:
        unkept = error
    path = write_record(record, state.last_predictions(split.test.labels), options.records)
    # From here on a repetition would start anew; until here it would have gone on from the last epoch.
    if unkept is None:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    else:
        print(f"{unkept}; the record is written, and the checkpoint beside keeps the weights", file=sys.stderr)
    return Outcome(path, last_top1(record), trained=True)


def _first_stage(recipe: Recipe, split: Split, seed: int, options: Options) -> Weights:
    """The weights that a second stage starts from: those of an ordinary run, which is made here if need be."""
    folder = _folder(recipe, split, seed, options)

    def left() -> tuple[list[Path], Outcome | None, bool]:
        # The name is not part of the identity: the same run may lie in another recipe's folder.
        found = sorted(folder.parent.parent.glob(f"*/{folder.name}/{FILE}"))
        kept = _finished(recipe.identity(split.digest, seed), replace(options, force=False))
        # Ended between its weights and its record, the run has a checkpoint still, and goes on to its record.
        return found, kept, kept is None and (folder / CHECKPOINT).exists()

    with _locked(folder, wait=True) if ranks.is_first() else nullcontext():
        found, kept, cut = ranks.from_first(left)
        if cut or not found:
            # A record alone is of no use, and a second one of the same run would be as good as the first.
            if kept is not None:
                print(f"{kept.record}: has no weights in {options.work}; its run is made again", file=sys.stderr)
            records = options.records if kept is None else folder / AGAIN
            _complete(recipe, split, seed, replace(options, records=records, force=False), folder)
        path = found[0] if found and not cut else folder / FILE
        return ranks.from_first(lambda: _stage_weights(path, recipe, split, seed))


def _stage_weights(path: Path, recipe: Recipe, split: Split, seed: int) -> Weights:
    """The weights of a first stage. Raises UserError for what is not that."""
    try:
        weights = read_weights(path)
    except UserError as error:
        raise UserError(f"{error}; without this file the first stage is trained anew") from None
    if not weights.are_of(recipe, split.digest, seed):
        raise UserError(f"{path}: the weights of another run; without this file the first stage is trained anew")
    return weights


def check_writable(folder: Path) -> None:
    """Raise UserError now, not after hours of training, if no record can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--records {folder}: cannot be written: {in_words(error)}") from None


def _check_budget(options: Options) -> None:
    if options.deadline is not None and time.monotonic() > options.deadline:
        raise BudgetSpent


def _folder(recipe: Recipe, split: Split, seed: int, options: Options) -> Path:
    """Where a run keeps what is not its record."""
    run_name = f"seed{seed}-{recipe.identity(split.digest, seed)[:12]}"
    return options.work.joinpath(*map(slug, (recipe.data.name, recipe.protocol.name, recipe.name, run_name)))


def _finished(identity: str, options: Options) -> Outcome | None:
    """What an earlier call left, unless it is not to count."""
    known = None if options.force else find_record(options.records, identity)
    return None if known is None else Outcome(known, last_top1(load_record(known)), trained=False)


def build_job(
    recipe: Recipe,
    split: Split,
    seed: int,
    options: Options,
    *,
    epochs: int,
    start: Weights | None = None,
    begin: bool = False,
) -> Job:
    """Everything that training needs, built from recipe, split and seed, for so many epochs (0: to evaluate).

    A second stage begins at the weights `start`. To `begin` is to let the classifier be what `model.start` says.
    """
    steps = epochs * -(-int(split.counts.sum()) // recipe.protocol.batch_size)
    runtime = choose_runtime(options.device, options.precision, options.compile, steps)
    sets = _sets(recipe, split, runtime.device, options.workers)
    num_classes = len(split.counts)
    network = build_recipe_network(recipe, num_classes, seed, start, trained=not epochs)
    stats = ClassStats.of(sets.train.labels, num_classes)
    normalisation = recipe.protocol.augmentation.normalisation(split.card)
    phases, batch_size = recipe.phase_choices(), recipe.protocol.batch_size
    task = Task(sets.train.labels, stats, phases, normalisation, batch_size)
    choice = recipe.method_choice()
    _check_ranks(choice.component, recipe.training)
    method: Method = choice.component(task, choice.config)
    network = runtime.prepare(network)
    begins = begin and start is None and recipe.model.start is not None
    preparation_s = start_classifier(recipe, split, network, runtime, options.workers) if begins else 0.0
    method.attach(network)  # which may copy the classifier
    if epochs:
        _teach(method, sets.train, split, options, runtime.device)
    check_statistics(network, method)
    backbone = recipe.backbone_choice()
    provenance = backbone.component(backbone.config).provenance() if begin else None
    method = method.to(runtime.device)
    return Job(method, network, recipe.training, sets, runtime, seed, num_classes, provenance, preparation_s)


def _sets(recipe: Recipe, split: Split, device: torch.device, workers: int) -> ImageSets:
    """The images of a run as its training and its evaluation see them. A second stage has one stream."""
    seen, epochs, varied = recipe.training.augmentation, recipe.training.epochs, not recipe.plain_images
    views = recipe.views if recipe.second_stage is None else {}
    return image_sets(split, seen, device, workers, recipe.augment, views=views, varied=varied, epochs=epochs)


def _check_ranks(method: type[Method], protocol: Protocol) -> None:
    """Raise UserError if so many processes as there are cannot share the batches of a training."""
    if ranks.count() == 1:
        return
    if not method.divisible:
        raise UserError(
            f"method {method.name}: looks at whole batches or has an optimizer of its own, and so cannot be trained by"
            f" {ranks.count()} processes; start it without torchrun"
        )
    rows = protocol.batch_size * protocol.batch_augmentation
    if rows < ranks.count():
        raise UserError(f"protocol.batch_size: a batch of {rows} cannot be shared by {ranks.count()} processes")


def _teach(method: Method, train: ImageSet, split: Split, options: Options, device: torch.device) -> None:
    """Give the mixes that have a teacher its maps of the training images."""

    def maps_of(teacher: Teacher, kind: Kind) -> Tensor:
        folder = options.work / "teachers"
        return training_maps(teacher, kind, train, split.digest, len(split.counts), folder, device)

    teach(method, maps_of)


def initial_state(job: Job) -> State:
    """The state of a training that has not begun."""
    state = State(job.network, job.method, build_optimizer(job), wall_s=job.preparation_s)
    if job.protocol.ema is not None:
        state.average = WeightAverage(job.network, job.protocol.ema.decay)
        state.optimizer.register_step_post_hook(state.average.update)
    return state


def train(recipe: Recipe, split: Split, job: Job, folder: Path, options: Options) -> State:
    """Train to the last epoch with a checkpoint after each, from the folder's checkpoint if it has one.

    What is evaluated, the weights or their average, is what the network ends with.
    """
    owner = _owner(recipe, split, job)
    state = _begun(recipe, split, job, owner, folder, options)
    counts = torch.from_numpy(job.sets.counts)
    epochs = max(1, job.protocol.epochs)
    images = len(job.sets.train.labels)
    steps = -(-images // recipe.protocol.images_per_step)
    part = _part(recipe, options)
    follow = (options.progress or on_screen) if ranks.is_first() else Progress
    identity = recipe.identity(split.digest, job.seed)
    told = Tracked(f"{owner.run}{part}", identity, recipe.resolved(), folder, len(state.curve))
    screen = follow(f"{options.title or owner.run}{part}", job.runtime.description, state, epochs, images, steps)
    with tracking(options.track if ranks.is_first() else None, told) as track, screen as progress:

        def finish_epoch() -> None:
            # Before the checkpoint: an epoch that it does not hold is trained again, and written again.
            found = job.method.diagnostics(Epoch(state.curve[-1]["epoch"], epochs, job.seed))
            if ranks.is_first():
                save_diagnostics(folder, len(state.curve), found, counts, recipe, job.seed)
                state.ended = now()
                save_checkpoint(folder / CHECKPOINT, state, owner)
                _log(folder, state.curve[-1])
            track(state.curve[-1])
            progress.epoch()
            if len(state.curve) < epochs:
                _check_budget(options)

        fit(job, state, on_step=progress.step, on_epoch=finish_epoch)
    if state.average is not None:
        state.average.exchange()
    return state


def _log(folder: Path, entry: dict[str, Any]) -> None:
    """A line more, so that it can be followed; one that is cut short is mended by the next call."""
    with _writing(folder), (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _begun(recipe: Recipe, split: Split, job: Job, owner: Owner, folder: Path, options: Options) -> State:
    """The state to go on from, of the folder's checkpoint or fresh, with recipe and log so far in the folder."""
    state, checkpoint = initial_state(job), folder / CHECKPOINT
    if ranks.from_first(lambda: checkpoint.exists() and not options.restart):
        identity = recipe.identity(split.digest, job.seed)
        # A process may have been killed between its record and its clean-up: then to go on would be to copy.
        recorded = ranks.from_first(
            lambda: _recorded(identity, options.records, folder / AGAIN) if options.force else set()
        )
        load_checkpoint(checkpoint, state, owner, job, recorded)
    if isinstance(job.network, DecoupledNetwork):
        prepare_second_stage(job, job.network, state)
    as_first(job.network, job.method)
    if ranks.is_first():
        with _writing(folder):
            write_atomically(folder / LOG, "".join(json.dumps(entry) + "\n" for entry in state.curve).encode())
            write_atomically(folder / "recipe.json", (json.dumps(recipe.resolved(), indent=1) + "\n").encode())
    return state


def _part(recipe: Recipe, options: Options) -> str:
    """Which part of a training in two stages this is, after the title."""
    if recipe.second_stage is not None:
        return f" stage 2 ({recipe.second_stage.stage['name']})"
    return f", first stage of {options.first_of}" if options.first_of else ""


def _owner(recipe: Recipe, split: Split, job: Job) -> Owner:
    runtime = job.runtime
    compiled = "on" if runtime.compiled else "off"
    setting = {"device": runtime.device.type, "precision": runtime.precision}
    if ranks.count() == 1:  # several processes compile nothing, which is not to keep one from going on
        setting["compile"] = compiled
    title = f"{recipe.data.name} {recipe.name} seed {job.seed}"
    return Owner(title, recipe.sha256(), split.digest, job.seed, setting)


def _recorded(identity: str, *folders: Path) -> set[str]:
    """When the trainings of a run ended that have a record below one of the folders."""
    latest = [found for folder in folders if (found := find_record(folder, identity)) is not None]
    records = [path for one in latest for path in one.parent.glob(f"seed*-{identity[:12]}*.json")]
    return {load_record(path).created for path in records}


@contextmanager
def _locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep a second process from training the same run into the same folder; it fails, or waits its turn."""
    lock = FileLock(folder / ".lock", timeout=-1 if wait else 0)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        for left in folder.rglob(TEMPORARY):  # by a process that was killed while it wrote
            left.unlink()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn a failure to write, or to be the only one who does, into one line."""
    try:
        yield
    except Timeout:
        raise UserError(f"{folder}: another process is training this run") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {in_words(error)}") from None
