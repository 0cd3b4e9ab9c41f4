"""Training speed when several runs share one GPU, or the cores: each run alone, and all together.

Every number of runs starts that many processes, which build the recipe, train a few steps to warm up (and to compile),
wait for one another and then train at the same time, round after round.

    python benchmarks/sharing.py --data-root DATA [--device cuda] [--compile on] [--runs 1 2 4 8] [RECIPE]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from train_step import Ours

from lt_bench.training.run import Options
from lt_bench.training.runtime import choose_runtime

STEPS = 80
"""Per round: less than an epoch, so that every batch is full."""


def train(recipe: str, options: Options, steps: int, rounds: int, start: Any) -> list[float]:
    """What one of the processes does: images per second of each round, the first when all have warmed up."""
    try:
        one = Ours(recipe, options)
        one.steps(3)
    except BaseException:
        start.abort()  # or the others would wait for this one
        raise
    start.wait()
    return [one.steps(steps) for _ in range(rounds)]


def together(runs: int, recipe: str, options: Options, steps: int, rounds: int) -> list[float]:
    """Images per second of each run in each round, `runs` of them at once."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(runs, mp_context=context) as pool:
        arguments = (recipe, options, steps, rounds, manager.Barrier(runs))
        futures = [pool.submit(train, *arguments) for _ in range(runs)]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        return [speed for future in done for speed in future.result()]


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
        each = statistics.median(together(runs, arguments.recipe, options, arguments.steps, arguments.rounds))
        alone = alone or each
        print(f"| {runs} | {each:.0f} | {runs * each:.0f} | {runs * each / alone:.2f} |", flush=True)


if __name__ == "__main__":
    main()
