"""Commands that look at what runs have left: weights, logs and records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_bench.cli.app import app
from lt_bench.cli.options import (
    AsJson,
    CompileName,
    DataRoot,
    Device,
    Plugins,
    PrecisionName,
    ReadRecords,
    Recipes,
    Work,
    Workers,
    file_argument,
    load_plugins,
    path_argument,
    path_option,
    run_options,
)
from lt_bench.errors import UserError
from lt_bench.resources import RECORDS
from lt_bench.terminal import better, class_cells, percent, print_rows

if TYPE_CHECKING:
    from lt_bench.training.evaluate import Evaluation

FEW_CLASSES = 30
"""Up to so many have their table without being asked for."""


@app.command()
def evaluate(
    weights: Annotated[Path, file_argument("weights.safetensors of a finished run.")],
    data_root: DataRoot = None,
    device: Device = "auto",
    precision: PrecisionName = "auto",
    compile: CompileName = "auto",
    workers: Workers = 2,
    plugin: Plugins = None,
    per_class: Annotated[
        bool | None, typer.Option("--per-class/--no-per-class", help="A table of the classes. Default: of up to 30.")
    ] = None,
    predictions: Annotated[
        Path | None,
        path_option("--predictions", help="Write label, class, confidence, logits of each image: .npz, .csv."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate trained weights on the test part of the data set they were trained for.

    In percent; --json gives fractions, as its field `unit` says.
    """
    from lt_bench.evaluation.saving import check_place
    from lt_bench.training.evaluate import evaluate_weights

    load_plugins(plugin)
    if predictions is not None:
        check_place(predictions)
    options = run_options(data_root, RECORDS, Path("runs"), device, precision, compile, workers)
    found = evaluate_weights(weights, options, keep_logits=predictions is not None)
    if predictions is not None:
        found.save_predictions(predictions)
    if as_json:
        print(json.dumps(_as_json(found)))
        return
    _print_evaluation(found, per_class)
    if predictions is not None:
        print(f"\n{predictions}: what was said of every image")


def _print_evaluation(found: Evaluation, per_class: bool | None) -> None:
    images, classes = len(found.predictions.labels), found.classes
    speed = f"{images:,} test images in {found.seconds:.1f} s, {found.images_per_s:,.0f} images/s"
    print(f"{found.weights.title}: {speed}\n")
    scores = {name: value for name, value in found.summary.items() if not isinstance(value, list)}
    print_rows([{"score": f"{name} {better(name)}", "percent": percent(value)} for name, value in scores.items()])
    if per_class or (per_class is None and len(classes) <= FEW_CLASSES):
        print()
        print_rows([class_cells(row) for row in classes])


def _as_json(found: Evaluation) -> dict[str, Any]:
    recipe = found.weights.recipe
    about = {"recipe": recipe.name, "dataset": recipe.data.name, "seed": found.weights.seed, "unit": "fraction"}
    # JSON has no NaN.
    classes = [row | {"accuracy": row["accuracy"] if row["total"] else None} for row in found.classes]
    return about | found.summary | {"images_per_s": round(found.images_per_s, 1), "classes": classes}


