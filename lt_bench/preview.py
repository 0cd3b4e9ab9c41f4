"""What a sweep would do and cost, told without doing it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import torch

from lt_bench.durations import spoken
from lt_bench.errors import NoDataError, RunError, UserError
from lt_bench.estimates import Estimate, Estimator, Training, counted
from lt_bench.sweep.local import threads_of
from lt_bench.sweep.packed import reason
from lt_bench.sweep.plan import HERE
from lt_bench.training.tryout import Tried, try_out

if TYPE_CHECKING:
    from lt_bench.recipe import Recipe
    from lt_bench.sweep import Engine, Sweep


def dry_run(sweep: Sweep, engine: Engine = HERE) -> None:
    """Print the resolved recipes for machines and, on standard error, what their runs would take and how that is known.

    By records made on this machine, else by a few steps of the recipe; of runs made elsewhere it is told where.
    Raises UserError at the end where runs would be refused for more than data that is not here.
    """
    for recipe in sweep.recipes:
        print(json.dumps(recipe.resolved(), indent=1), flush=True)
    jobs = engine.jobs or 1
    torch.set_num_threads(threads_of(jobs))
    estimator = Estimator(sweep.options, torch.get_num_threads())
    runs = sweep.runs()
    done = estimator.done(runs)
    if engine.place:
        _say(f"{counted(len(runs))}, {len(done)} already done: {len(runs) - len(done)} to train {engine.place}")
        return
    needed = estimator.trainings(run for run in runs if run[0] not in done)
    known, refused = _estimates(sweep, estimator, needed)
    seconds = [known[sha256].seconds for sha256, _ in needed if sha256 in known]
    unknown = sorted({recipe.name for (sha256, _), recipe in needed.items() if sha256 not in known})
    parts = [f"about {spoken(sum(seconds) / jobs)}{f', {jobs} at once' * (jobs > 1)}"] if seconds or not unknown else []
    parts += [f"what nobody can tell of {', '.join(unknown)}"] if unknown else []
    _say(f"{counted(len(runs))}, {len(done)} already done: {' and '.join(parts)}")
    if refused:
        raise UserError(f"{len(refused)} of them would be refused as they are: {', '.join(refused)}")


def _estimates(
    sweep: Sweep, estimator: Estimator, needed: dict[Training, Recipe]
) -> tuple[dict[str, Estimate], list[str]]:
    """Of each recipe by its sha256, told as they are found, and the titles of those that would be refused."""
    found: dict[str, Estimate] = {}
    refused = []
    once = {sha256: (recipe, seed) for (sha256, seed), recipe in needed.items()}
    # Second stages first: to try one is to try what it starts from.
    for sha256, (recipe, seed) in sorted(once.items(), key=lambda item: item[1][0].first_stage is None):
        title = f"{recipe.data.name}/{recipe.name} {recipe.protocol.name}"
        try:
            one = estimator.of(recipe) or found.get(sha256) or _measured(recipe, seed, sweep, found)
        except (NoDataError, RunError) as error:
            _say(f"{title}: nobody can tell how long a run takes: {error}")
        except UserError as error:
            _say(f"{title}: would be refused: {error}")
            refused.append(title)
        else:
            found[sha256] = one
            _say(f"{title}: about {spoken(one.seconds)} a run, by {one.source}")
    return found, refused


def _measured(recipe: Recipe, seed: int, sweep: Sweep, found: dict[str, Estimate]) -> Estimate:
    """By a try-out, which for a second stage tells about the first as well."""
    for trial in try_out(recipe, seed, sweep.options):
        found.setdefault(trial.recipe.sha256(), Estimate(trial.seconds, "a few steps on this machine"))
    return found[recipe.sha256()]


def try_all(sweep: Sweep) -> None:
    """Take a few steps of every run and say whether it would train. Raises RunError at the end where one would not.

    Nothing is written: no record, no checkpoint, no weights. A UserError ends it at once.
    """
    runs = sweep.runs()
    failed = [title for title, recipe, seed in runs if not _try(title, recipe, seed, sweep)]
    if failed:
        raise RunError(f"{len(failed)} of {len(runs)} would not train: {', '.join(failed)}")


def _try(title: str, recipe: Recipe, seed: int, sweep: Sweep) -> bool:
    def tell(stage: Recipe, tried: Tried) -> None:
        first, last = tried.epochs.start + 1, tried.epochs.stop
        epochs = f"epochs {first} to {last}" if first < last else f"epoch {first}"
        loss = f"loss {tried.first_loss:.4f} to {tried.last_loss:.4f} in {tried.steps} steps"
        print(f"{title}, {stage.name} {epochs}: {loss}, {tried.images_per_s:.0f} images/s", flush=True)

    try:
        trials = try_out(recipe, seed, sweep.options, tell)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        print(f"{title}: would not train: {reason(error)}", flush=True)
        return False
    memory = max(trial.peak_memory_mb for trial in trials)
    seconds = " + ".join(spoken(trial.seconds) for trial in trials)
    print(f"{title}: would train, in about {seconds}, peak memory {memory:.0f} MiB", flush=True)
    return True


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
