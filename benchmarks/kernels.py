"""What a training step on a GPU is made of: its kernels, their time, and the time of the step.

Plain and compiled, each also with cuDNN's choice of convolutions by trial, which the suite leaves off: it would give
every run other rounding. Where the kernels take less than the step, the GPU waits for the processor that launches them.

    python benchmarks/kernels.py --data-root DATA [RECIPE]
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Literal

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile
from train_step import Ours

from lt_bench.errors import UserError
from lt_bench.training.options import Options
from lt_bench.training.runtime import choose_runtime

STEPS = 80
PROFILED = 20


def table(recipe: str, data_root: Path | None) -> list[str]:
    """Rows of a Markdown table, then the kernels that take longest in the last of them."""
    lines = ["| | first steps s | ms a step | kernels ms a step | kernels a step |", "| :-- | --: | --: | --: | --: |"]
    switches: tuple[Literal["off", "on"], ...] = ("off", "on")
    for compile, trial in product(switches, (False, True)):
        torch.backends.cudnn.benchmark = trial
        one = Ours(recipe, Options(data_root=data_root, device="cuda", compile=compile))
        batch = one.job.protocol.batch_size
        first = 3 * batch / one.steps(3)
        step = 1000 * batch / one.steps(STEPS)
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            one.steps(PROFILED)
        kernels = [
            (k.self_device_time_total / PROFILED / 1000, k.count / PROFILED, k.key)
            for k in profiled.key_averages()
            if k.device_type == DeviceType.CUDA
        ]
        busy, count = sum(ms for ms, _, _ in kernels), sum(count for _, count, _ in kernels)
        title = (one.job.runtime.compiled or "plain") + (", cuDNN by trial" if trial else "")
        lines.append(f"| {title} | {first:.1f} | {step:.2f} | {busy:.2f} | {count:.0f} |")
    longest = sorted(kernels, reverse=True)[:8]
    return [*lines, "", *(f"{ms:.3f} ms a step in {count:.0f}: {name}" for ms, count, name in longest)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="cifar100-lt/ce")
    parser.add_argument("--data-root", type=Path)
    arguments = parser.parse_args()
    try:
        print(choose_runtime("cuda", compile="off").device_name, f"torch {torch.__version__}", sep=", ", end="\n\n")
    except UserError as error:
        raise SystemExit(f"kernels.py: {error}") from None
    print("\n".join(table(arguments.recipe, arguments.data_root)))


if __name__ == "__main__":
    main()
