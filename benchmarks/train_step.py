"""Training speed: the suite against the field's usual loop, and every mix and method against cross entropy.

All contestants train in turn, a few steps each, round after round in one process, so that a change in the machine's
speed meets them all. Ratios are taken within a round; the table gives their median, minimum and maximum. Data loading
and augmentation are included everywhere.

    python benchmarks/train_step.py --data-root DATA [--device cuda] [--json] [RECIPE ...]

A recipe may have overrides, in quotes with it: 'pixmix mix.pictures=FOLDER'. Step times are those of the first one.
On a machine that is busy otherwise, OMP_NUM_THREADS=1 and --clock processor: the processor's time of one thread.

With --regularisers instead cross entropy alone and with each regulariser, at its defaults, that has a place in the
network, which is that of the setting or another --backbone.

    python benchmarks/train_step.py --data-root DATA --regularisers [--backbone shake-shake-26-2x32d]
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from floors import CLOCKS, Clock
from reference_loop import ReferenceLoop

from lt_bench.data.opening import open_split
from lt_bench.data.types import Batch, Epoch, IntArray
from lt_bench.errors import UserError
from lt_bench.recipe import Recipe, load_recipe
from lt_bench.registry import members
from lt_bench.training.loop import train_epoch
from lt_bench.training.network import check_network
from lt_bench.training.options import Options
from lt_bench.training.run import build_job, initial_state
from lt_bench.training.runtime import choose_runtime, environment

RECIPES = ("ce", "balanced-softmax", "ldam-drw", "mixup", "cutmix", "cmo", "class-distance-mix-ours", "dbn-mix")
EPOCH = 100
"""Late enough for every mix to be active; a second stage has fewer."""


class Ours:
    """A recipe in the suite's own loop, a given number of steps at a time, with a stopwatch on its parts."""

    def __init__(self, recipe: Recipe | str, options: Options, clock: Clock = time.perf_counter) -> None:
        self.clock = clock
        recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
        split = open_split(recipe.data, options.data_root)
        self.job = build_job(recipe, split, 0, options, epochs=recipe.protocol.epochs)
        self.state = initial_state(self.job)
        self.seconds: dict[str, float] = defaultdict(float)
        self._watch()

    def steps(self, count: int) -> float:
        """Train `count` full batches. Returns images per second."""
        self.size = count * self.job.protocol.batch_size
        start = self.clock()
        epochs = self.job.protocol.epochs
        train_epoch(self.job, self.state, Epoch(min(EPOCH, epochs - 1), epochs, 0), lambda _: None)
        seconds = self.clock() - start
        self.seconds["all"] += seconds
        return self.size / seconds

    def shares(self) -> dict[str, float]:
        """Share of the time in each part of a step; asynchronous devices show when they were waited for."""
        return {part: self.seconds[part] / self.seconds["all"] for part in ("data", "forward", "backward", "optimizer")}

    def _watch(self) -> None:
        method, train, optimizer = self.job.method, self.job.sets.train, self.state.optimizer
        streams, loss, stream = method.streams, method.loss, train.stream
        last = self.clock()

        def lap(part: str) -> None:
            nonlocal last
            now = self.clock()
            self.seconds[part] += now - last
            last = now

        def short_streams(epoch: Epoch) -> Mapping[str, IntArray]:
            return {name: order[: self.size] for name, order in streams(epoch).items()}

        def timed_stream(*arguments: Any) -> Iterator[Batch]:
            batches = stream(*arguments)
            while True:
                lap("other")
                batch = next(batches, None)
                lap("data")
                if batch is None:
                    return
                yield batch

        def timed_loss(*arguments: Any) -> torch.Tensor:
            lap("other")
            value = loss(*arguments)
            lap("forward")
            return value

        method.streams, method.loss, train.stream = short_streams, timed_loss, timed_stream  # type: ignore[method-assign, assignment]
        optimizer.register_step_pre_hook(lambda *_: lap("backward"))
        optimizer.register_step_post_hook(lambda *_: lap("optimizer"))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    options = Options(
        data_root=arguments.data_root,
        device=arguments.device,
        precision=arguments.precision,
        compile=arguments.compile,
    )
    runtime = choose_runtime(options.device, options.precision, options.compile)
    split = open_split(load_recipe(f"{arguments.setting}/ce").data, options.data_root)
    contestants: dict[str, Any] = {}
    if not arguments.no_reference:
        contestants["reference"] = best_reference(split, arguments.workers, runtime.device.type, arguments.steps)
    recipes = regularised(arguments.setting, arguments.backbone) if arguments.regularisers else plain(arguments)
    contestants |= {name: Ours(recipe, options, CLOCKS[arguments.clock]) for name, recipe in recipes.items()}
    for one in contestants.values():
        one.steps(3)
    for one in contestants.values():
        if isinstance(one, Ours):
            one.seconds.clear()
    rounds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(arguments.rounds):
        for name, one in contestants.items():
            rounds[name].append(one.steps(arguments.steps))
    return {
        "machine": environment(runtime) | {"runtime": runtime.description, "clock": arguments.clock},
        "images_per_s": rounds,
        "reference_workers": contestants["reference"].loader.num_workers if "reference" in contestants else None,
        "shares": {name: one.shares() for name, one in contestants.items() if isinstance(one, Ours)},
    }


