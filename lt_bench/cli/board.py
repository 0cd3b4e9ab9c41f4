"""Commands about records: comparisons and tables."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lt_bench.cli import completion
from lt_bench.cli.app import app, board_app
from lt_bench.cli.options import (
    AsJson,
    DataRoot,
    Out,
    RankExternal,
    ReadRecords,
    Records,
    path_argument,
    path_option,
)
from lt_bench.errors import RunError, UserError
from lt_bench.paths import parse_path
from lt_bench.resources import RECORDS, TABLES
from lt_bench.terminal import changed, chosen, compared, compared_with_first, console, print_rows, tested, whose

if TYPE_CHECKING:
    from lt_bench.leaderboard.comparison import Comparison
    from lt_bench.leaderboard.taking_in import Taken


@app.command()
def compare(
    methods: Annotated[
        list[str], typer.Argument(metavar="METHOD METHOD...", help="As a table names it: ce, cifar100-lt/ce; board:ce.")
    ],
    table: Annotated[str | None, typer.Option(help="Name of the table's file, where they share several.")] = None,
    records: ReadRecords = None,
    data_root: DataRoot = None,
    plot: Annotated[
        Path | None, path_option("--plot", help="Draw what the second gains, class by class: .png, .pdf, .svg.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare methods, seed by seed and, where the data set is at hand, test image by test image.

    Of more than two the first is compared with each other one, with p-values corrected for their number (Holm). A
    method is yours where you have records of it, else the shipped board's, which board:METHOD always is.
    """
    from lt_bench.leaderboard.comparison import compare_all

    if plot is not None and len(methods) > 2:
        raise UserError(f"--plot {plot}: draws two methods, not {len(methods)}")
    found = compare_all(records, methods, table, data_root)
    if plot is not None:
        _plot(found[0], methods, records, plot)
    if as_json:
        plain = [asdict(one) | {"verdict": one.verdict, "advice": one.advice} for one in found]
        print(json.dumps(plain[0] if len(methods) == 2 else plain))
    else:
        _print_two(found[0], records) if len(methods) == 2 else _print_several(found)


def _plot(found: Comparison, methods: list[str], records: Path | None, plot: Path) -> None:
    from lt_bench.leaderboard.difference_figure import draw_differences
    from lt_bench.leaderboard.per_class import per_class

    one, other = per_class(records, methods, found.table)
    draw_differences(one, other, plot)


def _print_two(found: Comparison, records: Path | None) -> None:
    print(f"{found.table}, {'seeds' if len(found.seeds) > 1 else 'seed'} {', '.join(map(str, found.seeds))}")
    print("" if records else f"{whose(found)}\n")
    print_rows([compared(found.first, found.second, one) for one in found.differences])
    print(f"\n{found.verdict}")
    for line in (tested(found), found.advice):
        if line:
            print(line)
    if found.without_images:
        print(f"Nothing is said over test images: {found.without_images}")


def _print_several(found: list[Comparison]) -> None:
    first = found[0]
    print(f"{first.table}: {first.first} beside {len(found)} others; p-values after Holm\n")
    print_rows([compared_with_first(one) for one in found])
    for reason in dict.fromkeys(one.without_images for one in found if one.without_images):
        print(f"\nNothing is said over test images: {reason}")


@board_app.command("build")
def board_build(
    records: ReadRecords = None,
    out: Out = TABLES,
    rank_external: RankExternal = False,
    latex: Annotated[
        bool, typer.Option("--latex", help="Also write latex/: each table for a paper, and a .bib file of its papers.")
    ] = False,
) -> None:
    """Make the tables from the records: Markdown and CSV, the same bytes every time.

    By default those with records of yours, and in them the shipped board's rows.
    """
    from lt_bench.leaderboard.board import write
    from lt_bench.leaderboard.sources import read_board

    board = read_board(records, rank_external)
    written = write(board, out)
    print(f"{written[0]}: the board, {len(written)} files from the records in {records or RECORDS}")
    if latex:
        from lt_bench.leaderboard.latex import write_latex

        *tables, papers = write_latex(board, out)
        print(f"{papers.parent}: {len(tables)} table{'s' * (len(tables) > 1)} for a paper, and {papers.name}")
    if board.others:
        print(board.others)


@board_app.command("check")
def board_check(records: ReadRecords = None, out: Out = TABLES, rank_external: RankExternal = False) -> None:
    """Tell whether the tables are those that the records give. Exit code 1 if not."""
    from lt_bench.leaderboard.board import check
    from lt_bench.leaderboard.frozen import check_frozen

    check_frozen(out)
    differing = check(records, out, rank_external)
    if differing:
        raise RunError(f"not what the records give: {', '.join(map(str, differing))}; run lt-bench leaderboard build")
    print(f"{out}: up to date")


Given = Annotated[
    list[str], typer.Argument(metavar="FILE|FOLDER...", help="Records or folders of them; or predictions, .npz, .csv.")
]
Method = Annotated[str | None, typer.Option(help="Of predictions: what the table calls the method.")]
By = Annotated[str | None, typer.Option(help="Who made the predictions.")]
On = Annotated[str | None, typer.Option(help="The data set, such as cifar100-lt.", autocompletion=completion.data_sets)]
Protocol = Annotated[
    str | None, typer.Option(help="The protocol that the training kept to.", autocompletion=completion.protocols)
]
Source = Annotated[str | None, typer.Option(help="Where the program or its paper is found.")]
OneSeed = Annotated[int | None, typer.Option(min=0, help="Tells the trainings of a method apart. Default: 0.")]
Manifest = Annotated[
    bool, typer.Option("--manifest", help="From now on keep a manifest of the records, and hold them against it.")
]


