"""The board: Markdown, CSV and terminal tables as a pure function of the records."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from lt_bench.csv_text import csv_text
from lt_bench.data.groups import FEW_BELOW, MANY_ABOVE
from lt_bench.errors import UserError
from lt_bench.files import TEMPORARY, beginning, in_words, write_together
from lt_bench.leaderboard import foundation, noise
from lt_bench.leaderboard.aggregate import Row, Table, TableKey, places
from lt_bench.leaderboard.full_rows import full_rows
from lt_bench.leaderboard.naming import Shown, shown
from lt_bench.leaderboard.page import page
from lt_bench.leaderboard.probabilities import WHY
from lt_bench.leaderboard.repeating import command, commits, paper
from lt_bench.leaderboard.sources import Board, read_board
from lt_bench.leaderboard.spread import spread
from lt_bench.leaderboard.track import CLEAN, TRACKS, Track, place
from lt_bench.markdown import escape, link, one_line, table_row
from lt_bench.resources import RECORDS, refuse_installed, shipped_board
from lt_bench.terminal import too_narrow

if TYPE_CHECKING:
    from rich.console import Console

Columns = dict[str, Callable[[Row], str]]

INDEX = "README.md"
PAGE = "index.html"
FOLDER = "tables"
MARK = "<!-- Generated from the records by `lt-bench leaderboard build`. Do not edit. -->\n"

ALWAYS = {"Method", "Top-1"}
"""Columns that a terminal shows however narrow it is, with those before them."""
BETTER = (
    noise.BETTER
    | {"ECE": "↓"}
    | dict.fromkeys(("Top-1", "Balanced", "Many", "Medium", "Few", "Worst class", "Best on val"), "↑")
)
"""Which way is better, for the head of a column."""

NOTES = (
    "All but the ranks and n in percent, as means over n seeds; ↑: higher is better, ↓: lower. "
    "± is the half-width of the 95% Student t interval. "
    "A rank range holds every place that the differences allow, taken seed by seed: two rows can be told apart where "
    "the 95% interval of their mean difference over common seeds excludes 0; of many pairs some are so by luck. "
    "A single seed ranks nothing. "
    f"Many, medium, few: mean accuracy of the classes with more than {MANY_ABOVE}, {FEW_BELOW} to {MANY_ABOVE}, "
    f"fewer than {FEW_BELOW} training images. ECE: 15 bins. "
    "Best on test − last is a diagnostic: what choosing among the evaluated epochs on the test set would add. "
    "Network: backbone and head, where they are others than the table's most frequent ones. "
    "A method's name leads to the paper that it is from; `lt-bench cite METHOD` prints BibTeX of all that it is from. "
    "Paper: the published figure, only where it was obtained under this protocol; on CIFAR-LT most papers print "
    "the best epoch on test, these tables the last one. Figure seen: whether it was found at the source named below.\n"
)


WHOSE = "Rows titled (yours) are of your own records, all others are the shipped board's."

REPEAT = (
    "The commits are those of this repository that the runs were made by. Any run is also repeated by its record, "
    "`lt-bench run RECORD.json`, unless what it was made by has been corrected since.\n"
)


def build(records_dir: Path | None, out_dir: Path, rank_external: bool = False) -> list[Path]:
    """Write the tables of all records below `records_dir` and return the files, the index first. See `write`.

    For None they are those in which records of one's own are, with the shipped board's rows to compare with.
    """
    return write(read_board(records_dir, rank_external), out_dir)


def write(board: Board, out_dir: Path) -> list[Path]:
    """Write the board and return the files, the index first.

    The same records give the same bytes. Tables of an earlier build that no record supports are removed.
    Where the files cannot be written the earlier ones stay as they are.

    Raises:
        UserError: Nothing in the board is one's own, or a file cannot or is not to be written.
    """
    refuse_installed("--out", out_dir)
    if board.records is None and out_dir.resolve() == shipped_board().resolve():
        raise UserError(
            f"--out {out_dir}: the official tables, of the official records alone: name those with --records"
        )
    files = _render(board, out_dir)
    for name in (INDEX, PAGE):
        if not _is_ours(_start(out_dir / name) or b""):
            raise UserError(f"{out_dir / name}: was not made by this command, so it is not overwritten")
    if not board.shown and _stale(files, out_dir):
        raise UserError(f"{board.records}: there are no records of runs; the tables in {out_dir / FOLDER} stay")
    differing = {out_dir / name: files[name] for name in _differing(files, out_dir)}
    try:
        (out_dir / FOLDER).mkdir(parents=True, exist_ok=True)
        with FileLock(out_dir / ".lock"):  # or what another process is writing would be taken for what one left
            for left in (*out_dir.glob(TEMPORARY), *(out_dir / FOLDER).glob(TEMPORARY)):
                left.unlink(missing_ok=True)
            # The index last: it names no table that is not there.
            write_together(dict(reversed(differing.items())))
            for name in _stale(files, out_dir):
                (out_dir / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{out_dir}: the board could not be written: {in_words(error)}") from None
    return [out_dir / name for name in files]


def check(records_dir: Path | None, out_dir: Path, rank_external: bool = False) -> list[Path]:
    """The files of `out_dir` that `build` would write otherwise, add or remove."""
    files = _render(read_board(records_dir, rank_external), out_dir)
    return [out_dir / name for name in [*_differing(files, out_dir), *_stale(files, out_dir)]]


def render(records_dir: Path | None, rank_external: bool = False) -> dict[str, bytes]:
    """The whole board: contents by path relative to its root, the index first."""
    return _render(read_board(records_dir, rank_external))


def _render(board: Board, out_dir: Path | None = None) -> dict[str, bytes]:
    if board.records is None and not board.yours:
        raise UserError(
            f"{RECORDS}: no records of yours to make tables of; lt-bench leaderboard show prints the board's"
        )
    found = shown(board.shown, board.tables)
    files = {INDEX: _index(found, board), PAGE: MARK + page(found, board, out_dir)}
    for one in found:
        files[f"{FOLDER}/{one.name}.md"] = _markdown(one)
        files[f"{FOLDER}/{one.name}.csv"] = csv_text(full_rows(one.table))
    return {name: text.encode() for name, text in files.items()}


def print_tables(records_dir: Path | None, console: Console, rank_external: bool = False) -> None:
    """Print the tables to a terminal; where it is narrow, the last columns are left out and named.

    For None they are those in which records of one's own are, or the shipped board's where there are none. Raises
    UserError for a folder without records.
    """
    from rich import box  # noqa: PLC0415 (building the board does not need it)
    from rich import table as rich_table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    board = _board_with_records(records_dir, rank_external)
    for _, title, about, table in shown(board.shown, board.tables):
        caption = Text("\n".join(map(one_line, [about, *_remarks(table), *spread(table)])))
        # Text, not str: a name in square brackets must not be read as markup.
        view = rich_table.Table(title=Text(one_line(title)), caption=caption, box=box.SIMPLE_HEAD)
        every = _columns(table)
        columns = _that_fit(every, table, console.width)
        for column in columns:
            view.add_column(_head(column), justify="left" if column == "Method" else "right", overflow="fold")
        for row in table.rows:
            view.add_row(*(Text(one_line(cell(row))) for cell in columns.values()))
        console.print(view)
        if left_out := [_head(column) for column in every if column not in columns]:
            console.print(
                Text(f"{too_narrow(left_out, console.width)}; lt-bench leaderboard build writes all as CSV.\n")
            )
    if board.others:
        console.print(Text(board.others))


def plain_tables(records_dir: Path | None, rank_external: bool = False) -> list[dict[str, Any]]:
    """The same tables as plain data: name, title, what the numbers are of, remarks, and rows as in CSV files."""
    board = _board_with_records(records_dir, rank_external)
    return [
        {"table": name, "title": title, "about": about}
        | {"remarks": [*_remarks(table), *spread(table)], "rows": full_rows(table)}
        for name, title, about, table in shown(board.shown, board.tables)
    ]


def _board_with_records(records_dir: Path | None, rank_external: bool) -> Board:
    board = read_board(records_dir, rank_external)
    if not board.shown:
        raise UserError(f"{records_dir}: there are no records of runs; lt-bench run makes them")
    return board


def _columns(table: Table) -> Columns:
    """Title and cell of each column that has something to show."""

    def score(name: str) -> Callable[[Row], str]:
        return lambda row: _number(row.means.get(name))

    gap = {"Best on test − last": score("gap")}
    # Where labels are wrong, what the choice of the epoch hides leads.
    first = {} if table.key.condition.track == CLEAN else gap

    known = Counter(filter(None, (row.newest.evidence.network for row in table.rows)))
    usual = max(known, key=lambda network: known[network], default="")

    def network(row: Row) -> str:
        found = row.newest.evidence.network
        return "" if found == usual else found or "unknown"

    columns: Columns = {
        "Rank": lambda row: places(row.rank),
        "Method": lambda row: row.method,
        "n": lambda row: str(row.n),
        "Top-1": lambda row: _number(row.top1) + ("" if row.interval is None else f" ± {row.interval:.2f}"),
        **first,
        "Balanced": lambda row: "" if _is_balanced(row) else _number(row.means["balanced"]),
        "Many": score("many"),
        "Medium": score("medium"),
        "Few": score("few"),
        "Worst class": score("worst_class"),
        "ECE": score("ece"),
        "Best on val": score("best_on_val"),
        **gap,
        "Network": network,
        **{title: score(name) for title, name in noise.SHOWN.items()},
        **(foundation.columns() if table.key.condition.track == "foundation" else {}),
        "Paper": lambda row: _number(row.paper_top1),
        "Difference": lambda row: "" if row.difference is None else f"{row.difference:+.2f}",
        "Figure seen": lambda row: {None: "", True: "yes", False: "no"}[row.verified],
    }
    return {title: cell for title, cell in columns.items() if any(cell(row) for row in table.rows)}


def _head(title: str) -> str:
    return f"{title} {BETTER[title]}" if title in BETTER else title


def _that_fit(columns: Columns, table: Table, width: int) -> Columns:
    """The first columns, each with a margin of three, whose longest cells fit into `width` characters."""
    fitting: Columns = {}
    for title, cell in columns.items():
        width -= 3 + max(len(_head(title)), *(len(cell(row)) for row in table.rows))
        if width < 0 and fitting.keys() >= ALWAYS:
            break
        fitting[title] = cell
    return fitting


def _markdown(one: Shown) -> str:
    table, columns = one.table, _columns(one.table)
    lines = [MARK, f"# {escape(one.title)}\n", f"{escape(one.about)}\n"]
    lines += [f"{WHOSE}\n"] if any(row.yours for row in table.rows) else []
    lines.append(table_row([_head(title) for title in columns]))
    lines.append(table_row([":--" if title == "Method" else "--:" for title in columns]))
    lines += [table_row([_in_markdown(title, cell, row) for title, cell in columns.items()]) for row in table.rows]
    columns_of_track = TRACKS[place(table.key.condition.track)].columns
    lines += ["", NOTES, *([f"{columns_of_track}\n"] if columns_of_track else [])]
    lines += [f"- {escape(line)}" for line in _remarks(table)]
    lines += [f"- {escape(row.method)}: {escape(row.paper)}" for row in table.rows if row.paper]
    lines += ["", "## To repeat a row\n", REPEAT, *(_repeat(row, table.key) for row in table.rows)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _in_markdown(title: str, cell: Callable[[Row], str], row: Row) -> str:
    """A cell; the method's name leads to its paper where one is known."""
    found = paper(row) if title == "Method" else None
    return link(cell(row), found.link) if found is not None and found.link else escape(cell(row))