@app.command("predict")
def predict_images(
    weights: Annotated[Path, file_argument("weights.safetensors of a finished run.")],
    images: Annotated[list[Path], path_argument("Image files, and folders of them.", "IMAGES...")],
    out: Annotated[Path | None, path_option("--out", help="Write class, confidence and logits: .npz, .csv.")] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    workers: Workers = 2,
    plugin: Plugins = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out what is no readable image, and name it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say the class of images that belong to no data set, with the confidence in it, which --json has as a fraction."""
    from lt_bench.evaluation.saving import check_place
    from lt_bench.predicting import predict_files

    load_plugins(plugin)
    if out is not None:
        check_place(out)
    options = run_options(data_root, RECORDS, Path("runs"), device, "float32", "off", workers)
    found = predict_files(weights, images, options, skip=skip_unreadable)
    if out is not None:
        found.save(out)
    if as_json:
        print(json.dumps(found.rows))
    elif out is None:
        print_rows([row | {"confidence": percent(row["confidence"])} for row in found.rows])
    else:
        print(f"{out}: the classes of {len(found.files):,} images")


@app.command()
def diagnostics(
    run_folder: Annotated[Path, path_argument("Folder of a run, where its log lies.")],
    out: Annotated[Path | None, path_option("--out", help="File to draw. Default: distance.png in the folder.")] = None,
    epoch: Annotated[int | None, typer.Option(help="After so many epochs. Default: the last that was kept.")] = None,
) -> None:
    """Draw the distances between classes that a run with class-distance-mix-ours has kept of its epochs."""
    from lt_bench.diagnostics import draw_distances

    path = out or run_folder / "distance.png"
    drawn = draw_distances(run_folder, path, epoch)
    print(f"{path}: the distances between classes after epoch {drawn}")


@app.command()
def gallery(
    recipe: Recipes,
    out: Annotated[Path | None, path_option("--out", help="File to draw. Default: gallery-METHOD.png.")] = None,
    images: Annotated[int, typer.Option(min=2, max=32, help="So many, from the largest class to the smallest.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the images and of the draws.")] = 0,
    data_root: DataRoot = None,
    work: Work = Path("runs"),
    plugin: Plugins = None,
) -> None:
    """Draw what a recipe's mix makes of images: originals, mixed images and the labels that go with them."""
    from lt_bench.gallery import draw, mixture
    from lt_bench.recipe.loading import load_recipe
    from lt_bench.recipe.overrides import split_arguments

    load_plugins(plugin)
    (name, *more), overrides = split_arguments(recipe)
    if more:
        raise UserError(f"one recipe at a time, found {len(more) + 1}: {name}, {', '.join(more)}")
    found = load_recipe(name, overrides)
    path = out or Path(f"gallery-{found.name}.png")
    shown = mixture(found, images, seed, data_root, work / "teachers")
    draw(shown, f"{found.data.name}/{found.name}{''.join(f' {one}' for one in overrides)}", path)
    print(f"{path}: {images} images before and after {found.name}")


@app.command()
def curves(
    runs: Annotated[list[Path], path_argument("Folders of runs, where their logs lie, or records.")],
    out: Annotated[Path, path_option("--out", help="The picture; a .csv is a line a run and epoch.")] = Path(
        "curves.png"
    ),
) -> None:
    """Draw training loss and test accuracy over the epochs, of several runs in one picture."""
    from lt_bench.curves import read_curves, save_curves

    found = [read_curves(path) for path in runs]
    save_curves(found, out)
    print(f"{out}: {', '.join(one.title for one in found)}")


@app.command()
def report(
    what: Annotated[
        list[str],
        typer.Argument(metavar="METHOD|RECORD.json|FOLDER...", help="As a table names it; or records, runs."),
    ],
    out: Annotated[Path, path_option("--out", help="Folder of the figures.")] = Path("report"),
    formats: Annotated[str, typer.Option("--format", help="Of pdf, svg, png, with commas between.")] = "pdf,svg,png",
    width: Annotated[float, typer.Option(min=1, max=20, help="Inches; a column of two is 3.3, both are 6.9.")] = 3.3,
    table: Annotated[str | None, typer.Option(help="Name of the table's file, where they share several.")] = None,
    records: ReadRecords = None,
    data_root: DataRoot = None,
) -> None:
    """Draw methods for a paper: curve, classes in order of their size, reliability, where images of the tail go."""
    from lt_bench.leaderboard.report import shown, test_labels
    from lt_bench.leaderboard.report_figures import draw_report

    found = shown(records, what, table)
    labels, why = test_labels(found, data_root)
    written, left_out = draw_report(found, labels, out, formats.split(","), width)
    for path in written:
        print(path)
    for sentence in left_out:
        print(f"left out, {sentence}{f' ({why})' if why and sentence.startswith('tail') else ''}")


@app.command("per-class")
def per_class(
    methods: Annotated[
        list[str], typer.Argument(metavar="METHOD|RECORD.json...", help="As a table names it, or files of records.")
    ],
    table: Annotated[str | None, typer.Option(help="Name of the table's file, where they share several.")] = None,
    records: ReadRecords = None,
    groups: Annotated[
        str | None, typer.Option(metavar="RULE", help="Of groups of classes instead, by oltr, inclusive or thirds.")
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line a method and class.")] = False,
) -> None:
    """Print what methods make of each class, as means over their seeds with the 95% interval.

    Papers differ in which classes are many, medium and few: those with more than 100 and fewer than 20 images (oltr, as
    in the tables), with 100 and 20 among these (inclusive), or a third of the classes each (thirds).
    """
    from lt_bench.csv_text import csv_text
    from lt_bench.data.groups import RULES
    from lt_bench.leaderboard import per_class as module

    found = module.per_class(records, methods, table)
    if groups is not None:
        found = [one.by_group(groups) for one in found]
    if as_json:
        print(json.dumps(module.as_json(found)))
    elif as_csv:
        print(csv_text(module.as_lines(found)), end="")
    else:
        for one in found:
            print(f"{one.method}: seed{'s' * (len(one.seeds) > 1)} {', '.join(map(str, one.seeds))}")
        if groups is not None:
            print(f"{groups}: {RULES[groups]}")
        print()
        print_rows(module.as_table(found))
