"""Commands that train and tell what there is to train."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from lt_bench import ranks
from lt_bench.cli import completion
from lt_bench.cli.app import app
from lt_bench.cli.options import (
    AsJson,
    Budget,
    CompileName,
    DataRoot,
    Device,
    DryRun,
    Force,
    Grid,
    Jobs,
    On,
    Plugins,
    PrecisionName,
    Recipes,
    Records,
    Resources,
    Seeds,
    Track,
    TryOut,
    Work,
    Workers,
    load_plugins,
    parse_seeds,
    path_argument,
    path_option,
    run_options,
)
from lt_bench.errors import UserError
from lt_bench.resources import RECORDS
from lt_bench.terminal import print_rows


@app.command()
def run(
    recipe: Recipes,
    seeds: Seeds = None,
    data_root: DataRoot = None,
    records: Records = RECORDS,
    work: Work = Path("runs"),
    device: Device = "auto",
    precision: PrecisionName = "auto",
    compile: CompileName = "auto",
    workers: Workers = 2,
    plugin: Plugins = None,
    track: Track = None,
    force: Force = False,
    resume: Annotated[bool, typer.Option(help="Go on from a checkpoint where there is one.")] = True,
    dry_run: DryRun = False,
    try_out: TryOut = False,
) -> None:
    """Train recipes, SETTING/METHOD or files, and write their records.

    A finished run is not repeated; an interrupted one goes on. A record in place of a recipe is run again as it was.
    """
    from lt_bench.sweep import Sweep

    with ranks.joined():
        if ranks.count() > 1 and (dry_run or try_out):
            raise UserError(f"--{'dry-run' if dry_run else 'try'}: not under torchrun; it is for one process")
        load_plugins(plugin)
        sweep = Sweep.plan(
            recipe,
            parse_seeds(seeds),
            run_options(data_root, records, work, device, precision, compile, workers, force, resume, track),
        )
        if dry_run or try_out:
            from lt_bench import preview

            preview.dry_run(sweep) if dry_run else preview.try_all(sweep)
        else:
            sweep.execute(stop_on_failure=True)


@app.command()
def sweep(
    recipe: Recipes,
    seeds: Seeds = None,
    grid: Grid = None,
    missing: Annotated[bool, typer.Option("--missing/--all", help="Only runs without a record, or all anew.")] = True,
    jobs: Jobs = None,
    budget: Budget = None,
    on: On = "local",
    resources: Resources = None,
    data_root: DataRoot = None,
    records: Records = RECORDS,
    work: Work = Path("runs"),
    device: Device = "auto",
    precision: PrecisionName = "auto",
    compile: CompileName = "auto",
    workers: Workers = 2,
    plugin: Plugins = None,
    track: Track = None,
    dry_run: DryRun = False,
) -> None:
    """Run recipes x values of a grid x seeds.

    One failed run does not stop the rest; a spent budget stops at an epoch and can go on.
    """
    from lt_bench.sweep import Sweep, engine_named, parse_budget

    if ranks.started().count > 1:
        raise UserError("sweep: not under torchrun, whose processes train one run together; lt-bench run takes several")
    if budget is not None and not missing:
        raise UserError("--all with --budget would begin with the same runs each time; leave one of them out")
    engine = engine_named(on, jobs, resources)
    load_plugins(plugin)
    options = run_options(
        data_root, records, work, device, precision, compile, workers, not missing, True, track, bool(engine.place)
    )
    budget_s = None if budget is None else parse_budget(budget)
    sweep = Sweep.plan(recipe, parse_seeds(seeds), options, usual=(0, 1, 2), grid=grid or ())
    if dry_run:
        from lt_bench import preview

        preview.dry_run(sweep, engine)
    else:
        sweep.execute(budget_s, engine=engine)


@app.command("list")
def list_names(
    what: Annotated[
        str,
        typer.Argument(
            help="methods (all but the network), or one family: procedures, stages, augmentations, regularisers, "
            "mixes, losses, samplers, heads, backbones, tuners, starts; or models, datasets, recipes, settings, "
            "protocols.",
            autocompletion=completion.lists,
        ),
    ],
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """List what a recipe may name."""
    from lt_bench.listing import listing

    load_plugins(plugin)
    rows = listing(what)
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        print_rows(rows)


@app.command()
def docs(out: Annotated[Path, path_option("--out", help="Folder of the page.")] = Path("docs")) -> None:
    """Write the page of all methods, methods.md, from the shipped components and recipes."""
    from lt_bench.method_page import write

    print(write(out))


@app.command()
def new(
    family: Annotated[
        str, typer.Argument(metavar="FAMILY", help="mix, loss, sampler, method, backbone, head, stage or regularise.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The word that recipes will use, such as tail-mix.")],
    out: Annotated[Path, path_option("--out", help="Folder of the two files.")] = Path(),
) -> None:
    """Begin a component of your own: one Python file and one recipe that run as they are."""
    from lt_bench.scaffold import scaffold

    module, recipe = scaffold(family, name, out)
    there = "" if out == Path() else f"cd {shlex.quote(str(out))} && "
    print(f"{module}: the {family}\n{recipe}: a recipe with it, for any setting")
    print(f"{there}lt-bench run digits-lt/{name} --plugin {module.name}")


@app.command()
def validate(recipe: Recipes, plugin: Plugins = None) -> None:
    """Check recipes without training: fields, types, names, and whether the parts fit together.

    A record is checked, too, and * stands for any method or setting.
    """
    from lt_bench.sweep.plan import planned

    names, overrides = _split(recipe, plugin)
    for name in names:
        for found, _ in planned(name, overrides):
            title = f"{found.data.name}/{found.name}" if "*" in name else name
            print(f"{title}: valid, recipe sha256 {found.sha256()[:12]}")


@app.command()
def show(recipe: Recipes, plugin: Plugins = None) -> None:
    """Print a resolved recipe as YAML that `run` takes back, each value with the file or override that it is from."""
    from lt_bench.leaderboard.repeating import show_any

    names, overrides = _split(recipe, plugin)
    for name in names:
        print(show_any(name, overrides), end="")


@app.command()
def cite(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="METHOD...", help="METHOD, SETTING/METHOD or a record. Default: this suite."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the papers of methods, and of the data sets they are run on, as BibTeX for a .bib file."""
    from lt_bench.bibliography import joined
    from lt_bench.citing import cited, described, suite

    found = {name: cited(name) for name in what or ()}
    entries = described(joined(found.values())) if what else [suite()]
    for name in (name for name, papers in found.items() if not papers):
        print(f"{name}: names no paper", file=sys.stderr)
    if as_json:
        print(json.dumps(entries, indent=1))
    elif entries:
        print("\n\n".join(one["bibtex"] for one in entries))


def _split(arguments: list[str], plugin: list[Path] | None) -> tuple[list[str], list[str]]:
    """Recipes and overrides of a command line, with the plug-ins loaded that they may name."""
    from lt_bench.recipe.overrides import split_arguments

    load_plugins(plugin)
    return split_arguments(arguments)


@app.command()
def cp(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="SETTING/METHOD or a file.")],
    file: Annotated[Path, path_argument("The file to write, such as my.yaml, whose name becomes the recipe's.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE...]", help="Overrides.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    plugin: Plugins = None,
) -> None:
    """Copy a recipe whole, each value with its source, into a file of your own to change and run."""
    from lt_bench.recipe.showing import copy

    names, given = _split([recipe, *(overrides or [])], plugin)
    if names != [recipe]:
        raise UserError(f"{names[-1]}: expected RECIPE FILE and then overrides, key.path=value")
    copied = copy(recipe, file, given, force=force)
    print(f"{file}: a copy of {recipe}, recipe sha256 {copied.sha256()[:12]}; change it, then lt-bench run {file}")