def _repeat(row: Row, key: TableKey) -> str:
    asked = command(row, key)
    made_by = ", ".join(commit[:12] for commit in commits(row))
    how = f"`{one_line(asked)}`" if asked and "`" not in asked else "its records"
    return f"- {escape(row.method)}: {how}" + (f"; made by {made_by}" if made_by else "")


def _remarks(table: Table) -> list[str]:
    """What must be known of single rows, a line each."""
    return [*_superseded(table), *_external(table), *_beside(table), *_without_ece(table)]


def _superseded(table: Table) -> list[str]:
    """A line for each row that does not count."""
    return [f"{row.method}: not ranked. {row.superseded}." for row in table.rows if row.superseded]


def _external(table: Table) -> list[str]:
    """A line for each row of another program."""
    return [
        f"{row.method}: trained elsewhere{f' ({row.external.source})' if row.external.source else ''}; of its training "
        f"only the predictions are known, and that it kept to the protocol is said by {row.external.by}"
        + ("." if row.rank else "; not ranked.")
        for row in table.rows
        if row.external
    ]


def _beside(table: Table) -> list[str]:
    """A line for the rows in whose processes more was loaded than their recipes say."""
    methods = ", ".join(row.method for row in table.rows if any(run.beside for run in row.runs.values()))
    return (
        [f"Plug-ins were loaded beside what the recipe names, and may have changed it: {methods}."] if methods else []
    )


