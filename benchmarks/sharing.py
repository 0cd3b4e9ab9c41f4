"""Training speed when several runs share one GPU, or the cores: each run alone, and all together.

Every number of runs starts that many processes, which build the recipe, train a few steps to warm up (and to compile),
wait for one another and then train at the same time, round after round.

    python benchmarks/sharing.py --data-root DATA [--device cuda] [--compile on] [--runs 1 2 4 8] [RECIPE]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from train_step import Ours

from lt_bench.training.options import Options
from lt_bench.training.runtime import choose_runtime

T = TypeVar("T")
STEPS = 80
"""Per round: less than an epoch, so that every batch is full."""


def train(recipe: str, options: Options, steps: int, rounds: int, start: Any) -> list[float]:
    """What one of the processes does: images per second of each round, the first when all have warmed up."""
    one = Ours(recipe, options)
    one.steps(3)
    start.wait()
    return [one.steps(steps) for _ in range(rounds)]


def together(processes: int, work: Callable[..., T], *arguments: Any) -> list[T]:
    """What `work(*arguments, start)` returns in each of so many processes at once; `start` is a barrier of them all."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(processes, mp_context=context) as pool:
        start = manager.Barrier(processes)
        futures = [pool.submit(_or_abort, start, work, arguments) for _ in range(processes)]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        return [future.result() for future in done]


def _or_abort(start: Any, work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    try:
        return work(*arguments, start)
    except BaseException:
        start.abort()  # or the others would wait for this one
        raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="cifar100-lt/ce")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--steps", type=int, default=STEPS, help="per round")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", default="auto")
    arguments = parser.parse_args()
    options = Options(data_root=arguments.data_root, device=arguments.device, compile=arguments.compile)
    print(choose_runtime(options.device, options.precision, options.compile).description, end="\n\n")
    print("| runs at once | images/s each | images/s together | against one |\n| --: | --: | --: | --: |")
    alone = None
    for runs in arguments.runs:
        speeds = together(runs, train, arguments.recipe, options, arguments.steps, arguments.rounds)
        each = statistics.median(chain.from_iterable(speeds))
        alone = alone or each
        print(f"| {runs} | {each:.0f} | {runs * each:.0f} | {runs * each / alone:.2f} |", flush=True)


if __name__ == "__main__":
    main()
