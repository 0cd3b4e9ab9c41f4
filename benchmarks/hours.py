"""What a board takes: GPU hours of each recipe, their price, and how long all of them occupy 1, 8 and 64 GPUs.

Nothing is trained. The arithmetic of a run is counted: of each image that it trains on three times the forward pass of
its network, times what its parts cost beside cross entropy (`lt-bench list methods`); of each that it evaluates one.
How much of it a GPU does in a second follows from a speed that was measured: so many images/s, training so a backbone.
By default that is the one that was measured for benchmarks/README.md, of eight ResNet-32 that share an H200. So small a
network leaves most of a card idle: measure a larger one, `backbones.py --only resnext50 --device cuda`, and give that.

    python benchmarks/hours.py cifar100-lt/ce imagenet-lt/ce --seeds 3 --price 1
    python benchmarks/hours.py imagenet-lt/ce --images-per-s SPEED --of resnext50

Runs are independent: N GPUs take the N-th part of all hours, and never less than the longest run. The images have to
arrive as fast as that, which is not looked at here.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backbones import backbone_of, forward_gflop

from lt_bench.data.cards import Card, CifarSource, DigitsSource, FolderSource, load_card
from lt_bench.data.split import class_sizes
from lt_bench.errors import UserError
from lt_bench.method_page import recipe_costs
from lt_bench.models import build_network
from lt_bench.recipe import Recipe, load_recipe

GPUS = (1, 8, 64)
MEASURED = 71_988.0
"""images/s of ResNet-32 by eight processes on one H200, README.md, "One GPU"."""
CIFAR_TEST = 10_000


@dataclass(frozen=True)
class Work:
    """The arithmetic of a run."""

    images: int
    """Trained on, over all epochs."""
    evaluated: int
    gflop: float
    """Of one image's forward pass."""
    cost: float
    """Of a training step against cross entropy."""

    @property
    def pflop(self) -> float:
        return 1e-6 * self.gflop * (3 * self.cost * self.images + self.evaluated)


def work_of(recipe: Recipe) -> Work:
    """Of a run of the recipe, without its first stage. Raises UserError where nobody can count it."""
    card, protocol = load_card(recipe.data.name), recipe.training
    train, test = sizes(recipe, card)
    seen = protocol.augmentation
    side = seen.size if seen.kind == "resized-crop" else seen.enlarge or card.image_size
    backbone = recipe.backbone_choice()
    network = build_network(backbone.component(backbone.config), "linear", card.classes)
    evaluations = max(1, math.ceil(protocol.epochs / protocol.evaluate_every))
    stage = recipe.stage_choice()
    costs = recipe_costs(recipe) if stage is None else [stage.component.info.cost]
    cost = math.prod(float(one.removesuffix("x").replace("none", "0")) for one in costs)
    return Work(protocol.epochs * train, evaluations * test, forward_gflop(network, side), cost)


def sizes(recipe: Recipe, card: Card) -> tuple[int, int]:
    """Training and test images, by the card alone."""
    source, spec = card.source, recipe.data.resolve(card)
    test = CIFAR_TEST
    if isinstance(source, FolderSource):
        test = source.test.images
    elif isinstance(source, DigitsSource):
        test = source.test_per_class * card.classes
    if spec.factor is None or spec.n_max is None or spec.profile is None:
        assert not isinstance(source, CifarSource | DigitsSource), "a split is drawn from these"
        return source.train.images, test
    return sum(class_sizes(card.classes, spec.n_max, spec.factor, spec.profile)), test


def table(recipes: Sequence[Recipe], pflop_per_s: float, seeds: int, price: float) -> Iterator[str]:
    """A row a recipe, and what all of them take; `price` is that of a GPU for an hour."""
    yield "| recipe | images, millions | GFLOP an image | against ce | PFLOP a run | GPU hours a run | price |"
    yield "| :-- | --: | --: | --: | --: | --: | --: |"
    hours = []
    for recipe in recipes:
        work = work_of(recipe)
        hours.append(work.pflop / pflop_per_s / 3600)
        name = f"{recipe.data.name}/{recipe.name} {recipe.protocol.name}"
        figures = f"{1e-6 * work.images:.2f} | {work.gflop:.3g} | {work.cost:.3g}x | {work.pflop:.3g}"
        yield f"| {name} | {figures} | {hours[-1]:.2g} | {hours[-1] * price:.2f} |"
    total = seeds * sum(hours)
    walls = [f"{max(*hours, total / gpus):.2g} h on {gpus}" for gpus in GPUS]
    yield f"\nAll of them with {seeds} seeds: {total:.3g} GPU hours, price {total * price:.2f}; {', '.join(walls)} GPUs"


def speed(images_per_s: float, of: str, side: int | None) -> float:
    """PFLOP/s of a GPU that trains so many images in a second of a backbone."""
    backbone, side = backbone_of(of, side)
    return 1e-6 * 3 * images_per_s * forward_gflop(build_network(backbone, "linear", 100), side)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="+", metavar="SETTING/METHOD", help="and overrides, key.path=value")
    parser.add_argument("--images-per-s", type=float, default=MEASURED, help=f"of one GPU, by default {MEASURED:.0f}")
    parser.add_argument("--of", default="resnet32", help="the backbone with which that was measured")
    parser.add_argument("--side", type=int, help="pixels, by default what the backbone is made for, 32 or 224")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--price", type=float, default=1.0, help="of a GPU for an hour, by default 1: prices are hours")
    arguments = parser.parse_args()
    names = [word for word in arguments.recipe if "=" not in word]
    overrides = [word for word in arguments.recipe if "=" in word]
    try:
        recipes = [load_recipe(name, overrides) for name in names]
        pflop_per_s = speed(arguments.images_per_s, arguments.of, arguments.side)
        print(f"One GPU: {arguments.images_per_s:.0f} images/s of {arguments.of}, {1e3 * pflop_per_s:.1f} TFLOP/s\n")
        for line in table(recipes, pflop_per_s, arguments.seeds, arguments.price):
            print(line, flush=True)
    except UserError as error:
        raise SystemExit(f"hours.py: {error}") from None


if __name__ == "__main__":
    main()