def _without_ece(table: Table) -> list[str]:
    """A line for the rows whose calibration error would mean nothing."""
    methods = ", ".join(row.method for row in table.rows if row.means["ece"] is None and not row.external)
    return [f"No ECE of {methods}: {WHY}."] if methods else []


def _index(found: list[Shown], board: Board) -> str:
    lines = [MARK, "# Leaderboard\n"]
    if not found:
        return "\n".join([*lines, "There are no records yet.\n"])
    lines.append("Tables of different data sets, factors or protocols are never to be compared.\n")
    # Not a link: the site, and the repository's web view, show this file or its source under that address.
    lines.append(f"`{PAGE}`, opened in a browser, has them all, with search, filters, and what stands behind a row.\n")
    if board.yours:
        lines += [f"{WHOSE}\n", *([f"{board.others}\n"] if board.others else [])]
    tracks = [(track, [one for one in found if one.table.key.condition.track == track.name]) for track in TRACKS]
    return "\n".join([*lines, "\n\n".join(_part(track, its_own) for track, its_own in tracks if its_own)]) + "\n"


def _part(track: Track, found: list[Shown]) -> str:
    """The tables of a track below its heading; the clean one, which comes first, needs none."""
    heading = "" if track.name == CLEAN else f"## {track.title}\n\n{track.about}\n\n"
    return heading + "\n".join(_links(found))


