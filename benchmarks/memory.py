"""Peak resident memory of a CIFAR-LT training, and where it comes from.

A fresh process imports, reads the data, builds, trains a few steps and evaluates; after each stage it says what is
resident. Pages of files (libraries, the cache of decoded images) can be dropped by the system; the rest is its own.

    python benchmarks/memory.py --data-root DATA [RECIPE]
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path


def resident(stage: str) -> None:
    """Print what is resident now, from Linux's /proc, in MB of 2^20 bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    figures = {key: int(value) // 1024 for key, value in re.findall(r"^(VmHWM|RssAnon|RssFile):\s+(\d+)", status, re.M)}
    own, files, peak = figures["RssAnon"], figures["RssFile"], figures["VmHWM"]
    print(f"| {stage} | {own + files} | {own} | {files} | {peak} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="cifar10-lt/ce")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", default="auto")
    arguments = parser.parse_args()

    print("| after | resident MB | own | of files | peak |\n| :-- | --: | --: | --: | --: |")
    resident("start of Python")
    import torch

    resident(f"import of torch {torch.__version__}")
    from train_step import Ours

    from lt_bench.training.loop import evaluate
    from lt_bench.training.options import Options

    resident("import of the suite")
    options = Options(
        data_root=arguments.data_root, device="cpu", precision=arguments.precision, compile=arguments.compile
    )
    ours = Ours(arguments.recipe, options)
    resident("data and network")
    ours.steps(20)
    resident("20 steps")
    ours.job.network.eval()
    ours.state.curve.append({"epoch": 0})
    evaluate(ours.job, ours.state)
    resident("evaluation")
    ours.steps(20)
    resident(f"20 steps more ({ours.job.runtime.description})")


if __name__ == "__main__":
    main()
