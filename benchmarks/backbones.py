"""Every backbone: images/s of a training step beside its arithmetic, and how far that is from the machine's limit.

A step is forward, cross entropy, backward and SGD on images that are already there, in the precision that the suite
would choose. Its arithmetic is three times that of the forward pass, which torch counts, taps outside of the image
included; the limit of a CPU is that of floors.py.

    python benchmarks/backbones.py [--only resnet32 vit-tiny timm/resnet18] [--side 64] [--batch 32]

With --augmentations instead images/s of the input pipeline, crop and flip alone and with each augmentation at its
defaults, over an epoch of a recipe's training images; they take turns, round after round.

    python benchmarks/backbones.py --augmentations --data-root DATA

On a machine that is busy otherwise, OMP_NUM_THREADS=1 and --clock processor: the processor's time of one thread.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from floors import CLOCKS, Clock, limit
from torch.utils.flop_counter import FlopCounterMode
from train_step import ratio

from lt_bench.data.opening import open_split
from lt_bench.data.sets import image_sets
from lt_bench.errors import UserError
from lt_bench.models import Backbone, Network, build_network
from lt_bench.native import NoCompilerError
from lt_bench.recipe import load_recipe
from lt_bench.registry import lookup, members, named
from lt_bench.training.runtime import Runtime, choose_runtime

BATCH = 128
SMALL = 32
LARGE = 224
OF_LARGE_IMAGES = ("imagenet_resnet", "nexception", "timm")
"""The families that are made for images of 224 pixels; they get an eighth of the batch."""
CLASSES = 100


def backbone_of(name: str, side: int | None) -> tuple[Backbone, int]:
    """A backbone for images of `side` pixels, None for those that it is made for, and these pixels.

    Raises UserError for an unknown name and for images that it cannot take.
    """
    settings = named(name)
    family = lookup("backbone", settings.pop("name"))
    if side is None:
        side = LARGE if family.__module__.rpartition(".")[2] in OF_LARGE_IMAGES else SMALL
    made: Backbone = family(family.fitted(family(**settings).config, side))
    made.check_images(side)
    return made, side


def forward_gflop(network: Network, side: int) -> float:
    """Arithmetic of one image's forward pass; a multiplication and an addition are two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, 3, side, side))
    return 1e-9 * int(counter.get_total_flops())


def step_seconds(network: Network, side: int, batch: int, runtime: Runtime, steps: int, clock: Clock) -> float:
    """Median time of a training step, after two that warm up."""
    network = runtime.prepare(network.train())
    images = torch.randn(batch, 3, side, side, device=runtime.device).to(memory_format=runtime.memory_format)
    labels = torch.arange(batch, device=runtime.device) % CLASSES
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4, fused=True)
    times = []
    for _ in range(2 + steps):
        start = clock()
        with runtime.autocast():
            logits = network(images)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for a GPU
        times.append(clock() - start)
    return statistics.median(times[2:])


def row(name: str, side: int, batch: int, network: Network, most: float, time_step: Callable[..., float]) -> str:
    """A row of the table; `most` is the limit in GFLOP/s, 0 for an unknown one."""
    parameters = 1e-6 * sum(p.numel() for p in network.parameters())
    gflop = 3 * batch * forward_gflop(network, side)
    seconds = time_step(network, side, batch)
    share = f"{gflop / seconds / most:.0%}" if most else ""
    cells = [name, f"{side}x{side}", batch, f"{parameters:.2f}", f"{gflop:.4g}", f"{batch / seconds:.4g}"]
    return f"| {' | '.join(map(str, [*cells, f'{gflop / seconds:.4g}', share]))} |"


def backbone_table(arguments: argparse.Namespace, runtime: Runtime) -> Iterator[str]:
    names = arguments.only or [name for name in members("backbone") if name != "timm"]
    # All are built before one is timed: a wrong name is told at once.
    built = {name: backbone_of(name, arguments.side) for name in names}
    try:
        most, unit = limit(runtime.precision) if runtime.device.type == "cpu" else (0.0, "")
    except NoCompilerError as error:
        most, unit = 0.0, f"unknown ({error})"
    time_step = partial(step_seconds, runtime=runtime, steps=arguments.steps, clock=CLOCKS[arguments.clock])
    yield f"{runtime.description}, torch {torch.__version__}, time of the {arguments.clock}"
    yield f"Limit: {most:.0f} GFLOP/s, {unit}\n" if most else f"Limit: {unit or 'not measured on a GPU'}\n"
    yield "| backbone | images | batch | parameters, millions | GFLOP a step | images/s | GFLOP/s | of the limit |"
    yield "| :-- | --: | --: | --: | --: | --: | --: | --: |"
    for name, (backbone, side) in built.items():
        batch = arguments.batch or (BATCH if side < LARGE else BATCH // 8)
        network = build_network(backbone, "linear", CLASSES)
        yield row(name, side, batch, network, most, time_step)


def epoch_speed(train: Any, batch: int, clock: Clock) -> float:
    """images/s of an epoch's batches, which nobody trains on."""
    order = np.random.default_rng(0).permutation(len(train.labels))
    start = clock()
    count = sum(len(each.labels) for each in train.stream(order, batch, np.random.default_rng(0)))
    return count / (clock() - start)


def augmentation_table(
    recipe_name: str, data_root: Path | None, batch: int, rounds: int, clock: Clock
) -> Iterator[str]:
    recipe = load_recipe(recipe_name)
    split = open_split(recipe.data, data_root)
    further: Mapping[str, Any] = {"crop and flip": {}} | {f"and {name}": {name: {}} for name in members("augment")}
    sets = {
        title: image_sets(split, recipe.protocol.augmentation, torch.device("cpu"), 0, more).train
        for title, more in further.items()
    }
    speeds: dict[str, list[float]] = {title: [] for title in sets}
    for _ in range(rounds):
        for title, train in sets.items():
            speeds[title].append(epoch_speed(train, batch, clock))
    alone = speeds["crop and flip"]
    yield f"{recipe_name}: {len(split.train.labels)} images, batch {batch}, {torch.get_num_threads()} threads\n"
    yield "| augmentation | images/s | us an image | against crop and flip |\n| :-- | --: | --: | --: |"
    for title, values in speeds.items():
        speed = statistics.median(values)
        yield f"| {title} | {speed:.4g} | {1e6 / speed:.3g} | {ratio(values, alone)[0]:.3g} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="backbones; all by default, and of timm those named")
    parser.add_argument("--side", type=int, help="pixels on a side; by default what each is made for, 32 or 224")
    parser.add_argument("--batch", type=int, help=f"{BATCH}, of images of {LARGE} pixels {BATCH // 8}")
    parser.add_argument("--steps", type=int, default=5, help="of which the median counts")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--augmentations", action="store_true", help="time the input pipeline instead")
    parser.add_argument("--recipe", default="cifar10-lt/ce", help="whose images are varied")
    parser.add_argument("--rounds", type=int, default=5, help="over these images")
    parser.add_argument("--data-root", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.augmentations:
            batch, clock = arguments.batch or BATCH, CLOCKS[arguments.clock]
            lines = augmentation_table(arguments.recipe, arguments.data_root, batch, arguments.rounds, clock)
        else:
            lines = backbone_table(arguments, choose_runtime(arguments.device, arguments.precision))
        for line in lines:
            print(line, flush=True)
    except UserError as error:
        raise SystemExit(f"backbones.py: {error}") from None


if __name__ == "__main__":
    main()