def _links(found: list[Shown]) -> list[str]:
    """A list of tables that leads to their pages, as lines."""
    rows = [["Table", "Methods", "Runs", "CSV"], [":--", "--:", "--:", ":--"]]
    for name, title, _, table in found:
        runs = sum(row.n for row in table.rows)
        link, data = f"[{escape(title)}]({FOLDER}/{name}.md)", f"[CSV]({FOLDER}/{name}.csv)"
        rows.append([link, str(len(table.rows)), str(runs), data])
    return [table_row(row) for row in rows]


def _is_balanced(row: Row) -> bool:
    """Whether balanced accuracy repeats top-1, as on every balanced test set."""
    return math.isclose(row.means["balanced"] or 0.0, row.top1)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _differing(files: dict[str, bytes], out_dir: Path) -> list[str]:
    return [name for name, data in files.items() if beginning(out_dir / name, len(data) + 1) != data]


def _stale(files: dict[str, bytes], out_dir: Path) -> list[str]:
    """Tables below `out_dir` that carry our mark, and their CSV, but are not among `files`."""
    stale = []
    for text in sorted((out_dir / FOLDER).glob("*.md")):
        data = _start(text)
        if f"{FOLDER}/{text.name}" not in files and data and _is_ours(data):
            table = text.with_suffix(".csv")
            stale += [f"{FOLDER}/{path.name}" for path in (text, table) if path.is_file()]
    return stale


def _is_ours(data: bytes) -> bool:
    """Whether a page carries our mark, or all that is left of it is a part of the mark."""
    return data.startswith(MARK.encode()) or MARK.encode().startswith(data)


def _start(path: Path) -> bytes | None:
    return beginning(path, len(MARK.encode()))