def plain(arguments: argparse.Namespace) -> dict[str, Recipe]:
    """The recipes that were asked for, by what was asked: a name and perhaps overrides."""
    named = {text: shlex.split(text) for text in arguments.recipes}
    return {text: load_recipe(f"{arguments.setting}/{name}", overrides) for text, (name, *overrides) in named.items()}


def regularised(setting: str, backbone: str | None) -> dict[str, Recipe]:
    """Cross entropy alone and with each regulariser that has a place in the network."""
    found, network = {}, [f"model.backbone={backbone}"] if backbone else []
    for name in (None, *members("regularise")):
        recipe = load_recipe(f"{setting}/ce", [*network, *([f"regularise.{name}={{}}"] if name else [])])
        with suppress(UserError):  # of one without a place
            check_network(recipe)
            found[name or "ce"] = recipe
    return found


def best_reference(split: Any, workers: list[int], device: str, steps: int) -> ReferenceLoop:
    """The reference with the number of workers that is fastest here."""
    loops = [ReferenceLoop(split, count, device) for count in workers]
    for loop in loops:
        loop.steps(3)
    return max(loops, key=lambda loop: loop.steps(steps))


def ratio(first: list[float], second: list[float]) -> tuple[float, float, float]:
    """Median, minimum and maximum of first / second, round by round."""
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def table(found: dict[str, Any]) -> str:
    speed, shares = found["images_per_s"], found["shares"]
    machine, base = found["machine"], next(name for name in speed if name != "reference")
    lines = [f"{machine['runtime']}, torch {machine['torch']}, time of the {machine['clock']}", ""]
    lines += [
        f"| | images/s | against the reference | step time against {base} | data / forward / backward / optimizer |"
    ]
    lines += ["| :-- | --: | --: | --: | --: |"]
    for name, values in speed.items():
        against = _ratio_text(values, speed.get("reference"))
        relative = "" if name == "reference" else _ratio_text(speed[base], values)
        parts = " / ".join(f"{100 * share:.0f} %" for share in shares[name].values()) if name in shares else ""
        title = f"reference, {found['reference_workers']} workers" if name == "reference" else name
        lines.append(f"| {title} | {statistics.median(values):.0f} | {against} | {relative} | {parts} |")
    return "\n".join(lines)


def _ratio_text(first: list[float] | None, second: list[float] | None) -> str:
    if first is None or second is None:
        return ""
    median, low, high = ratio(first, second)
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=RECIPES, help="with overrides in quotes")
    parser.add_argument("--setting", default="cifar10-lt", help="what they are trained on")
    parser.add_argument("--regularisers", action="store_true", help="time these instead of recipes")
    parser.add_argument("--backbone", help="in which the regularisers act")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12, help="per contestant and round")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="of the reference; the best is taken")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", default="auto")
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if arguments.clock == "processor" and not arguments.no_reference:
        parser.error("--clock processor: with --no-reference, whose processes it does not see")
    found = measure(arguments)
    print(json.dumps(found, indent=1) if arguments.json else table(found))


if __name__ == "__main__":
    main()
