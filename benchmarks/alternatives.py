"""Ways to run the training step of ResNet-32 on a CPU: precision, memory layout, and what is compiled.

One step is forward, cross entropy, backward and SGD on 128 images that are already there. The rows run in turn, round
after round. torch.compile takes about half a minute a row before the first step.

    python benchmarks/alternatives.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F

from lt_bench.models import build_network
from lt_bench.models.backbones.cifar_resnet import ResNet32
from lt_bench.models.heads.linear import Linear
from lt_bench.models.norm import fuse
from lt_bench.training.runtime import choose_runtime

BATCH = 128
LAYOUTS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
WAYS = ("plain", "torch.compile", "kernels")


def step_of(precision: str, layout: str, way: str) -> Callable[[], float]:
    """A function that makes a training step and returns its seconds."""
    images, labels = torch.randn(BATCH, 3, 32, 32).to(memory_format=LAYOUTS[layout]), torch.arange(BATCH) % 10
    network = build_network(ResNet32, Linear(), 10, 0).to(memory_format=LAYOUTS[layout])
    if way == "kernels":
        fuse(network)
    if way == "torch.compile":
        network.compile(dynamic=False)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4, fused=True)

    def step() -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = network(images)
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - start

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    print(f"{choose_runtime('cpu', compile='off').description}, torch {torch.__version__}\n")
    # The kernels work in channels last only.
    ways = [way for way in product(("float32", "bf16"), LAYOUTS, WAYS) if way[1:] != ("contiguous", "kernels")]
    steps = {way: step_of(*way) for way in ways}
    for step in steps.values():
        step()
        step()
    seconds: dict[tuple[str, str, str], list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, step in steps.items():
            seconds[way].append(step())
    print("| precision | layout | compiled | ms a step | images/s |\n| :-- | :-- | :-- | --: | --: |")
    for way, times in seconds.items():
        median = statistics.median(times)
        print(f"| {' | '.join(way)} | {1e3 * median:.0f} | {BATCH / median:.0f} |")


if __name__ == "__main__":
    main()
