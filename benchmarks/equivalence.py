"""Do the fast settings train to the same accuracy as plain float32? Short complete trainings, seed by seed, both ways.

Every seed trains twice: plain (float32, nothing compiled) and as this machine does by default. Two one-sided t tests on
the paired differences ask whether the mean difference lies within ±1.0 points of top-1 and ±2.0 points of the accuracy
on the rarest group of classes. Finished trainings are kept in --folder: the same command goes on where it was
interrupted, and with more seeds adds to them.

    python benchmarks/equivalence.py --data-root DATA --seeds 0,1,2,3,4 cifar10-lt/ce protocol=cifar-30ep
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_bench.cli.app import exit_codes
from lt_bench.cli.options import parse_seeds
from lt_bench.evaluation.metrics import accuracy_by_class, group_accuracy, top1
from lt_bench.evaluation.significance import equivalence_p, mean_interval
from lt_bench.leaderboard.record import Record, load_records
from lt_bench.sweep import Local, Sweep
from lt_bench.training.options import Options

PLAIN: dict[str, Any] = {"precision": "float32", "compile": "off"}
BOUNDS = {"top-1": 1.0, "many": 2.0, "medium": 2.0, "few": 2.0}
"""Largest difference in points that does not matter."""


@dataclass(frozen=True)
class Side:
    """One way of training, and the figures of its seeds in percent."""

    title: str
    figures: dict[int, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="+", help="one recipe, then overrides")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("runs/equivalence"))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument("--only", choices=["plain", "default"], help="train one side, in a process of its own")
    arguments = parser.parse_args()
    with exit_codes():
        sides = []
        for name, settings in {"plain": PLAIN, "default": {}}.items():
            folder = arguments.folder / name
            options = Options(
                data_root=arguments.data_root, work=folder / "runs", records=folder / "records", **settings
            )
            if arguments.only in (None, name):
                plan = Sweep.plan(arguments.recipe, parse_seeds(arguments.seeds), options)
                plan.execute(engine=Local(arguments.jobs))
            if arguments.only is None:
                sides.append(side([record for _, record in load_records(folder / "records")]))
    if sides:
        plain, default = sides
        print(verdict(plain, default, " ".join(arguments.recipe)))


def side(records: list[Record]) -> Side:
    made_on = [record.environment for record in records if record.environment is not None]
    titles = {f"{there.precision}, {there.compile or 'not compiled'}" for there in made_on}
    if len(titles) != 1 or len({r.recipe_sha256 for r in records}) != 1:
        sys.exit("the folder holds trainings of another recipe or setting; name a fresh --folder")
    return Side(titles.pop(), {record.seed: figures(record) for record in records})


def figures(record: Record) -> dict[str, float]:
    last = record.selections["last"]
    groups = group_accuracy(accuracy_by_class(last.correct, last.total), record.dataset.train_counts)
    # The rarest group that there is: CIFAR-10-LT at factor 100 has no class of fewer than 20 images.
    rarest, accuracy = [(name, value) for name, value in groups.items() if value is not None][-1]
    return {"top-1": 100 * top1(last.correct, last.total), rarest: 100 * accuracy}


def verdict(plain: Side, default: Side, recipe: str) -> str:
    """A table of both sides and, per figure, whether they are equivalent at the 5 % level."""
    seeds = sorted(plain.figures.keys() & default.figures.keys())
    lines = [f"{recipe}, seeds {', '.join(map(str, seeds))}; plain: {plain.title}; default: {default.title}", ""]
    lines += ["| last epoch | plain | default | difference (90 % interval) | allowed | p | equivalent |"]
    lines += ["| :-- | --: | --: | --: | --: | --: | :-- |"]
    for figure in plain.figures[seeds[0]]:
        before, after = ([one.figures[seed][figure] for seed in seeds] for one in (plain, default))
        differences = [b - a for a, b in zip(before, after, strict=True)]
        mean, half = mean_interval(differences, 0.90)
        p = equivalence_p(differences, BOUNDS[figure])
        columns = [figure, *(f"{statistics.mean(v):.2f} (sd {statistics.stdev(v):.2f})" for v in (before, after))]
        columns += [
            f"{mean:+.2f} ± {half:.2f}",
            f"±{BOUNDS[figure]:.1f}",
            f"{p:.4f}",
            "yes" if p < 0.05 else "not shown",
        ]
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
