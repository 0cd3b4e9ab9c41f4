"""Commands about what attacks leave of a trained network."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_bench.cli.app import app, board_app
from lt_bench.cli.options import (
    AsJson,
    Budget,
    CompileName,
    DataRoot,
    Device,
    Force,
    Plugins,
    PrecisionName,
    Workers,
    file_argument,
    load_plugins,
    path_option,
    run_options,
)
from lt_bench.errors import UserError
from lt_bench.resources import ROBUSTNESS, shipped_robustness
from lt_bench.terminal import percent, print_rows

if TYPE_CHECKING:
    from lt_bench.robustness.record import RobustRecord

RobustRecords = Annotated[Path, path_option("--records", help="Folder of the records of robustness.")]


@app.command()
def attack(
    weights: Annotated[Path, file_argument("weights.safetensors of a finished run.")],
    trials: Annotated[
        str,
        typer.Option(
            "--with", help="fgsm, pgd-20, cw-20, lsa-20, pgd-40; apgd, autoattack; corruptions or one, as jpeg."
        ),
    ] = "pgd-20,pgd-40",
    norm: Annotated[str, typer.Option(help="Of the ball: linf or l2.")] = "linf",
    radius: Annotated[float, typer.Option(min=0, help="Of the ball, in 255ths: usual are 8, and 128 with l2.")] = 8.0,
    images: Annotated[
        int | None, typer.Option(min=1, help="So many test images, alike for all classes. Default: all.")
    ] = None,
    budget: Budget = None,
    data_root: DataRoot = None,
    records: RobustRecords = ROBUSTNESS,
    device: Device = "auto",
    precision: PrecisionName = "float32",
    compile: CompileName = "auto",
    workers: Workers = 2,
    plugin: Plugins = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Attack trained weights, or corrupt test images, and record the accuracy that is left, class by class.

    What was asked before is not repeated; what a budget ended goes on. Precision is float32 unless it is said.
    """
    from lt_bench.robustness.trials import trials as named
    from lt_bench.sweep import parse_budget

    if norm not in ("linf", "l2"):
        raise UserError(f"--norm {norm}: allowed are linf, l2")
    if not math.isfinite(radius):
        raise UserError(f"--radius {radius}: expected a number of 255ths, such as 8")
    asked = named([name.strip() for name in trials.split(",")], "l2" if norm == "l2" else "linf", radius)
    deadline = None if budget is None else time.monotonic() + parse_budget(budget)
    load_plugins(plugin)
    _attack(weights, asked, images, deadline, as_json, data_root, records, device, precision, compile, workers, force)


def _attack(
    weights: Path,
    asked: Any,
    images: int | None,
    deadline: float | None,
    as_json: bool,
    data_root: Path | None,
    records: Path,
    *rest: Any,
) -> None:
    from dataclasses import replace

    from lt_bench.robustness.evaluate import attack_weights
    from lt_bench.robustness.record import load
    from lt_bench.training.options import BudgetSpent

    options = replace(run_options(data_root, records, Path("runs"), *rest), deadline=deadline)
    try:
        path, made = attack_weights(weights, asked, images, options)
    except BudgetSpent:
        print("Stopped by --budget; the same command goes on from here.", file=sys.stderr)
        return
    found = load(path)
    if as_json:
        print(json.dumps(_as_json(path, found)))
        return
    print(f"{path}: {'written' if made else 'there already, nothing done'}\n")
    _print(found)


def _print(found: RobustRecord) -> None:
    from lt_bench.evaluation.metrics import accuracy_by_class, balanced, group_accuracy, worst_class

    rows = []
    for title, correct in found.columns.items():
        accuracy = accuracy_by_class(correct, found.total)
        groups = group_accuracy(accuracy, found.dataset.train_counts)
        scores = {"all": balanced(accuracy), **groups, "worst class": worst_class(accuracy)}
        rows.append({"under": title, **{name: percent(value) for name, value in scores.items()}})
    print_rows(rows)
    print()
    shares = {title: accuracy_by_class(correct, found.total) for title, correct in found.columns.items()}
    print_rows(
        [
            {"class": label, "name": name, "train": found.dataset.train_counts[label], "test": found.total[label]}
            | {title: percent(float(accuracy[label])) for title, accuracy in shares.items()}
            for label, name in enumerate(found.dataset.class_names)
        ]
    )


def _as_json(path: Path, found: RobustRecord) -> dict[str, Any]:
    about = {"record": str(path), "recipe": found.recipe_name, "dataset": found.dataset.name, "seed": found.seed}
    ball = {"norm": found.norm, "radius": found.radius, "total": found.total}
    return about | ball | {"correct": found.columns}


@board_app.command("robust")
def board_robust(
    records: Annotated[
        Path | None,
        path_option("--records", help="Folder of the records. Default: yours, or where there are none the shipped."),
    ] = None,
    board: Annotated[bool, typer.Option("--board", help="The shipped ones, whether or not there are yours.")] = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line a method.")] = False,
    out: Annotated[Path | None, path_option("--out", help="Write a page of them, in Markdown.")] = None,
) -> None:
    """Print the tables of accuracy under attack, which are never mixed with any other."""
    from lt_bench.csv_text import csv_text
    from lt_bench.robustness import board as tables

    if board and records is not None:
        raise UserError("--board and --records name two boards; leave one of them out")
    yours = not board and (records is not None or ROBUSTNESS.is_dir())
    folder = (records or ROBUSTNESS) if yours else shipped_robustness()
    found = tables.tables(folder)
    if out is not None:
        tables.save_page(found, out)
        print(f"{out}: the tables of {folder}")
        return
    if as_json:
        print(json.dumps(tables.as_lines(found)))
    elif as_csv:
        print(csv_text(tables.as_lines(found)), end="")
    else:
        for key, rows in found.items():
            print(f"{key.title}\n")
            print_rows(tables.cells(rows))
            print("".join(f"\n{note}\n" for note in tables.notes(rows)), end="")
            print()