@board_app.command("add")
def board_add(
    given: Given,
    records: Records = RECORDS,
    method: Method = None,
    by: By = None,
    on: On = None,
    protocol: Protocol = None,
    source: Source = None,
    seed: OneSeed = None,
    data_root: DataRoot = None,
    manifest: Manifest = False,
) -> None:
    """Take in records made elsewhere, or predictions by any program as a record that is marked as external.

    Records are checked in full, and all or none are taken in. Predictions are a file a training, in the order of the
    test set or with `image`: `predicted`, or `probabilities` or `logits` [N, C], in a CSV prob_0, ... or logit_0, ....
    Settings of the split, such as factor=50, stand behind the file.
    """
    about = {"--method": method, "--by": by, "--on": on, "--protocol": protocol}
    if given[0].endswith((".npz", ".csv")):
        from lt_bench.leaderboard.external import Claim, add_predictions

        if missing := [option for option, value in about.items() if not value]:
            raise UserError(f"{given[0]}: predictions need {', '.join(missing)}")
        claim = Claim(str(method), str(by), str(on), str(protocol), seed, source, tuple(given[1:]))
        taken = [add_predictions(parse_path(given[0]), claim, records, data_root)]
    else:
        from lt_bench.leaderboard.taking_in import take_in

        every = about | {"--source": source, "--seed": seed}
        if said := [option for option, value in every.items() if value is not None]:
            raise UserError(f"{said[0]}: belongs to predictions, .npz or .csv; records say it themselves")
        taken = take_in([parse_path(path) for path in given], records)
    _tell_taken(taken, records, manifest)


def _tell_taken(taken: list[Taken], records: Path, manifest: bool) -> None:
    if manifest:
        from lt_bench.leaderboard.manifest import begin

        begin(records)
    new = [one for one in taken if one.new]
    for one in new:
        print(f"{one.path}: taken in")
    print(f"{len(new)} taken in, {len(taken) - len(new)} there already; the tables: lt-bench leaderboard show")


@board_app.command("freeze")
def board_freeze(records: Records = RECORDS, out: Out = TABLES) -> None:
    """Write down what this version of the board stands for; from then on `check` finds what would change it.

    That are its protocols, data sets and metrics, in frozen.json beside the tables, and a manifest of its records.
    """
    from lt_bench.leaderboard.frozen import freeze

    print(f"{freeze(records, out)}: frozen; new rows may come, what is in it must not change")


@board_app.command("diff")
def board_diff(
    before: Annotated[Path, path_argument("Folder of the older records.")],
    records: Records = RECORDS,
    changelog: Annotated[
        Path | None, path_option("--changelog", help="Put the changes in front of those of this Markdown page.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the changes on that page, such as a version or a date.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell which rows of the tables come, go or move against older records, such as those before a change."""
    from lt_bench.leaderboard.changes import changes, write_changelog

    if (changelog is None) != (title is None):
        raise UserError("--changelog and --title: a page of changes has a title for each; give both or none")
    found = changes(before, records)
    if changelog is not None and title is not None:
        write_changelog(found, title, changelog)
    if as_json:
        print(json.dumps([asdict(one) | {"difference": one.difference} for one in found]))
        return
    for table, rows in groupby(found, key=lambda one: one.table):
        print(f"{table}\n")
        print_rows([changed(one) for one in rows])
        print()
    print(f"Rows that differ from those of {before}: {len(found) or 'none'}")


@board_app.command("show")
def board_show(
    records: ReadRecords = None,
    board: Annotated[
        bool, typer.Option("--board", help="All tables of the shipped board, without records of yours.")
    ] = False,
    rank_external: RankExternal = False,
    as_json: AsJson = False,
) -> None:
    """Print the tables with records of yours, the shipped board's rows in them; without any of yours, the board."""
    from lt_bench.leaderboard.board import plain_tables, print_tables
    from lt_bench.leaderboard.sources import shipped_records

    if board and records is not None:
        raise UserError("--board and --records name two boards; leave one of them out")
    of = shipped_records() if board else records
    if as_json:
        print(json.dumps(plain_tables(of, rank_external)))
    else:
        print_tables(of, console(), rank_external)


@board_app.command("tuning")
def board_tuning(records: ReadRecords = None, as_json: AsJson = False) -> None:
    """Rank the settings that you tried by images held out of training, not by the test set.

    For runs with data.validation_per_class=K, or on data with a validation part.
    """
    from lt_bench.leaderboard.tuning import choices

    found = choices(records)
    if as_json:
        print(json.dumps([{"table": key.title} | asdict(one) for key, table in found.items() for one in table]))
        return
    for key, table in found.items():
        print(f"{key.title}\n")
        print_rows([chosen(one) for one in table])
        print()
    print(
        "Top-1 of held-out images. The best of many owes some of it to luck: the test set tells what it is worth, once."
    )
