"""Commands about records: comparisons and tables."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from lt_bench.cli.app import app, board_app
from lt_bench.cli.options import BOARD, RECORDS, AsJson, DataRoot, Records, path_argument, path_option
from lt_bench.errors import RunError
from lt_bench.terminal import changed, compared, console, print_rows


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


@board_app.command("build")
def board_build(
    records: Records = RECORDS, out: Annotated[Path, path_option("--out", help="Folder of the tables.")] = BOARD
) -> None:
    """Make the tables from the records: Markdown and CSV, the same bytes every time."""
    from lt_bench.leaderboard import build

    written = build(records, out)
    print(f"{written[0]}: the board, {len(written)} files from the records in {records}")


@board_app.command("check")
def board_check(
    records: Records = RECORDS, out: Annotated[Path, path_option("--out", help="Folder of the tables.")] = BOARD
) -> None:
    """Tell whether the tables are those that the records give. Exit code 1 if not."""
    from lt_bench.leaderboard.board import check

    differing = check(records, out)
    if differing:
        raise RunError(f"not what the records give: {', '.join(map(str, differing))}; run lt-bench leaderboard build")
    print(f"{out}: up to date")


@board_app.command("diff")
def board_diff(
    before: Annotated[Path, path_argument("Folder of the older records.")],
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
