"""The command line: parse, call one function, print. Heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from lt_bench.errors import RunError, UserError
from lt_bench.paths import parse_path
from lt_bench.terminal import changed, compared, console, print_rows, short, show_what_can_be_shown

if TYPE_CHECKING:
    from lt_bench.training.run import Options


@contextmanager
def _exit_codes() -> Iterator[None]:
    try:
        yield
    except (UserError, RunError) as error:
        # One line even where the name of a file holds a line break.
        print(f"lt-bench: {' '.join(str(error).splitlines())}", file=sys.stderr)
        if os.environ.get("LT_BENCH_TRACEBACK") and error.__cause__:
            traceback.print_exception(error.__cause__)
        sys.exit(2 if isinstance(error, UserError) else 1)
    except KeyboardInterrupt:
        print("lt-bench: interrupted; the same command goes on from the last finished epoch", file=sys.stderr)
        sys.exit(130)


class _Commands(TyperGroup):
    """Typer would answer an interruption with a word of its own: errors are met inside of it."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        with _exit_codes():
            return super().invoke(ctx)


app = typer.Typer(
    name="lt-bench",
    cls=_Commands,
    help="A benchmark suite for long-tailed image recognition.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Make, prepare, verify, describe and export long-tailed splits.", no_args_is_help=True)
board_app = typer.Typer(help="Tables made from records.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(board_app, name="leaderboard")

RECORDS = Path("leaderboard/v1/records")
BOARD = Path("leaderboard/v1")
LARGEST_SEED = 2**53 - 1
"""What a table can still hold as a number."""


def _option(*names: str, help: str) -> Any:
    """An option that is a path."""
    return typer.Option(*names, help=help, parser=parse_path, metavar="PATH")


def _argument(help: str) -> Any:
    """An argument that is a path."""
    return typer.Argument(help=help, parser=parse_path)


DataRoot = Annotated[
    Path | None, _option("--data-root", help="Folder of the data sets. Default: $LT_BENCH_DATA, else ./data.")
]
Records = Annotated[Path, _option("--records", help="Folder of the records.")]
Work = Annotated[Path, _option("--work", help="Folder of checkpoints, logs and weights.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
PrecisionName = Annotated[str, typer.Option("--precision", help="auto, float32 or bf16.")]
CompileName = Annotated[str, typer.Option("--compile", help="auto, on or off: code compiled for this machine.")]
Workers = Annotated[int, typer.Option(min=0, help="Decoding processes per stream of image files.")]
Seeds = Annotated[
    str | None, typer.Option(help="Training seeds, such as 0,1,2. Default: run 0, sweep 0,1,2; a record's own.")
]
Plugins = Annotated[list[Path] | None, _option("--plugin", help="Python file with components of your own.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def run(
    recipe: Annotated[list[str], typer.Argument(metavar="RECIPE... [KEY=VALUE...]", help="Recipes, then overrides.")],
    seeds: Seeds = None,
    data_root: DataRoot = None,
    records: Records = RECORDS,
    work: Work = Path("runs"),
    device: Device = "auto",
    precision: PrecisionName = "auto",
    compile: CompileName = "auto",
    workers: Workers = 2,
    plugin: Plugins = None,
    force: Annotated[bool, typer.Option(help="Train although a record exists; it is kept beside the new one.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on from a checkpoint where there is one.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and train nothing.")] = False,
) -> None:
    """Train recipes, SETTING/METHOD or files, and write their records.

    A finished run is not repeated; an interrupted one goes on. A record in place of a recipe is run again as it was.
    """
    from lt_bench.sweep import Sweep

    _load_plugins(plugin)
    sweep = Sweep.plan(
        recipe, _seeds(seeds), _options(data_root, records, work, device, precision, compile, workers, force, resume)
    )
    if dry_run:
        for one in sweep.recipes:
            print(json.dumps(one.resolved(), indent=1))
        return
    sweep.execute(stop_on_failure=True)


@app.command()
def sweep(
    recipe: Annotated[list[str], typer.Argument(metavar="RECIPE... [KEY=VALUE...]", help="Recipes, then overrides.")],
    seeds: Seeds = None,
    missing: Annotated[bool, typer.Option("--missing/--all", help="Only runs without a record, or all anew.")] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once, which share the cores or the GPU.")] = 1,
    budget: Annotated[str | None, typer.Option(help="Stop cleanly after this time: 90s, 40m, 2h.")] = None,
    data_root: DataRoot = None,
    records: Records = RECORDS,
    work: Work = Path("runs"),
    device: Device = "auto",
    precision: PrecisionName = "auto",
    compile: CompileName = "auto",
    workers: Workers = 2,
    plugin: Plugins = None,
) -> None:
    """Run recipes x seeds. One failed run does not stop the rest; a spent budget stops at an epoch and can go on."""
    from lt_bench.sweep import Sweep, parse_budget

    if budget is not None and not missing:
        raise UserError("--all with --budget would begin with the same runs each time; leave one of them out")
    _load_plugins(plugin)
    options = _options(data_root, records, work, device, precision, compile, workers, force=not missing, resume=True)
    budget_s = None if budget is None else parse_budget(budget)
    Sweep.plan(recipe, _seeds(seeds), options, usual=(0, 1, 2)).execute(budget_s, jobs=jobs)


@app.command("list")
def list_names(
    what: Annotated[
        str,
        typer.Argument(
            help="methods (all but the network), or one family: procedures, stages, mixes, losses, samplers, heads, "
            "backbones; or models, datasets, recipes, settings, protocols."
        ),
    ],
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """List what a recipe may name."""
    from lt_bench.listing import listing

    _load_plugins(plugin)
    rows = listing(what)
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        print_rows(rows)


@app.command()
def docs(out: Annotated[Path, _option("--out", help="Folder of the page.")] = Path("docs")) -> None:
    """Write the page of all methods, methods.md, from the shipped components and recipes."""
    from lt_bench.method_page import write

    print(write(out))


@app.command()
def new(
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="mix, loss, sampler or method.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The word that recipes will use, such as tail-mix.")],
    out: Annotated[Path, _option("--out", help="Folder of the two files.")] = Path(),
) -> None:
    """Begin a component of your own: one Python file and one recipe that run as they are."""
    from lt_bench.scaffold import scaffold

    module, recipe = scaffold(family, name, out)
    print(f"{module}: the {family}\n{recipe}: a recipe with it\nlt-bench run {recipe} --plugin {module}")


@app.command()
def validate(
    recipe: Annotated[list[str], typer.Argument(metavar="RECIPE... [KEY=VALUE...]", help="Recipes, then overrides.")],
    plugin: Plugins = None,
) -> None:
    """Check recipes without training: fields, types, names, and whether the parts fit together."""
    from lt_bench.recipe import load_recipe
    from lt_bench.recipe.overrides import split_arguments
    from lt_bench.training.run import check_network

    _load_plugins(plugin)
    names, overrides = split_arguments(recipe)
    for name in names:
        found = load_recipe(name, overrides)
        check_network(found)
        print(f"{name}: valid, recipe sha256 {found.sha256()[:12]}")


@app.command()
def show(
    recipe: Annotated[list[str], typer.Argument(metavar="RECIPE [KEY=VALUE...]", help="A recipe, then overrides.")],
    plugin: Plugins = None,
) -> None:
    """Print a resolved recipe as YAML that `run` takes back, each value with the file or override that it is from."""
    from lt_bench.recipe.overrides import split_arguments
    from lt_bench.recipe.showing import show as show_recipe

    _load_plugins(plugin)
    names, overrides = split_arguments(recipe)
    for name in names:
        print(show_recipe(name, overrides), end="")


@app.command()
def evaluate(
    weights: Annotated[Path, _argument("weights.safetensors of a finished run.")],
    data_root: DataRoot = None,
    device: Device = "auto",
    precision: PrecisionName = "auto",
    compile: CompileName = "auto",
    workers: Workers = 2,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate trained weights on the test part of the data set they were trained for."""
    from lt_bench.training.evaluate import evaluate_weights

    _load_plugins(plugin)
    result = evaluate_weights(weights, _options(data_root, RECORDS, Path("runs"), device, precision, compile, workers))
    if as_json:
        print(json.dumps(result))
    else:
        print_rows([{"metric": name, "value": value} for name, value in result.items() if not isinstance(value, list)])


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="METHOD", help="As a table names it: ce, or cifar100-lt/ce.")],
    second: Annotated[str, typer.Argument(metavar="METHOD", help="Another one of the same table.")],
    table: Annotated[str | None, typer.Option(help="Name of the table's file, where they share several.")] = None,
    records: Records = RECORDS,
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Compare two methods, seed by seed and, where the data set is at hand, test image by test image."""
    from lt_bench.leaderboard.comparison import compare as compare_methods

    found = compare_methods(records, first, second, table, data_root)
    if as_json:
        print(json.dumps(asdict(found) | {"verdict": found.verdict}))
        return
    print(f"{found.table}, {'seeds' if len(found.seeds) > 1 else 'seed'} {', '.join(map(str, found.seeds))}\n")
    print_rows([compared(found.first, found.second, one) for one in found.differences])
    print(f"\n{found.verdict}")
    if found.without_images:
        print(f"Nothing is said over test images: {found.without_images}")


@app.command()
def diagnostics(
    run_folder: Annotated[Path, _argument("Folder of a run, where its log lies.")],
    out: Annotated[Path | None, _option("--out", help="File to draw. Default: distance.png in the folder.")] = None,
    epoch: Annotated[int | None, typer.Option(help="After so many epochs. Default: the last that was kept.")] = None,
) -> None:
    """Draw the distances between classes that a run with class-distance-mix-ours has kept of its epochs."""
    from lt_bench.diagnostics import draw_distances

    path = out or run_folder / "distance.png"
    drawn = draw_distances(run_folder, path, epoch)
    print(f"{path}: the distances between classes after epoch {drawn}")


@data_app.command("new")
def new_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The word that recipes will use, such as my-birds.")],
    images: Annotated[
        Path | None, _option("--images", help="Folder of the class folders, or of the images that the lists name.")
    ] = None,
    train: Annotated[Path | None, _option("--train", help="List of `relative/path label` lines.")] = None,
    test: Annotated[Path | None, _option("--test", help="List of the test images.")] = None,
    test_per_class: Annotated[
        int | None, typer.Option(min=1, help="Test images to draw of each class. Default: half of the smallest, 50.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Chooses the test images.")] = 0,
    out: Annotated[Path, _option("--out", help="Folder to make the folder NAME in.")] = Path(),
) -> None:
    """Make a data set of images of your own: the folder NAME with a card and a setting, for NAME/METHOD to be run."""
    from lt_bench.data.new_set import new_from_folder, new_from_lists

    if train is not None and test is not None:
        if test_per_class is not None:
            raise UserError("--test-per-class: the test part is that of --test")
        made = new_from_lists(name, train, test, images, out)
    elif train is None and test is None and images is not None:
        made = new_from_folder(name, images, out, test_per_class, seed)
    else:
        raise UserError("give --images FOLDER with a folder for each class, or --train LIST and --test LIST")
    print("\n".join(made.lines()))
    print(f"lt-bench run {made.folder}/balanced-softmax")


@data_app.command()
def prepare(
    card: str,
    settings: Annotated[list[str] | None, typer.Argument()] = None,
    data_root: DataRoot = None,
    fetch: Annotated[bool, typer.Option("--download", help="Fetch the archive first, as torchvision does.")] = False,
) -> None:
    """Read a data set once, check it, and keep the decoded images for later runs."""
    if fetch:
        from lt_bench.data.cards import load_card, named_card
        from lt_bench.data.opening import data_folder
        from lt_bench.data.sources import download

        download(load_card(named_card(card)), data_folder(data_root))
    split = _split(card, settings, data_root)
    print(f"{card}: {int(split.counts.sum())} training images ready, index sha256 {split.index_sha256[:12]}")


@data_app.command()
def verify(
    card: str, settings: Annotated[list[str] | None, typer.Argument()] = None, data_root: DataRoot = None
) -> None:
    """Compare a split with what its card expects: counts, indices, pixels."""
    from lt_bench.data import verify as verify_split

    split = _split(card, settings, data_root)
    compared = ", ".join(verify_split(split))
    state = f" agree with the card in {compared}" if compared else "; the card says nothing of this split to compare"
    print(f"{card}: {int(split.counts.sum())} training images{state}")


@data_app.command()
def describe(
    card: str,
    settings: Annotated[list[str] | None, typer.Argument(help="Such as factor=50 profile=step.")] = None,
    data_root: DataRoot = None,
    as_json: AsJson = False,
    plot: Annotated[Path | None, _option("--plot", help="Draw the class sizes: a .png, .pdf or .svg.")] = None,
) -> None:
    """Print counts, groups and digests of a split."""
    from lt_bench.data import describe as describe_split
    from lt_bench.data import draw_class_sizes

    split = _split(card, settings, data_root)
    facts = describe_split(split)
    if plot is not None:
        draw_class_sizes(split, plot)
    if as_json:
        print(json.dumps(facts))
    else:
        print_rows([{"": key, " ": short(value)} for key, value in facts.items()])


@data_app.command()
def export(
    card: str,
    output: Annotated[Path, _option("--output", "-o", help="The parquet file to write.")],
    settings: Annotated[list[str] | None, typer.Argument()] = None,
    data_root: DataRoot = None,
) -> None:
    """Write a split as one parquet file that --data-root can read back, on this or another machine."""
    from lt_bench.data.export import export_split

    split = _split(card, settings, data_root)
    export_split(split, output)
    print(f"{output}: {int(split.counts.sum())} training images, content sha256 {split.content_sha256[:12]}")


@board_app.command("build")
def board_build(
    records: Records = RECORDS, out: Annotated[Path, _option("--out", help="Folder of the tables.")] = BOARD
) -> None:
    """Make the tables from the records: Markdown and CSV, the same bytes every time."""
    from lt_bench.leaderboard import build

    written = build(records, out)
    print(f"{written[0]}: the board, {len(written)} files from the records in {records}")


@board_app.command("check")
def board_check(
    records: Records = RECORDS, out: Annotated[Path, _option("--out", help="Folder of the tables.")] = BOARD
) -> None:
    """Tell whether the tables are those that the records give. Exit code 1 if not."""
    from lt_bench.leaderboard.board import check

    differing = check(records, out)
    if differing:
        raise RunError(f"not what the records give: {', '.join(map(str, differing))}; run lt-bench leaderboard build")
    print(f"{out}: up to date")


@board_app.command("diff")
def board_diff(
    before: Annotated[Path, _argument("Folder of the older records.")],
    records: Records = RECORDS,
    as_json: AsJson = False,
) -> None:
    """Tell which rows of the tables come, go or move against older records, such as those before a change."""
    from lt_bench.leaderboard.changes import changes

    found = changes(before, records)
    if as_json:
        print(json.dumps([asdict(one) | {"difference": one.difference} for one in found]))
        return
    for table, rows in groupby(found, key=lambda one: one.table):
        print(f"{table}\n")
        print_rows([changed(one) for one in rows])
        print()
    print(f"Rows that differ from those of {before}: {len(found) or 'none'}")


@board_app.command("show")
def board_show(records: Records = RECORDS) -> None:
    """Print the tables."""
    from lt_bench.leaderboard.board import print_tables

    print_tables(records, console())


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from lt_bench import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 a run failed, 2 the user's input, 130 interrupted."""
    show_what_can_be_shown()
    app()


def _split(card: str, settings: list[str] | None, data_root: Path | None) -> Any:
    from lt_bench.data import open_split
    from lt_bench.data.cards import named_card
    from lt_bench.recipe import data_spec

    return open_split(data_spec(named_card(card), settings or []), data_root)


def _options(
    data_root: Path | None,
    records: Path,
    work: Path,
    device: str,
    precision: str,
    compile: str,
    workers: int,
    force: bool = False,
    resume: bool = True,
) -> Options:
    from lt_bench.training.run import Options
    from lt_bench.training.runtime import compile_named, device_named, precision_named

    return Options(
        data_root=data_root,
        work=work,
        records=records,
        device=device_named(device),
        precision=precision_named(precision),
        compile=compile_named(compile),
        workers=workers,
        force=force,
        restart=not resume,
    )


def _load_plugins(paths: list[Path] | None) -> None:
    if paths:
        from lt_bench.registry import load_plugin

        for path in paths:
            load_plugin(path)


def _seeds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    digits = len(str(LARGEST_SEED))  # counted first, because Python reads no number of thousands of them
    if not all(part.isdecimal() and len(part) <= digits and int(part) <= LARGEST_SEED for part in parts):
        raise UserError(f"--seeds {short(text)}: expected whole numbers from 0 to 2^53 - 1, such as 0,1,2")
    return tuple(dict.fromkeys(int(part) for part in parts))
